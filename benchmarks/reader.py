"""Reader speed: pages a second and core through a child process, against pdfplumber's text on the same files.

    python -m benchmarks.reader [--corpus DIR] [--scans N]

The first row is text and a 512 px image of the first four pages of each PDF, read in a child and
handed to this process, structure and OCR off. Pages are divided by the CPU seconds of both processes
together, so that a second core does not flatter them. pdfplumber's `extract_text()` of the same pages
runs in this process, in the same run. The other rows say what structure and OCR cost a page.
Without a corpus the documents are made here, and OCR reads `--scans` of those.
"""

import argparse
import io
import logging
import os
import statistics
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pdfplumber
from pdfminer.pdfpage import PDFPage
from pdfplumber.page import Page as PlumberPage

from classifier_worker.core.page import Page, UnreadPage
from classifier_worker.reader.pool import ReaderPool
from classifier_worker.reader.reading import ReaderLimits
from classifier_worker.reader.wire import ReadRequest
from schemas.errors import DocfleetError
from tests import documents

CORPUS = Path(__file__).parents[2] / "shared" / "corpus" / "files"
MAX_PAGES = 4


@dataclass(frozen=True)
class InMemory:
    """A document's bytes as a `Source`."""

    data: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    def read(self, start: int, end: int) -> bytes:
        """Return a range."""
        return self.data[start:end]


@dataclass
class Cost:
    """What one way of reading cost."""

    pages: int = 0
    cpu_seconds: float = 0.0
    page_milliseconds: list[float] = field(default_factory=list)

    @property
    def pages_per_core_second(self) -> float:
        """Pages by all CPU time spent on them."""
        return self.pages / self.cpu_seconds

    def __str__(self) -> str:
        deciles = statistics.quantiles(self.page_milliseconds, n=10)
        return (
            f"{self.pages:5} pages {self.pages_per_core_second:8.2f} pages/s/core"
            f"   wall per page: p50 {deciles[4]:7.1f} ms, p90 {deciles[8]:7.1f} ms"
        )


def cpu_seconds_of(pids: tuple[int, ...]) -> float:
    """Return user and system time of these processes so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def through_pool(files: list[bytes], request: ReadRequest) -> Cost:
    """Read all files one after another in one child; the first of them once more, before the clock starts."""
    pool = ReaderPool(ReaderLimits(recycle_after_documents=10**9), 1)
    pool.start()
    cost = Cost()
    last = 0.0

    def on_page(page: Page | UnreadPage, _total_pages: int) -> None:
        nonlocal last
        now = time.perf_counter()
        cost.pages += isinstance(page, Page)
        cost.page_milliseconds.append((now - last) * 1000)
        last = now

    try:
        while len(pool.pids) < 2:  # the spare is still starting, on this very core perhaps
            time.sleep(0.01)
        pool.read(InMemory(files[0]), request)
        pids = pool.pids
        before = cpu_seconds_of(pids) + time.process_time()
        for data in files:
            last = time.perf_counter()
            try:
                pool.read(InMemory(data), request, on_page=on_page)
            except DocfleetError as error:
                print("  skipped:", error)
        cost.cpu_seconds = cpu_seconds_of(pids) + time.process_time() - before
    finally:
        pool.close(1)
    return cost


def through_pdfplumber(files: list[bytes]) -> Cost:
    """Extract the text of the same pages in this process, without walking the pages that nobody wants."""
    cost = Cost()
    before = time.process_time()
    for data in files:
        try:
            with pdfplumber.open(io.BytesIO(data), pages=[]) as pdf:
                for number, found in enumerate(islice(PDFPage.create_pages(pdf.doc), MAX_PAGES), start=1):
                    start = time.perf_counter()
                    PlumberPage(pdf, found, page_number=number).extract_text()
                    cost.page_milliseconds.append((time.perf_counter() - start) * 1000)
                    cost.pages += 1
        except Exception as error:  # pdfplumber refuses some files that PDFium reads
            print("  pdfplumber:", type(error).__name__, error)
    cost.cpu_seconds = time.process_time() - before
    return cost


def main() -> None:
    """Print one row a way of reading, and the two ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--scans", type=int, default=12, help="how many documents the OCR row reads")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    files = [path.read_bytes() for path in sorted(arguments.corpus.rglob("*.pdf"))]
    if files:
        print(f"{len(files)} PDFs below {arguments.corpus}")
    else:
        files = [documents.pdf(pages=4, extra=documents.TABLE) for _ in range(40)]
        files += [documents.scanned_pdf() for _ in range(arguments.scans)]
        print(f"{len(files)} PDFs made here")
    plain = ReadRequest(max_pages=MAX_PAGES, structure_pages=0, ocr=False)
    fast = through_pool(files, plain)
    print("text + 512 px image, in its child   ", fast)
    plumber = through_pdfplumber(files)
    print("pdfplumber, text alone, in process  ", plumber)
    first = through_pool(files, ReadRequest(max_pages=MAX_PAGES, structure_pages=1, ocr=False))
    print("with structure of the first page    ", first)
    print("with structure of every page        ", through_pool(files, ReadRequest(structure_pages=4, ocr=False)))
    scans = [data for data in files if _is_scan(data)][: arguments.scans]
    if scans:
        print("scans with OCR, first page          ", through_pool(scans, ReadRequest(max_pages=1)))
    print(f"reader {fast.pages_per_core_second:.1f} pages/s/core (target 75)")
    print(f"reader / pdfplumber {fast.pages_per_core_second / plumber.pages_per_core_second:.1f} x (target 15 x)")


def _is_scan(data: bytes) -> bool:
    """Whether the first page has no text layer to speak of."""
    import pypdfium2

    with pypdfium2.PdfDocument(data) as document:
        return len(document[0].get_textpage().get_text_bounded()) < 10


if __name__ == "__main__":
    main()
