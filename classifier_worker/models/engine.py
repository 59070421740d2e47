"""The engine: one thread that owns torch, takes what is queued across jobs, and answers with probabilities.

Preparation (matching cues, resizing, tokenising) runs on a small pool beside it and overlaps with the
device. There is no timer: when the device is free, whatever is ready is the batch. A batch that fails
fails its own pages and nothing else.
"""

import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from classifier_worker.core.batching import Batch, Intake, Shapes, plan_images, plan_texts
from classifier_worker.core.fusion import fuse_channels
from classifier_worker.core.page import Page
from classifier_worker.models.bundle import Bundle
from classifier_worker.models.categories import Categories
from classifier_worker.models.evidence import Evidence, Sight, channel_scores, see, trait_table
from classifier_worker.models.look import Prepared
from schemas.errors import DocfleetError, ErrorCode

Probabilities = NDArray[np.float64]

#: Category names are short; longer ones are cut here.
_NAME_TOKENS: Final = 64


class EngineObserver(Protocol):
    """Who wants to know what the engine does; called on its thread."""

    def on_batch(self, kind: str, size: int, capacity: int, seconds: float) -> None:
        """Hear of a batch of `size` parts in `capacity` rows; `kind` is look, text or names."""
        ...


class _Nobody:
    def on_batch(self, kind: str, size: int, capacity: int, seconds: float) -> None:
        """Listen to nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How an engine runs; the defaults are for a CPU."""

    threads: int = 0  #: torch's compute threads; 0 leaves its choice
    preparers: int = 1  #: threads that prepare pages beside the device
    most_pages_at_once: int = 8
    cached_categories: int = 20_000
    is_compiled: bool = False  #: torch.compile for the static shapes; CUDA only
    is_bf16: bool = False  #: bfloat16 autocast; CUDA only
    shapes: Shapes = field(default_factory=Shapes)


@dataclass(frozen=True, slots=True)
class _Request:
    page: Page
    categories: tuple[str, ...]
    future: "Future[Probabilities]"


@dataclass(frozen=True, slots=True)
class _Ready:
    request: _Request
    sight: Sight
    tokens: list[list[int]]
    image: Prepared


