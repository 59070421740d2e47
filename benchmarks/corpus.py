"""Labelled documents for the benchmarks: a manifest.csv with `path`, `label`, `source_repo`, read as workers read.

A document that cannot be read is left out and named, so that no figure hides it.
"""

import csv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from classifier_worker.core.page import Document, Page
from classifier_worker.evaluation.local import FileSource
from classifier_worker.reader.pool import ReaderPool
from classifier_worker.reader.reading import ReaderLimits
from classifier_worker.reader.wire import ReadRequest
from schemas.errors import DocfleetError

CORPUS = Path(__file__).parents[2] / "shared" / "corpus"


@dataclass(frozen=True)
class Labelled:
    """One document, what it is, and where it comes from: a fit must not be judged on its own sources."""

    name: str
    label: str
    source: str
    document: Document

    @property
    def pages(self) -> list[Page]:
        """The pages that could be read."""
        return [page for page in self.document.pages if isinstance(page, Page)]


def read_corpus(folder: Path, *, readers: int = 2) -> Iterator[Labelled]:
    """Yield every document of the manifest in its order, the first pages read in reader children."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    pool = ReaderPool(ReaderLimits(document_seconds=300), size=readers)
    pool.start()

    def read(row: dict[str, str]) -> Labelled | None:
        try:
            document = pool.read(FileSource(folder / row["path"]), ReadRequest())
        except DocfleetError as error:
            print(f"left out: {row['path']} ({row['label']}): {error}")
            return None
        return Labelled(row["path"], row["label"], row["source_repo"], document)

    try:
        with ThreadPoolExecutor(readers) as threads:
            for labelled in threads.map(read, rows):
                if labelled is not None and labelled.pages:
                    yield labelled
    finally:
        pool.close(5)
