"""Answers in process: documents read in reader children, pages judged by the engine, as a worker does both."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from classifier_worker.core.fusion import combine_pages
from classifier_worker.core.page import Page
from classifier_worker.evaluation.answers import Answer, Answers, FitLists, OnDone, Probabilities, highest
from classifier_worker.evaluation.manifest import Manifest
from classifier_worker.models.bundle import Bundle, load_bundle
from classifier_worker.models.engine import Engine
from classifier_worker.reader.pool import ReaderPool
from classifier_worker.reader.reading import ReaderLimits
from classifier_worker.reader.wire import ReadRequest
from schemas.errors import DocfleetError

_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class FileSource:
    """A document on this machine's disk, as a reader takes it."""

    path: Path

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.path.stat().st_size

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes start..end, end excluded."""
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)


def ask(manifest: Manifest, reference: str, *, readers: int, document_seconds: float, on_done: OnDone) -> Answers:
    """Return the bundle's answers on all documents; InvalidBundle when it cannot be loaded."""
    bundle = load_bundle(reference)
    engine = Engine(bundle)
    pool = ReaderPool(ReaderLimits(document_seconds=document_seconds), size=readers)
    pool.start()
    engine.start()
    asking = _Asking(manifest, bundle, engine, pool)
    found = []
    try:
        # one thread more than readers: while its document is judged, others are read
        with ThreadPoolExecutor(readers + 1) as threads:
            for answer in threads.map(asking.answer, range(len(manifest.rows))):
                found.append(answer)
                on_done(len(found))
    finally:
        pool.close(_CLOSE_SECONDS)
        engine.close()
    return Answers(bundle.label, tuple(found))


class _Asking:
    """One document at a time through reader and engine; called by several threads."""

    def __init__(self, manifest: Manifest, bundle: Bundle, engine: Engine, pool: ReaderPool) -> None:
        self._manifest = manifest
        self._bundle = bundle
        self._engine = engine
        self._pool = pool
        self._lists = FitLists.of(manifest)

    def answer(self, at: int) -> Answer:
        """Return the answer on the document of row `at`."""
        try:
            document = self._pool.read(FileSource(self._manifest.rows[at].file), ReadRequest())
            pages = [page for page in document.pages if isinstance(page, Page)]
            if not pages:
                return Answer(None, error="; ".join(getattr(page, "error", "") for page in document.pages))
            probabilities, none = self._judge(pages, self._manifest.names)
            if self._lists is None:
                return Answer(probabilities)
            if none is None:
                return Answer(probabilities, highest(probabilities, self._lists, at))
            return Answer(
                probabilities, (self._fit(pages, self._lists.present[at]), self._fit(pages, self._lists.absent[at]))
            )
        except (DocfleetError, OSError) as error:
            return Answer(None, error=str(error))

    def _fit(self, pages: Sequence[Page], offered: Sequence[int] | Any) -> float:
        _, none = self._judge(pages, tuple(self._manifest.names[name] for name in offered))
        return 1.0 - (none or 0.0)

    def _judge(self, pages: Sequence[Page], names: tuple[str, ...]) -> tuple[Probabilities, float | None]:
        """Return the document's probabilities (C,) and the probability that no name fits, where the engine tells it."""
        futures = [self._engine.submit(page, names) for page in pages]
        told = [_unpack(future.result()) for future in futures]
        joint = [
            (page.number, probabilities if none is None else np.append(probabilities * (1 - none), none))
            for page, (probabilities, none) in zip(pages, told, strict=True)
        ]
        combined = combine_pages(joint, self._bundle.page_weights)
        if len(combined) == len(names):
            return combined, None
        fitting = combined[:-1]
        return np.asarray(fitting / fitting.sum()), float(combined[-1])


def _unpack(answer: Any) -> tuple[Probabilities, float | None]:
    """Return (probabilities, none) of what the engine answers: an array alone knows no `none`."""
    if isinstance(answer, np.ndarray):
        return answer, None
    return answer.probabilities, float(answer.none)
