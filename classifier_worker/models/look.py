"""The look tower: page images to vectors, through timm or transformers, from whatever place names the weights.

Two kinds. A timm backbone gives pooled features, which the bundle's fitted head maps into the space of
the category vectors. A transformers image-text model (CLIP, SigLIP) brings its own vectors for category
names, and its score is their cosine with the image. Both keep a page's proportions where the model can:
timm by a white margin, SigLIP 2 NaFlex by as many patches as the page is high and wide (arXiv 2502.14786).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from classifier_worker.models.compiling import compile_blocks
from classifier_worker.models.weights import InvalidBundle, locate_weights

#: One page image made ready for the tower, by the model's argument names, without the batch dimension.
Prepared = dict[str, torch.Tensor]
_WHITE: Final = np.full((64, 64, 3), 255, dtype=np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class LookTowerConfig:
    """The `look` tower as bundle.json names it; transformers knows its own sizes, mean and std."""

    library: Literal["timm", "transformers"]
    weights: str
    architecture: str = ""
    height_px: int = 320
    width_px: int = 256
    mean: tuple[float, ...] | None = None  #: None: as the weights were trained
    std: tuple[float, ...] | None = None
    max_num_patches: int | None = None  #: of a NaFlex tower: its budget for a page; None: the model's own


class LookTower(Protocol):
    """An encoder of page images on one device."""

    has_names: bool  #: whether it brings its own vectors for category names

    def prepare(self, image: NDArray[np.uint8]) -> Prepared:
        """Return the image in the tower's input form, on the CPU; safe in any thread."""
        ...

    def blanks(self) -> list[Prepared]:
        """Return prepared images that take every way through the tower's code between them, for its warm-up."""
        ...

    def encode(self, images: Sequence[Prepared], *, rows: int) -> torch.Tensor:
        """Return vectors (images, D), float32, on the device; the batch is padded to `rows`."""
        ...

    def encode_names(self, names: Sequence[str]) -> torch.Tensor:
        """Return unit vectors (names, D) in the space of the images, of a tower that has names."""
        ...

    def compile(self, backend: str) -> None:
        """Compile the blocks of the encoder of images, or else all of it, for its static shapes by that backend."""
        ...


def load_look_tower(config: LookTowerConfig, *, folder: Path, device: torch.device) -> LookTower:
    """Return the tower that `config` names, its weights on `device`."""
    return (_TimmTower if config.library == "timm" else _ImageTextTower)(config, folder=folder, device=device)


def _stack(images: Sequence[Prepared], rows: int, device: torch.device) -> Prepared:
    """Return the images as one batch of `rows` rows on the device, the last image repeated as padding."""
    padded = [*images, *[images[-1]] * (rows - len(images))]
    batch = {name: torch.stack([image[name] for image in padded]) for name in images[0]}
    if device.type == "cuda":
        return {name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in batch.items()}
    return batch