class Engine:
    """Pages in, a probability for each category out."""

    def __init__(
        self, bundle: Bundle, *, settings: EngineSettings | None = None, observer: EngineObserver | None = None
    ) -> None:
        self._bundle = bundle
        self._settings = settings or EngineSettings()
        self._observer: EngineObserver = observer or _Nobody()
        self._is_cuda = bundle.text.device.type == "cuda"
        self._traits = trait_table(bundle.cues)
        self._categories = Categories(
            bundle.cues,
            encode=self._encode_names,
            encode_look=self._encode_look_names if bundle.look.has_names else None,
            capacity=self._settings.cached_categories,
        )
        self._queue: queue.SimpleQueue[_Ready | None] = queue.SimpleQueue()
        self._intake: Intake[_Ready] = Intake(self._settings.most_pages_at_once)
        self._preparers = ThreadPoolExecutor(self._settings.preparers, thread_name_prefix="prepare")
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._is_closed = False

    def start(self) -> None:
        """Warm up and begin; returns when the engine is ready to answer at full speed."""
        if self._settings.threads:
            torch.set_num_threads(self._settings.threads)
        if self._is_cuda and self._settings.is_compiled:
            self._bundle.text.compile()
            self._bundle.look.compile()
        with torch.inference_mode():
            self._categories.learn_lexicon(self._fitted_entries())
            self._warm_up()
        self._thread.start()

    def close(self) -> None:
        """Stop after the batch in hand; pages that wait are answered with MODEL_FAILED."""
        self._is_closed = True
        self._preparers.shutdown(wait=True, cancel_futures=True)
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()
        self._intake.waiting += self._drain()
        for ready in self._intake.waiting:
            _fail(ready.request.future, "The worker is stopping.")
        self._intake.waiting = []

    def submit(self, page: Page, categories: tuple[str, ...]) -> "Future[Probabilities]":
        """Return the future probabilities (C,) of `categories` for `page`, in their order.

        Its exception is a DocfleetError with MODEL_FAILED. A cancelled future is skipped.
        """
        future: Future[Probabilities] = Future()
        request = _Request(page, categories, future)
        if self._is_closed:
            _fail(future, "The worker is stopping.")
        else:
            self._preparers.submit(self._prepare, request)
        return future

    def _prepare(self, request: _Request) -> None:
        if request.future.cancelled():
            return
        try:
            sight = see(request.page, self._bundle.cues, cue_idf=self._bundle.fitted.get("cue_idf"))
            tokens: list[list[int]] = []
            for text, most_tokens in sight.pieces.texts:
                prefixed = self._bundle.config.text.page_prefix + text
                tokens += self._bundle.text.tokenise([prefixed], most_tokens=most_tokens)
            image = self._bundle.look.prepare(request.page.image)
        except Exception as error:
            _fail(request.future, f"The page could not be prepared for the model: {error}", error)
            return
        self._queue.put(_Ready(request, sight, tokens, image))

    def _run(self) -> None:
        with torch.inference_mode():
            while True:
                if not self._intake.waiting:
                    first = self._queue.get()
                    if first is None:
                        return
                    self._intake.waiting.append(first)
                self._intake.waiting += self._drain()
                if self._is_closed:
                    return
                taken = [ready for ready in self._intake.take() if _claim(ready.request.future)]
                if taken:
                    self._answer(taken)

    def _drain(self) -> list[_Ready]:
        ready: list[_Ready] = []
        while True:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return ready
            if item is not None:
                ready.append(item)

    def _answer(self, taken: Sequence[_Ready]) -> None:
        try:
            answers = self._classify(taken)
        except Exception as error:
            for ready in taken:
                _fail(ready.request.future, f"The model could not classify the page: {error}", error)
            return
        for ready, answer in zip(taken, answers, strict=True):
            ready.request.future.set_result(answer)

    def _classify(self, taken: Sequence[_Ready]) -> list[Probabilities]:
        looks = self._encode_images([ready.image for ready in taken])
        texts = self._encode_tokens([part for ready in taken for part in ready.tokens], "text")
        answers, start = [], 0
        for ready, look in zip(taken, looks, strict=True):
            end = start + len(ready.tokens)
            answers.append(self._fuse(Evidence(ready.sight, texts[start:end], look), ready.request.categories))
            start = end
        return answers

    def _fuse(self, evidence: Evidence, names: tuple[str, ...]) -> Probabilities:
        categories = self._categories.look_up(names)
        fitted, config = self._bundle.fitted, self._bundle.config
        channels = channel_scores(evidence, names, categories, traits=self._traits, fitted=fitted)
        return fuse_channels(channels, config.channels, temperature=config.temperature)

    def _autocast(self) -> AbstractContextManager[object]:
        if self._is_cuda and self._settings.is_bf16:
            return torch.autocast("cuda", dtype=torch.bfloat16)
        return nullcontext()

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

    def _encode_names(self, names: Sequence[str]) -> NDArray[np.float32]:
        prefix = self._bundle.config.text.query_prefix
        tokens = self._bundle.text.tokenise([prefix + name for name in names], most_tokens=_NAME_TOKENS)
        return self._encode_tokens(tokens, "names")

    def _encode_look_names(self, names: Sequence[str]) -> NDArray[np.float32]:
        chunks = [self._bundle.look.encode_names(names[at : at + 32]) for at in range(0, len(names), 32)]
        return np.asarray(torch.cat(chunks).float().cpu().numpy(), dtype=np.float32)

    def _fitted_entries(self) -> NDArray[np.float32] | None:
        both = self._bundle.fitted.get("entry_vectors")
        return both if both is not None and both.shape[-1] == self._bundle.text.width else None

    def _warm_up(self) -> None:
        shapes = self._settings.shapes
        blank = self._bundle.look.prepare(np.full((64, 64, 3), 255, dtype=np.uint8))
        for rows in shapes.image_rows:
            with self._autocast():
                self._bundle.look.encode([blank], rows=rows)
        for tokens in shapes.text_tokens:
            for rows in shapes.text_rows if self._is_cuda else shapes.text_rows[:1]:
                with self._autocast():
                    self._bundle.text.encode([[0] * tokens], Batch((0,), rows, tokens))

    def _tell(self, kind: str, batch: Batch, began: float) -> None:
        self._observer.on_batch(kind, len(batch.indices), batch.rows, time.perf_counter() - began)


def _claim(future: "Future[Probabilities]") -> bool:
    """Return whether the page is still wanted; from here on it can no longer be cancelled."""
    return future.set_running_or_notify_cancel()


def _fail(future: "Future[Probabilities]", sentence: str, cause: Exception | None = None) -> None:
    error = DocfleetError(ErrorCode.MODEL_FAILED, sentence)
    error.__cause__ = cause
    try:
        if future.running() or future.set_running_or_notify_cancel():
            future.set_exception(error)
    except CancelledError:
        return
