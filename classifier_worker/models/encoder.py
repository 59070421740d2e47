"""The towers at work: prepared pages to evidence and names to vectors, in the batches that core/batching plans.

Owns how tensors reach the device and come back, autocast and warm-up. One thread calls everything but
`prepare`, which may run in any.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from classifier_worker.core.batching import Batch, Shapes, plan_images, plan_texts
from classifier_worker.core.page import Page
from classifier_worker.models.bundle import Bundle
from classifier_worker.models.evidence import Evidence, Sight, see
from classifier_worker.models.look import Prepared

#: Category names are short; longer ones are cut here.
_NAME_TOKENS: Final = 64
#: Names whose vectors an image-text tower computes together.
_LOOK_NAMES: Final = 32


class EngineObserver(Protocol):
    """Who wants to know what the engine and its towers do; called on the engine's thread."""

    def on_batch(self, kind: str, size: int, capacity: int, seconds: float) -> None:
        """Hear of a batch of `size` parts in `capacity` rows; `kind` is look, text or names."""
        ...

    def on_page(self, stage: str, seconds: float, *, ago: float = 0.0) -> None:
        """Hear what a page spent in a stage, prepare, batch_wait or model, which ended `ago` seconds ago.

        Called in the context of whoever submitted the page; prepare on the thread that prepares.
        """
        ...

    def on_turn(self, seconds: float, *, is_busy: bool) -> None:
        """Hear that the engine's thread worked, or waited for a page, for so long; a long wait is told in parts."""
        ...


class Nobody:
    """The observer that listens to nothing."""

    def on_batch(self, kind: str, size: int, capacity: int, seconds: float) -> None:
        """Do nothing."""

    def on_page(self, stage: str, seconds: float, *, ago: float = 0.0) -> None:
        """Do nothing."""

    def on_turn(self, seconds: float, *, is_busy: bool) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSettings:
    """How the towers run; the defaults are for a CPU."""

    is_compiled: bool = False  #: torch.compile for the static shapes
    compile_backend: str = "inductor"
    is_bf16: bool = False  #: bfloat16 autocast
    shapes: Shapes = field(default_factory=Shapes)


@dataclass(frozen=True, slots=True)
class PreparedPage:
    """A page that waits for the towers: its sight, the tokens of its pieces, its image as the look tower takes it."""

    sight: Sight
    tokens: list[list[int]]
    image: Prepared


class Encoder:
    """A bundle's towers on their device."""

    def __init__(self, bundle: Bundle, settings: EncoderSettings, observer: EngineObserver) -> None:
        self._bundle = bundle
        self._settings = settings
        self._observer = observer
        self._device = bundle.text.device.type

    def warm_up(self) -> None:
        """Compile where asked for, and run every static shape once (uncompiled on a CPU: every length once)."""
        shapes, settings = self._settings.shapes, self._settings
        text_rows = shapes.text_rows if settings.is_compiled or self._device == "cuda" else shapes.text_rows[:1]
        if settings.is_compiled:
            # beyond its limit (8 by default) torch.compile would run further shapes uncompiled, without a word. A shape
            # is several graphs: attention is masked where a row is not full, and blocks attend in one of two ways
            graphs = 4 * (len(text_rows) * len(shapes.text_tokens) + len(shapes.image_rows))
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, graphs)
            torch._dynamo.config.capture_scalar_outputs = True  # NaFlex checks its shapes amid the graph
            self._bundle.text.compile(settings.compile_backend)
            self._bundle.look.compile(settings.compile_backend)
        with torch.inference_mode(), self._autocast():
            for rows in shapes.image_rows:
                for blank in self._bundle.look.blanks():
                    self._bundle.look.encode([blank] * rows, rows=rows)
            for tokens in shapes.text_tokens:
                for rows in text_rows:
                    for length in (tokens, tokens - 1):
                        batch = Batch(tuple(range(rows)), rows, tokens)
                        self._bundle.text.encode([[0] * length] * rows, batch)

    def prepare(self, page: Page) -> PreparedPage:
        """Return what the towers need of `page`; pure CPU work, safe in any thread."""
        sight = see(page, self._bundle.cues, cue_idf=self._bundle.fitted.get("cue_idf"))
        prefix = self._bundle.config.text.page_prefix
        tokens: list[list[int]] = []
        for text, most_tokens in sight.pieces.texts:
            tokens += self._bundle.text.tokenise([prefix + text], most_tokens=most_tokens)
        return PreparedPage(sight, tokens, self._bundle.look.prepare(page.image))

    def evidence(self, pages: Sequence[PreparedPage]) -> list[Evidence]:
        """Return each page's evidence; their parts share batches."""
        with torch.inference_mode():
            looks = self._encode_images([page.image for page in pages])
            texts = self._encode_tokens([part for page in pages for part in page.tokens], "text")
        found, start = [], 0
        for page, look in zip(pages, looks, strict=True):
            end = start + len(page.tokens)
            found.append(Evidence(page.sight, texts[start:end], look))
            start = end
        return found

    def encode_names(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors (names, D) of category names or cues."""
        prefix = self._bundle.config.text.query_prefix
        tokens = self._bundle.text.tokenise([prefix + name for name in names], most_tokens=_NAME_TOKENS)
        with torch.inference_mode():
            return self._encode_tokens(tokens, "names")

    def encode_look_names(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors (names, D') of names in the space of an image-text tower."""
        with torch.inference_mode():
            parts = [
                self._bundle.look.encode_names(names[at : at + _LOOK_NAMES]) for at in range(0, len(names), _LOOK_NAMES)
            ]
        return np.asarray(torch.cat(parts).float().cpu().numpy(), dtype=np.float32)

    def _encode_images(self, images: Sequence[Prepared]) -> NDArray[np.float32]:
        parts = []
        for batch in plan_images(len(images), self._settings.shapes):
            began = time.perf_counter()
            with self._autocast():
                parts.append(self._bundle.look.encode([images[i] for i in batch.indices], rows=batch.rows))
            self._tell("look", batch, began)
        return np.asarray(torch.cat(parts).float().cpu().numpy(), dtype=np.float32)

    def _encode_tokens(self, tokens: Sequence[Sequence[int]], kind: str) -> NDArray[np.float32]:
        vectors = np.zeros((len(tokens), self._bundle.text.width), dtype=np.float32)
        done: list[tuple[Batch, torch.Tensor]] = []
        for batch in plan_texts([len(part) for part in tokens], self._settings.shapes):
            began = time.perf_counter()
            with self._autocast():
                done.append((batch, self._bundle.text.encode(tokens, batch)))
            self._tell(kind, batch, began)
        for batch, encoded in done:  # fetched last, so that the device never waits for a copy
            vectors[list(batch.indices)] = encoded.float().cpu().numpy()
        return vectors

    def _autocast(self) -> AbstractContextManager[object]:
        if self._settings.is_bf16:
            return torch.autocast(self._device, dtype=torch.bfloat16)
        return nullcontext()

    def _tell(self, kind: str, batch: Batch, began: float) -> None:
        self._observer.on_batch(kind, len(batch.indices), batch.rows, time.perf_counter() - began)
