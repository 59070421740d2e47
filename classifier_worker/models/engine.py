"""The engine: one thread that owns torch, takes what is queued across jobs, and answers with probabilities.

Preparation (matching cues, resizing, tokenising) runs on a small pool beside it and overlaps with the
device. There is no timer: when the device is free, whatever is ready is the batch. A batch that fails
fails its own pages and nothing else.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from classifier_worker.core.answer import PageAnswer, Question
from classifier_worker.core.batching import Intake, Shapes
from classifier_worker.core.page import Page
from classifier_worker.models.bundle import Bundle
from classifier_worker.models.encoder import Encoder, EncoderSettings, EngineObserver, Nobody, PreparedPage
from classifier_worker.models.evidence import Evidence
from classifier_worker.models.judge import Judge
from schemas.errors import DocfleetError, ErrorCode

_STOPPING = "The worker is stopping."
#: How finely it is told for what the engine waits.
_WAIT_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How an engine runs."""

    threads: int = 0  #: torch's compute threads; 0 leaves its choice
    preparers: int = 1  #: threads that prepare pages beside the device
    most_pages_at_once: int = 8
    cached_categories: int = 20_000
    encoder: EncoderSettings = field(default_factory=EncoderSettings)


#: A GPU takes larger rounds in few static shapes, compiled before the engine is ready. On an H200 (docs/benchmarks.md)
#: a batch of 16 pages or 32 texts takes as long as one of 1, so it pads rather than splits, and has no shape of 1.
GPU_SETTINGS: Final = EngineSettings(
    preparers=4,
    most_pages_at_once=64,
    encoder=EncoderSettings(
        is_compiled=True,
        is_bf16=True,
        shapes=Shapes(image_rows=(4, 16, 32, 64), text_rows=(8, 32, 64), text_tokens=(32, 128), least_full=0.25),
    ),
)


@dataclass(frozen=True, slots=True)
class _Request:
    page: Page
    judge: Callable[[Evidence], object]
    future: Future[Any]
    context: Context  #: of whoever submitted it


@dataclass(frozen=True, slots=True)
class _Ready:
    request: _Request
    page: PreparedPage
    ready_at: float  #: by time.perf_counter()


class Engine:
    """Pages and questions in, answers out."""

    def __init__(
        self, bundle: Bundle, *, settings: EngineSettings | None = None, observer: EngineObserver | None = None
    ) -> None:
        self._bundle = bundle
        self._settings = settings or EngineSettings()
        self._observer = observer or Nobody()
        self._encoder = Encoder(bundle, self._settings.encoder, self._observer)
        self._judge = Judge(bundle, self._encoder, cached_categories=self._settings.cached_categories)
        self._queue: queue.SimpleQueue[_Ready | None] = queue.SimpleQueue()
        self._intake: Intake[_Ready] = Intake(self._settings.most_pages_at_once)
        self._preparers = ThreadPoolExecutor(self._settings.preparers, thread_name_prefix="prepare")
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._lock = threading.Lock()  #: between submit and close, so that no page slips in behind the last one
        self._is_closed = False

    def start(self) -> None:
        """Warm up and begin; returns when the engine is ready to answer at full speed."""
        if self._settings.threads:
            torch.set_num_threads(self._settings.threads)
        self._judge.learn_lexicon()
        self._encoder.warm_up()
        self._thread.start()

    def close(self) -> None:
        """Stop after the batch in hand; pages that wait are answered with MODEL_FAILED."""
        with self._lock:
            self._is_closed = True
        self._preparers.shutdown(wait=True)  # what it still holds is answered at once, as it is closed
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()
        for ready in [*self._intake.waiting, *self._drain()]:
            _fail(ready.request.future, _STOPPING)
        self._intake.waiting = []

    def submit(self, page: Page, question: Question) -> "Future[PageAnswer]":
        """Return the future answer to the question about `page`.

        Its exception is a DocfleetError with MODEL_FAILED. A cancelled future is skipped.
        """
        return self._submit(page, lambda evidence: self._judge.answer(evidence, question))

    def submit_all(self, page: Page, questions: Sequence[Question]) -> "Future[list[PageAnswer]]":
        """Return the future answers to several questions about `page`, seen by the towers once; else as `submit`."""
        return self._submit(page, lambda evidence: [self._judge.answer(evidence, question) for question in questions])

    def _submit(self, page: Page, judge: Callable[[Evidence], object]) -> Future[Any]:
        request = _Request(page, judge, Future(), copy_context())
        with self._lock:
            if self._is_closed:
                _fail(request.future, _STOPPING)
            else:
                self._preparers.submit(self._prepare, request)
        return request.future

    def _prepare(self, request: _Request) -> None:
        if request.future.cancelled():
            return
        if self._is_closed:
            _fail(request.future, _STOPPING)
            return
        began = time.perf_counter()
        try:
            page = self._encoder.prepare(request.page)
        except Exception as error:
            _fail(request.future, f"The page could not be prepared for the model: {error}", error)
            return
        ready_at = time.perf_counter()
        request.context.run(self._observer.on_page, "prepare", ready_at - began)
        self._queue.put(_Ready(request, page, ready_at))

    def _run(self) -> None:
        while True:
            if not self._intake.waiting:
                first = self._wait()
                if first is None:
                    return
                self._intake.waiting.append(first)
            self._intake.waiting += self._drain()
            if self._is_closed:
                return
            # from here on these pages can no longer be cancelled
            taken = [ready for ready in self._intake.take() if ready.request.future.set_running_or_notify_cancel()]
            if taken:
                self._answer(taken)

    def _wait(self) -> _Ready | None:
        """Return the next page, or None at the end."""
        while True:
            began = time.perf_counter()
            try:
                return self._queue.get(timeout=_WAIT_SECONDS)
            except queue.Empty:
                continue
            finally:
                self._observer.on_turn(time.perf_counter() - began, is_busy=False)

    def _tell(self, taken: Sequence[_Ready], began: float) -> None:
        seconds = time.perf_counter() - began
        self._observer.on_turn(seconds, is_busy=True)
        for ready in taken:
            run = ready.request.context.run
            run(self._observer.on_page, "batch_wait", began - ready.ready_at, ago=seconds)
            run(self._observer.on_page, "model", seconds)

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
        began = time.perf_counter()
        try:
            found = self._encoder.evidence([ready.page for ready in taken])
            answers = [ready.request.judge(evidence) for evidence, ready in zip(found, taken, strict=True)]
        except Exception as error:
            self._tell(taken, began)
            for ready in taken:
                _fail(ready.request.future, f"The model could not classify the page: {error}", error)
            return
        self._tell(taken, began)  # before the answers, which end jobs
        for ready, answer in zip(taken, answers, strict=True):
            ready.request.future.set_result(answer)


def _fail(future: Future[Any], sentence: str, cause: Exception | None = None) -> None:
    error = DocfleetError(ErrorCode.MODEL_FAILED, sentence)
    error.__cause__ = cause
    try:
        future.set_exception(error)
    except InvalidStateError:  # cancelled meanwhile: nobody waits for it
        return
