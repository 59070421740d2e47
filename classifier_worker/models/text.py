"""The text tower: texts to unit vectors, by any encoder that transformers can load.

Owns tokenising, pooling and padding to the static shapes. float32 weights; the encoder decides about autocast.
Padding is on the right for every architecture: rows are masked, and pooling finds the last token by the mask,
so that a causal model, which cannot look ahead, is not changed by what follows it.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from classifier_worker.core.batching import Batch
from classifier_worker.models.compiling import compile_blocks
from classifier_worker.models.weights import locate_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTowerConfig:
    """The `text` tower as bundle.json names it."""

    library: Literal["transformers"]
    weights: str
    pooling: Literal["mean", "cls", "last"] = "mean"
    query_prefix: str = ""  #: before category names and cues
    page_prefix: str = ""  #: before the text of pages


class TextTower:
    """An encoder of texts on one device; used by one thread for `encode`, by any for `tokenise`."""

    def __init__(self, config: TextTowerConfig, *, folder: Path, device: torch.device) -> None:
        location = locate_weights(config.weights, folder=folder)
        self.config = config
        self.device = device
        self._tokenizer: Any = AutoTokenizer.from_pretrained(str(location))
        self._tokenizing = threading.Lock()  #: a tokeniser keeps the length that it cuts to as its own state
        model: Any = AutoModel.from_pretrained(str(location), dtype=torch.float32)
        self._model: Any = getattr(model, "text_model", model).eval().requires_grad_(False).to(device)
        self._model.config.use_cache = False  # a causal model would keep its keys and values for a next token
        self._padding = int(self._tokenizer.pad_token_id or 0)
        self.width = int(self._model.config.hidden_size)

    def compile(self, backend: str) -> None:
        """Compile the encoder's blocks, or else all of it, for its static shapes by a backend of torch.compile."""
        if not compile_blocks(self._model, backend):
            self._model = torch.compile(self._model, dynamic=False, backend=backend)

    def tokenise(self, texts: Sequence[str], *, most_tokens: int) -> list[list[int]]:
        """Return each text's token ids, cut to `most_tokens`, special tokens included."""
        if not texts:
            return []
        # the text is cut first: a tokeniser reads a megabyte of page text to its end before it truncates
        cut = [text[: most_tokens * 12] for text in texts]
        with self._tokenizing:
            encoded = self._tokenizer(cut, truncation=True, max_length=most_tokens, add_special_tokens=True)
        return [list(ids) for ids in encoded["input_ids"]]

    def encode(self, tokens: Sequence[Sequence[int]], batch: Batch) -> torch.Tensor:
        """Return unit vectors (parts, width) of the parts of `tokens` that `batch` names, on the device."""
        ids = np.full((batch.rows, batch.tokens), self._padding, dtype=np.int64)
        mask = np.zeros((batch.rows, batch.tokens), dtype=np.int64)
        mask[:, 0] = 1  # a padding row must not be all masked: its softmax would be NaN
        for row, index in enumerate(batch.indices):
            part = tokens[index][: batch.tokens]
            ids[row, : len(part)] = part
            mask[row, : len(part)] = 1
        hidden = self._forward(self._to_device(ids), attention := self._to_device(mask))
        vectors = self._pool(hidden.float(), attention)
        return torch.nn.functional.normalize(vectors, dim=-1)[: len(batch.indices)]

    def _to_device(self, array: NDArray[np.int64]) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor

    def _forward(self, ids: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self._model(input_ids=ids, attention_mask=attention).last_hidden_state
        return output

    def _pool(self, hidden: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        if self.config.pooling == "cls":
            return hidden[:, 0]
        if self.config.pooling == "last":
            last = attention.sum(dim=1) - 1
            return hidden[torch.arange(len(hidden), device=hidden.device), last]
        weights = attention.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1)
