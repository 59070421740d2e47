"""Tiny random models of the architectures that a production bundle names, in the hub's format: what the hub gives.

No network: tokenizers are built of bytes. Weights are drawn wide, so that different pages get different vectors.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import timm
import torch
from timm.models import save_for_hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    ModernBertConfig,
    ModernBertModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

LEXICON: Final = """
invoice:
  also: bill; Rechnung
  cues: invoice number; amount due; bill to
  traits: tabular; money
letter:
  cues: dear; yours sincerely
  traits: prose
menu:
  cues: starters; main courses; desserts
"""
_BYTES: Final = sorted(pre_tokenizers.ByteLevel.alphabet())
_SPECIAL: Final = ("<pad>", "<eos>", "<cls>", "<unk>")
_WORDS: Final = len(_BYTES) + len(_SPECIAL)
_PAD, _EOS, _CLS, _UNK = range(len(_BYTES), _WORDS)


def tokenizer(template: str, **settings: Any) -> PreTrainedTokenizerFast:
    """Return a tokenizer of bytes that frames texts by the `template`, such as `$A <eos>`."""
    vocabulary = {token: number for number, token in enumerate([*_BYTES, *_SPECIAL])}
    inside = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inside.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inside.decoder = decoders.ByteLevel()
    inside.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(token, vocabulary[token]) for token in _SPECIAL]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inside,
        pad_token="<pad>",
        eos_token="<eos>",
        cls_token="<cls>",
        unk_token="<unk>",
        **settings,
    )


def modernbert(folder: Path) -> None:
    """As Alibaba-NLP/gte-modernbert-base, with a window of attention that is shorter than a page's text."""
    config = ModernBertConfig(
        vocab_size=_WORDS,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        global_attn_every_n_layers=2,
        local_attention=16,
        pad_token_id=_PAD,
        bos_token_id=_CLS,
        eos_token_id=_EOS,
        cls_token_id=_CLS,
        sep_token_id=_EOS,
        reference_compile=False,
    )
    _save(ModernBertModel(config), folder)
    tokenizer("<cls> $A <eos>").save_pretrained(folder)


def qwen3(folder: Path) -> None:
    """As Qwen/Qwen3-Embedding-0.6B: causal, its tokenizer ends each text and pads on the left."""
    config = Qwen3Config(
        vocab_size=_WORDS,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        pad_token_id=_PAD,
        eos_token_id=_EOS,
    )
    _save(Qwen3Model(config), folder)
    tokenizer("$A <eos>", padding_side="left").save_pretrained(folder)
    told = folder / "tokenizer_config.json"
    told.write_text(json.dumps(json.loads(told.read_text()) | {"tokenizer_class": "Qwen2Tokenizer"}))


def siglip2_naflex(folder: Path) -> None:
    """As google/siglip2-so400m-patch16-naflex: a page is as many patches as it is high and wide."""
    text, vision = _siglip_sides()
    _save(Siglip2Model(Siglip2Config(text_config=text, vision_config=vision | {"num_patches": 64})), folder)
    Siglip2ImageProcessor(patch_size=16, max_num_patches=64).save_pretrained(folder)
    tokenizer("$A <eos>", padding_side="right").save_pretrained(folder)


def siglip(folder: Path) -> None:
    """As google/siglip2-base-patch16-512, which is of the first SigLIP's architecture: one square size."""
    text, vision = _siglip_sides()
    _save(SiglipModel(SiglipConfig(text_config=text, vision_config=vision | {"image_size": 64})), folder)
    SiglipImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    tokenizer("$A <eos>", padding_side="right").save_pretrained(folder)


def _siglip_sides() -> tuple[dict[str, Any], dict[str, Any]]:
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"pad_token_id": _PAD, "bos_token_id": _CLS, "eos_token_id": _EOS}
    text = size | ids | {"vocab_size": _WORDS, "max_position_embeddings": 64, "projection_size": 32}
    return text, size | {"patch_size": 16}


def timm_backbone(architecture: str, **arguments: Any) -> Callable[[Path], None]:
    """Return what saves a timm backbone of that architecture, with the arguments that make it tiny."""

    def save(folder: Path) -> None:
        torch.manual_seed(0)
        model = timm.create_model(architecture, pretrained=False, num_classes=0, **arguments)
        save_for_hf(model, str(folder), safe_serialization=True)

    return save


def bundle(folder: Path, *, text: dict[str, Any], look: dict[str, Any]) -> Path:
    """Write an unfitted bundle with the towers as bundle.json names them, and return its folder."""
    (folder / "lexicon").mkdir(parents=True)
    (folder / "lexicon" / "few.yaml").write_text(LEXICON)
    told = {
        "name": "tiny",
        "version": "1",
        "towers": {"text": {"library": "transformers"} | text, "look": look},
        "lexicon": "lexicon",
        "temperature": 1.0,
        "channels": {"body": 9.0, "title": 4.5, "cues": 0.7, "name": 3.5, "structure": 0.2, "look": 20.0},
        "first_page_weight": 0.7,
    }
    (folder / "bundle.json").write_text(json.dumps(told))
    return folder


def _save(model: Any, folder: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.normal_(0.0, 0.15, generator=draw)
    model.save_pretrained(folder)
