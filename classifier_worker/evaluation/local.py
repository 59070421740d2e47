"""Answers in process: documents read in reader children, pages judged by the engine, as a worker does both."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from classifier_worker.core.answer import Question
from classifier_worker.core.fusion import combine_answers
from classifier_worker.core.page import Page
from classifier_worker.evaluation.answers import Answer, Answers, FitLists, OnDone
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
            return self._judge(pages, at)
        except (DocfleetError, OSError) as error:
            return Answer(None, error=str(error))

    def _judge(self, pages: Sequence[Page], at: int) -> Answer:
        """Return the answer about the document, as a worker combines it from its pages; each page is seen once."""
        asked = [self._manifest.names, *self._manifest.synonyms]
        if self._lists is not None:
            lists = (self._lists.present[at], self._lists.absent[at])
            asked += [tuple(self._manifest.names[name] for name in offered) for offered in lists]
        futures = [self._engine.submit_all(page, [Question(names) for names in asked]) for page in pages]
        told = [
            [(page.number, answer) for answer in future.result()] for page, future in zip(pages, futures, strict=True)
        ]
        answers = [combine_answers(by_page, self._bundle.page_weights) for by_page in zip(*told, strict=True)]
        fits = (1.0 - answers[-2].none, 1.0 - answers[-1].none) if self._lists is not None else None
        others = answers[1 : 1 + len(self._manifest.synonyms)]
        return Answer(answers[0].probabilities, fits, synonyms=tuple(other.probabilities for other in others))
