"""Bytes and time of a 5,000-page PDF of 400+ MB against a PDF of its own first four pages.

    python -m benchmarks.ranges [--pages 5000] [--repeat 5]

Both are read by the pool, in a child, from a local file whose reads are counted; structure of all
four pages is on. The long file may cost 3 % of its bytes.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from classifier_worker.core.page import Page
from classifier_worker.reader.pool import ReaderPool
from classifier_worker.reader.reading import ReaderLimits
from classifier_worker.reader.wire import ReadRequest
from tests import documents


class CountedFile:
    """A local file as a `Source`; counts what is read of it."""

    def __init__(self, path: Path) -> None:
        self.size = path.stat().st_size
        self.bytes_read = 0
        self.reads = 0
        self._descriptor = os.open(path, os.O_RDONLY)

    def read(self, start: int, end: int) -> bytes:
        """Return a range."""
        self.bytes_read += end - start
        self.reads += 1
        return os.pread(self._descriptor, end - start, start)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def measure(pool: ReaderPool, path: Path, repeat: int) -> tuple[float, CountedFile, tuple[str, ...]]:
    """Return the median seconds of a read, what one read fetched, and the pages' texts."""
    seconds = []
    for _ in range(repeat):
        source = CountedFile(path)
        start = time.perf_counter()
        document = pool.read(source, ReadRequest(structure_pages=4))
        seconds.append(time.perf_counter() - start)
        source.close()
    return statistics.median(seconds), source, tuple(page.text for page in document.pages if isinstance(page, Page))


def main() -> None:
    """Make both files, read both, print one row each and the two ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=5_000)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    pool = ReaderPool(ReaderLimits(), 1)
    pool.start()
    with tempfile.TemporaryDirectory() as folder:
        long, short = Path(folder, "long.pdf"), Path(folder, "short.pdf")
        documents.write_long_pdf(long, pages=arguments.pages)
        documents.write_long_pdf(short, pages=4)
        measure(pool, short, 1)  # the child's imports
        short_seconds, short_source, short_texts = measure(pool, short, arguments.repeat)
        long_seconds, long_source, long_texts = measure(pool, long, arguments.repeat)
    pool.close(1)
    for name, seconds, source in (
        ("first four pages", short_seconds, short_source),
        (f"{arguments.pages} pages", long_seconds, long_source),
    ):
        print(
            f"{name:17} {source.size / 1e6:8.1f} MB   fetched {source.bytes_read / 1e6:6.2f} MB"
            f" in {source.reads:3} reads   {seconds * 1000:7.1f} ms"
        )
    print(f"same text: {short_texts == long_texts}")
    print(f"bytes fetched {100 * long_source.bytes_read / long_source.size:.2f} % (target 3 %)")
    print(f"time of a read {long_seconds / short_seconds:.2f} x (the target of 1.3 x is from 202 to completed)")


if __name__ == "__main__":
    main()
