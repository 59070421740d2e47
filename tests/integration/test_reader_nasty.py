"""Each file of the nasty corpus ends as its `expected` column says, within limits, and harms nobody after it."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from classifier_worker.core.page import Document, Page
from classifier_worker.reader.pool import ReaderPool
from classifier_worker.reader.reading import ReaderDied, ReaderLimits
from classifier_worker.reader.wire import ReadRequest
from schemas.errors import DocfleetError, ErrorCode
from tests import documents
from tests.integration.test_reader_pool import Bytes

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
NASTY = CORPUS / "nasty.csv"
ROWS = list(csv.DictReader(NASTY.read_text("utf-8").splitlines())) if NASTY.exists() else []

#: A file may take 10 s and 1 GB: the pool enforces both, and a file that is stopped by a limit fails below.
LIMITS = ReaderLimits(document_seconds=10, memory_bytes=1000 << 20)
#: Why a file may be refused; limits and crashes are never "a clear error" here.
CLEAR = {
    ErrorCode.PASSWORD_REQUIRED,
    ErrorCode.UNREADABLE_DOCUMENT,
    ErrorCode.NO_PAGES,
    ErrorCode.EMPTY_FILE,
    ErrorCode.UNSUPPORTED_FORMAT,
}

pytestmark = pytest.mark.skipif(not ROWS, reason="the corpus of nasty files is not here")


@pytest.fixture(scope="module")
def pool() -> Iterator[ReaderPool]:
    pool = ReaderPool(LIMITS, 1)
    pool.start()
    yield pool
    pool.close(5)


def outcome(pool: ReaderPool, path: Path) -> Document | DocfleetError:
    try:
        return pool.read(Bytes(path.read_bytes()), ReadRequest(structure_pages=4))
    except DocfleetError as error:
        return error


@pytest.mark.parametrize("row", ROWS, ids=[Path(row["path"]).stem for row in ROWS])
def test_nasty_file_ends_as_expected_and_the_next_is_read(pool: ReaderPool, row: dict[str, str]) -> None:
    expected = row["expected"]
    result = outcome(pool, CORPUS / row["path"])
    if isinstance(result, DocfleetError):
        assert "clear error" in expected
        assert result.code in CLEAR and not isinstance(result, ReaderDied)
        assert result.sentence.endswith(".") and len(result.sentence) > 15
    else:
        assert "readable" in expected
        assert all(isinstance(page, Page) for page in result.pages)
    if "no pages" in expected:
        assert isinstance(result, DocfleetError) and result.code is ErrorCode.NO_PAGES
    if "password" in row["why_nasty"] and "owner" not in row["why_nasty"]:
        assert isinstance(result, DocfleetError) and result.code is ErrorCode.PASSWORD_REQUIRED
    if "2 pages" in expected:
        assert isinstance(result, Document) and result.total_pages == 2
    after = pool.read(Bytes(documents.pdf(pages=1)), ReadRequest())
    assert isinstance(after.pages[0], Page) and after.pages[0].text.startswith("INVOICE")
    assert pool.counters.deaths == pool.counters.timeouts == pool.counters.memory_kills == 0
