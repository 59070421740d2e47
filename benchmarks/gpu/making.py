"""A bundle with the production bundle's architectures at their real sizes and random weights, and pages to ask about.

No hub is needed: sizes are those that the hub's config.json files tell (Qwen/Qwen3-Embedding-0.6B and
google/siglip2-so400m-patch16-naflex), weights are drawn, and the tokenizers are trained on the lexicon, so that names
and pages are about as many tokens as with the real ones. Times and memory are the real ones; answers mean nothing.
"""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
)

from classifier_worker import models as worker_models
from classifier_worker.core.page import Box, Line, Page
from tests import documents

BUNDLES: Final = Path(worker_models.__file__).parents[1] / "bundles"
LEXICON: Final = BUNDLES / "default" / "lexicon"
_SPECIAL: Final = ("<pad>", "<eos>", "<unk>")

_QWEN3: Final[dict[str, Any]] = {
    "vocab_size": 151_669,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 32_768,
    "tie_word_embeddings": True,
}
_SO400M: Final[dict[str, Any]] = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
}
_SIGLIP_TEXT: Final[dict[str, Any]] = {"vocab_size": 256_000, "max_position_embeddings": 64, "projection_size": 1152}
_SIGLIP_VISION: Final[dict[str, Any]] = {"patch_size": 16, "num_patches": 256}
#: What `tiny` makes of them: the same code in a hundredth of a second.
_TINY: Final[dict[str, Any]] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_FEW: Final = "invoice:\n  also: bill\n  cues: amount due\nletter:\n  cues: dear; yours sincerely\n"
_TINY_QWEN3: Final = _TINY | {"vocab_size": 8192, "num_key_value_heads": 2, "head_dim": 16}
_TINY_SIGLIP_TEXT: Final = {"vocab_size": 8192, "projection_size": 64}


def make_bundle(folder: Path, *, device: str, is_tiny: bool) -> Path:
    """Write the bundle to `folder`, its weights drawn on `device`; return the folder.

    Weights are stored as their publishers do: the text tower in bfloat16, the look tower in float32.
    """
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    sizes = _QWEN3 | (_TINY_QWEN3 if is_tiny else {})
    text_config = Qwen3Config(**sizes, **ids)
    both = _SO400M | (_TINY if is_tiny else {})
    look_config = Siglip2Config(
        text_config=both | _SIGLIP_TEXT | ids | (_TINY_SIGLIP_TEXT if is_tiny else {}),
        vision_config=both | _SIGLIP_VISION,
    )
    with torch.device(device):
        text, look = Qwen3Model(text_config), Siglip2Model(look_config)
    text.bfloat16().save_pretrained(folder / "text")
    look.save_pretrained(folder / "look")
    for name in ("text", "look"):
        tokenizer.save_pretrained(folder / name)
    patches = 64 if is_tiny else 576
    Siglip2ImageProcessor(patch_size=16, max_num_patches=patches).save_pretrained(folder / "look")
    told = json.loads((BUNDLES / "production" / "bundle.json").read_text(encoding="utf-8"))
    towers = told["towers"]
    towers["text"]["weights"], towers["look"]["weights"] = "text", "look"
    towers["look"]["max_num_patches"] = patches
    lexicon = LEXICON
    if is_tiny:
        lexicon = folder / "lexicon"
        lexicon.mkdir()
        (lexicon / "few.yaml").write_text(_FEW)
    (folder / "bundle.json").write_text(json.dumps(told | {"name": "random", "lexicon": str(lexicon)}))
    return folder


def _tokenizer() -> Any:
    inside = Tokenizer(models.BPE(unk_token="<unk>"))
    inside.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inside.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8000,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inside.train_from_iterator((path.read_text(encoding="utf-8") for path in sorted(LEXICON.glob("*.yaml"))), trainer)
    inside.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", inside.token_to_id("<eos>"))]
    )
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=inside, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def make_pages(count: int) -> list[Page]:
    """Return different A4 pages of about 50 lines each, as a reader hands them over."""
    telling = " ".join(path.read_text(encoding="utf-8") for path in sorted(LEXICON.glob("*.yaml"))).split()
    words = [*telling, *documents.LOREM.split() * (5 * len(telling) // len(documents.LOREM.split()))]
    return [_page(np.random.default_rng(number), words) for number in range(count)]


def _page(draw: np.random.Generator, words: list[str]) -> Page:
    lines = []
    for row in range(50):
        text = " ".join(words[int(at)] for at in draw.integers(len(words), size=9))
        top = 0.05 + row * 0.018
        lines.append(Line(text, Box(0.1, top, 0.9, top + 0.014), 0.024 if row == 0 else 0.012, is_bold=row == 0))
    return Page(
        number=1,
        width_points=595,
        height_points=842,
        text="\n".join(line.text for line in lines),
        text_source="layer",
        lines=tuple(lines),
        structure=None,
        image=_picture(draw, 512, 362),
    )


def _picture(draw: np.random.Generator, height_px: int, width_px: int) -> NDArray[np.uint8]:
    image = np.full((height_px, width_px, 3), 255, dtype=np.uint8)
    for _ in range(40):
        top, left = int(draw.integers(height_px)), int(draw.integers(width_px))
        image[top : top + 10, left : left + 120] = draw.integers(200, size=3)
    return image