class _TimmTower:
    has_names = False

    def __init__(self, config: LookTowerConfig, *, folder: Path, device: torch.device) -> None:
        self._config = config
        self._device = device
        location = locate_weights(config.weights, folder=folder)
        if isinstance(location, Path) and location.is_file():
            model: Any = timm.create_model(config.architecture, pretrained=False)
            _load_in_order(model, location)
        else:
            source = "local-dir" if isinstance(location, Path) else "hf-hub"
            model = timm.create_model(config.architecture or f"{source}:{location}", pretrained=True)
        if hasattr(model, "set_input_size"):  # transformers that fit their position embeddings to one size
            model.set_input_size((config.height_px, config.width_px))
        self._model: Any = model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
        self._pooled = self._pool
        trained = model.pretrained_cfg
        self._mean, self._std = (
            torch.tensor(told or trained[name], device=device).view(1, 3, 1, 1) * 255
            for name, told in (("mean", config.mean), ("std", config.std))
        )

    def compile(self, backend: str) -> None:
        if not compile_blocks(self._model, backend):
            self._pooled = torch.compile(self._pool, dynamic=False, backend=backend)

    def prepare(self, image: NDArray[np.uint8]) -> Prepared:
        height, width = self._config.height_px, self._config.width_px
        scale = min(height / image.shape[0], width / image.shape[1])
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        page = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
        canvas = np.full((height, width, 3), 255, dtype=np.uint8)
        top, left = (height - size[1]) // 2, (width - size[0]) // 2
        canvas[top : top + size[1], left : left + size[0]] = np.asarray(page)
        return {"pixel_values": torch.from_numpy(canvas).permute(2, 0, 1).contiguous()}

    def blanks(self) -> list[Prepared]:
        return [self.prepare(_WHITE)]

    def encode(self, images: Sequence[Prepared], *, rows: int) -> torch.Tensor:
        pixels = _stack(images, rows, self._device)["pixel_values"].float()
        pixels = ((pixels - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        return self._pooled(pixels).float()[: len(images)]

    def _pool(self, pixels: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self._model.forward_head(self._model.forward_features(pixels), pre_logits=True)
        return pooled

    def encode_names(self, names: Sequence[str]) -> torch.Tensor:  # noqa: ARG002  # the protocol's
        raise InvalidBundle(f"the look tower {self._config.weights!r} has no vectors for category names")


def _load_in_order(model: torch.nn.Module, path: Path) -> None:
    """Load a state dict by names or, when they differ, by order: ports of one network keep its order of layers."""
    state = (
        load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    )
    wanted = model.state_dict()
    if state.keys() != wanted.keys():
        shapes = [tuple(tensor.shape) for tensor in state.values()]
        if shapes != [tuple(tensor.shape) for tensor in wanted.values()]:
            raise InvalidBundle(f"the weights in {path.name!r} do not fit the architecture: their shapes differ")
        state = dict(zip(wanted, state.values(), strict=True))
    model.load_state_dict(state)


class _ImageTextTower:
    has_names = True

    def __init__(self, config: LookTowerConfig, *, folder: Path, device: torch.device) -> None:
        location = str(locate_weights(config.weights, folder=folder))
        self._device = device
        load_processor: Any = AutoImageProcessor.from_pretrained
        self._processor: Any = load_processor(location)
        self._options: dict[str, Any] = {}
        if config.max_num_patches is not None:
            if not hasattr(self._processor, "max_num_patches"):
                raise InvalidBundle(f"the look tower {config.weights!r} is not NaFlex: it takes no max_num_patches")
            self._options["max_num_patches"] = config.max_num_patches
        self._tokenizer: Any = AutoTokenizer.from_pretrained(location)
        self._model: Any = AutoModel.from_pretrained(location, dtype=torch.float32)
        self._model = self._model.eval().requires_grad_(False).to(device)
        self._features: Any = self._model.get_image_features
        self._most_tokens = int(self._model.config.text_config.max_position_embeddings)
        # SigLIP was trained on texts that are padded to its full length on the right, and saw the padding
        is_siglip = str(self._model.config.model_type).startswith("siglip")
        self._unused = {"token_type_ids", "attention_mask"} if is_siglip else {"token_type_ids"}

    def compile(self, backend: str) -> None:
        vision = getattr(self._model, "vision_model", None)
        if vision is None or not compile_blocks(vision, backend):
            self._features = torch.compile(self._model.get_image_features, dynamic=False, backend=backend)

    def prepare(self, image: NDArray[np.uint8]) -> Prepared:
        inputs = self._processor(images=[Image.fromarray(image)], return_tensors="pt", **self._options)
        return {name: tensor[0] for name, tensor in inputs.items()}

    def blanks(self) -> list[Prepared]:
        blank = self.prepare(_WHITE)
        mask = blank.get("pixel_attention_mask")
        if mask is None:
            return [blank]
        # a batch in which every patch is of an image is masked otherwise than one with patches that fill up
        full, filled_up = torch.ones_like(mask), torch.ones_like(mask)
        filled_up[-1] = 0
        return [blank | {"pixel_attention_mask": one} for one in (full, filled_up)]

    def encode(self, images: Sequence[Prepared], *, rows: int) -> torch.Tensor:
        output = self._features(**_stack(images, rows, self._device))
        return _unit(output)[: len(images)]

    def encode_names(self, names: Sequence[str]) -> torch.Tensor:
        texts = [f"a scanned page of a {name.lower()}" for name in names]
        inputs = self._tokenizer(
            texts,
            padding="max_length",
            padding_side="right",
            truncation=True,
            max_length=self._most_tokens,
            return_tensors="pt",
        )
        wanted = {name: tensor.to(self._device) for name, tensor in inputs.items() if name not in self._unused}
        return _unit(self._model.get_text_features(**wanted))


def _unit(output: Any) -> torch.Tensor:
    # transformers 5 answers with an output object, 4 answered with the tensor itself
    tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return torch.nn.functional.normalize(tensor.float(), dim=-1)
