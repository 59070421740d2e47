"""The reader pool with real child processes: what comes out, and what a hostile document costs."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from classifier_worker.core.page import Document, Page, UnreadPage
from classifier_worker.reader.pool import ReaderPool
from classifier_worker.reader.reading import ReadCancelled, ReaderDied, ReaderLimits
from classifier_worker.reader.slot import child_environment, start_child
from classifier_worker.reader.wire import ReadRequest
from schemas.errors import DocfleetError, ErrorCode
from tests import documents
from tests.e2e.running import is_alive
from tests.waiting import eventually_sync

PLAIN = ReadRequest(structure_pages=0, ocr=False)


@dataclass
class Bytes:
    """A `Source` in memory that remembers what was read, and can fail from a given request on."""

    data: bytes
    fail_at: int = -1
    ranges: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, end: int) -> bytes:
        if len(self.ranges) == self.fail_at:
            raise ConnectionError("the bucket went away")
        self.ranges.append((start, end))
        return self.data[start:end]


@pytest.fixture(scope="module")
def pool() -> Iterator[ReaderPool]:
    """One pool for the module, so that each test also shows that the ones before it left nothing behind."""
    pool = ReaderPool(ReaderLimits(document_seconds=20), 2)
    pool.start()
    yield pool
    pool.close(5)


def first_page(document: Document) -> Page:
    page = document.pages[0]
    assert isinstance(page, Page), page
    return page


def test_pdf_gives_text_lines_and_a_picture_of_its_first_four_pages(pool: ReaderPool) -> None:
    document = pool.read(Bytes(documents.pdf(pages=6, text="PAGE {page}\nsmall print")), PLAIN)
    assert (document.total_pages, document.is_image, len(document.pages)) == (6, False, 4)
    page = first_page(document)
    assert page.text == "PAGE 1\nsmall print"
    assert page.text_source == "layer"
    title, body = page.lines
    assert title.is_bold and not body.is_bold
    assert title.size > 2 * body.size
    assert title.box.top < body.box.top
    assert page.image.shape == (512, 362, 3)
    assert page.image.dtype == np.uint8
    assert page.structure is None


def test_structure_is_read_for_as_many_pages_as_asked(pool: ReaderPool) -> None:
    data = documents.pdf(pages=3, extra=documents.TABLE)
    document = pool.read(Bytes(data), ReadRequest(structure_pages=2, ocr=False))
    first, second, third = (page for page in document.pages if isinstance(page, Page))
    assert first.structure is not None and second.structure is not None and third.structure is None
    (table,) = first.structure.tables
    assert (table.rows, table.columns) == (3, 4)
    assert len(first.structure.rules) == 2 + 4 + 5
    assert first.structure.fonts == ("Helvetica-Bold", "Helvetica")


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_turned_page_is_shown_upright_with_its_boxes_on_the_ink(pool: ReaderPool, rotate: int) -> None:
    document = pool.read(Bytes(documents.pdf(pages=1, rotate=rotate)), PLAIN)
    page = first_page(document)
    assert page.image.shape == (512, 362, 3)
    assert page.height_points > page.width_points
    title = page.lines[0].box
    dark = np.argwhere(page.image[:, :, 0] < 128)
    top, left = dark.min(axis=0) / page.image.shape[:2]
    bottom, right = dark.max(axis=0) / page.image.shape[:2]
    assert left - 0.02 <= title.left < title.right <= right + 0.02
    assert top - 0.02 <= title.top < title.bottom <= bottom + 0.02


@pytest.mark.parametrize("name", sorted(documents.pictures()))
def test_each_picture_format_is_one_image(pool: ReaderPool, name: str) -> None:
    document = pool.read(Bytes(documents.pictures()[name]), PLAIN)
    assert (document.total_pages, document.is_image) == (1, True)
    page = first_page(document)
    assert page.image.shape == (512, 362, 3)
    assert page.image.max() > 240 and page.image.min() < 100


def test_tiff_of_several_frames_is_a_document_of_pages(pool: ReaderPool) -> None:
    document = pool.read(Bytes(documents.tiff(pages=5)), PLAIN)
    assert (document.total_pages, document.is_image, len(document.pages)) == (5, False, 4)


def test_scan_is_read_by_ocr_whichever_way_it_is_turned(pool: ReaderPool) -> None:
    picture = documents.page_picture("DELIVERY NOTE\nTwelve boxes of paper\nSigned by the driver", (700, 500))
    for turned in (0, 90, 180):
        page = first_page(pool.read(Bytes(documents.scanned_pdf(picture, turned=turned)), ReadRequest()))
        assert page.text_source == "ocr"
        assert "DELIVERY" in page.text, turned
        assert "boxes" in page.text.lower(), turned
        assert page.lines[0].size > page.lines[1].size


def test_times_say_what_ocr_took_and_leave_out_who_is_waited_for(pool: ReaderPool) -> None:
    class Slow(Bytes):
        def read(self, start: int, end: int) -> bytes:
            time.sleep(1.0)
            return super().read(start, end)

    picture = documents.page_picture("DELIVERY NOTE\nTwelve boxes of paper", (700, 500))
    began = time.monotonic()
    document = pool.read(Slow(documents.scanned_pdf(picture)), ReadRequest())
    took_seconds = time.monotonic() - began
    assert document.times.ocr == first_page(document).ocr_seconds > 0
    assert document.times.read > 0
    assert document.times.reader_wait + document.times.read + document.times.ocr <= took_seconds - 1.0


def test_scan_without_ocr_has_no_text(pool: ReaderPool) -> None:
    page = first_page(pool.read(Bytes(documents.scanned_pdf()), ReadRequest(ocr=False)))
    assert (page.text, page.text_source) == ("", "none")


def test_pages_are_told_as_they_arrive(pool: ReaderPool) -> None:
    seen: list[tuple[int, int]] = []
    pool.read(Bytes(documents.pdf(pages=3)), PLAIN, on_page=lambda page, total: seen.append((page.number, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_owner_password_alone_keeps_nobody_out(pool: ReaderPool) -> None:
    assert "INVOICE" in first_page(pool.read(Bytes(documents.encrypted_pdf(user_password=b"")), PLAIN)).text


def test_one_bad_page_leaves_the_others_readable(pool: ReaderPool) -> None:
    data = documents.pdf(pages=3).replace(b"12 0 obj\n<< /Type /Page", b"12 0 obj\n<< /Typo /Rage")
    document = pool.read(Bytes(data.replace(b"/MediaBox [0 0 595.00 842.00] /Rotate 0 /Contents 13", b"/X 13")), PLAIN)
    assert document.total_pages == 3


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", ErrorCode.EMPTY_FILE, "empty"),
        (b"hello, world", ErrorCode.UNSUPPORTED_FORMAT, "none of PDF"),
        (documents.encrypted_pdf(), ErrorCode.PASSWORD_REQUIRED, "password"),
        (documents.pdf()[:300], ErrorCode.UNREADABLE_DOCUMENT, "damaged"),
        (b"%PDF-1.4\n%%EOF", ErrorCode.UNREADABLE_DOCUMENT, "damaged"),
        (documents.pdf(pages=0), ErrorCode.NO_PAGES, "no pages"),
        (documents.pictures()["PNG"][:40], ErrorCode.UNREADABLE_DOCUMENT, "PNG"),
        (documents.png_bomb(), ErrorCode.DOCUMENT_TOO_COMPLEX, "60000 x 60000"),
        (documents.tiff_bomb(), ErrorCode.DOCUMENT_TOO_COMPLEX, "60000 x 60000"),
    ],
    ids=["empty", "text", "encrypted", "truncated", "header-only", "no-pages", "cut-png", "png-bomb", "tiff-bomb"],
)
def test_bad_document_is_named(pool: ReaderPool, data: bytes, code: ErrorCode, words: str) -> None:
    with pytest.raises(DocfleetError) as caught:
        pool.read(Bytes(data), PLAIN)
    assert caught.value.code is code
    assert words in caught.value.sentence
    assert not isinstance(caught.value, ReaderDied)


def test_missing_cross_reference_and_leading_bytes_are_repaired(pool: ReaderPool) -> None:
    data = documents.pdf(pages=2)
    for broken in (
        b"\xef\xbb\xbf" + data,
        data.replace(b"startxref\n", b"startxref\n9"),
        data.replace(b"\nxref", b"\nxxxx"),
    ):
        assert "INVOICE" in first_page(pool.read(Bytes(broken), PLAIN)).text


def test_enormous_and_deeply_nested_pages_are_only_pages(pool: ReaderPool) -> None:
    huge = first_page(pool.read(Bytes(documents.pdf(pages=1, size=(2.0**31, 2.0**31))), ReadRequest()))
    assert huge.image.shape == (512, 512, 3)
    thin = first_page(pool.read(Bytes(documents.pdf(pages=1, size=(10.0, 14_000.0))), ReadRequest()))
    assert thin.image.shape == (512, 1, 3)
    assert pool.read(Bytes(documents.deep_pdf()), ReadRequest()).total_pages == 1


def test_storage_error_in_mid_read_reaches_the_caller_and_costs_no_child(pool: ReaderPool, tmp_path: Path) -> None:
    path = tmp_path / "long.pdf"
    documents.write_long_pdf(path, pages=100)
    data = path.read_bytes()
    deaths, started = pool.counters.deaths, pool.counters.started
    for fail_at in (0, 1, 2):
        with pytest.raises(ConnectionError, match="the bucket went away"):
            pool.read(Bytes(data, fail_at=fail_at), ReadRequest())
    assert pool.read(Bytes(data), PLAIN).total_pages == 100
    assert (pool.counters.deaths, pool.counters.started) == (deaths, started)


def test_long_document_is_read_by_the_ranges_of_its_first_pages(pool: ReaderPool, tmp_path: Path) -> None:
    path = tmp_path / "long.pdf"
    size = documents.write_long_pdf(path, pages=600)
    source = Bytes(path.read_bytes())
    document = pool.read(source, ReadRequest(structure_pages=4))
    assert document.total_pages == 600
    assert all(isinstance(page, Page) and "INVOICE, page" in page.text for page in document.pages)
    assert sum(end - start for start, end in source.ranges) < 0.03 * size
    assert len(source.ranges) < 30


def test_document_larger_than_the_limit_is_refused_without_reading_it() -> None:
    pool = ReaderPool(ReaderLimits(document_bytes=100), 1)
    source = Bytes(documents.pdf())
    with pytest.raises(DocfleetError) as caught:
        pool.read(source, PLAIN)
    assert caught.value.code is ErrorCode.DOCUMENT_TOO_COMPLEX
    assert source.ranges == []


def test_child_killed_in_mid_document_is_a_death_and_the_next_document_is_read(pool: ReaderPool) -> None:
    deaths = pool.counters.deaths

    def kill(_page: Page | UnreadPage, _total: int) -> None:
        os.kill(pool.pids[0], signal.SIGSEGV)

    with pytest.raises(ReaderDied, match="SIGSEGV") as caught:
        pool.read(Bytes(documents.pdf(pages=4, extra=documents.TABLE * 2000)), ReadRequest(), on_page=kill)
    assert caught.value.code is ErrorCode.READER_CRASHED
    assert pool.counters.deaths == deaths + 1
    assert first_page(pool.read(Bytes(documents.pdf()), PLAIN)).text


def test_children_that_died_while_they_were_idle_cost_no_document_anything(pool: ReaderPool) -> None:
    eventually_sync(lambda: len(pool.pids) == pool.size + 1)
    deaths = pool.counters.deaths
    killed = pool.pids
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    eventually_sync(lambda: not any(map(is_alive, killed)))
    assert first_page(pool.read(Bytes(documents.pdf(pages=1)), PLAIN)).text.startswith("INVOICE")
    assert pool.counters.deaths == deaths


def test_pool_closes_whose_idle_children_died() -> None:
    pool = ReaderPool(ReaderLimits(), 1)
    pool.start()
    dead = pool.pids[0]
    os.kill(dead, signal.SIGKILL)
    eventually_sync(lambda: not is_alive(dead))
    pool.close(5)
    eventually_sync(lambda: not Path(f"/proc/{dead}").exists())  # buried, although it was dead already


def test_crash_is_not_taken_for_lack_of_memory_where_the_parent_is_large() -> None:
    ballast = np.ones(400 << 20, dtype=np.uint8)  # the kernel counts it as the child's peak, until that is larger
    pool = ReaderPool(ReaderLimits(memory_bytes=400 << 20), 1)
    pool.start()
    del ballast

    def kill(_page: Page | UnreadPage, _total: int) -> None:
        os.kill(pool.pids[0], signal.SIGSEGV)

    try:
        with pytest.raises(ReaderDied, match="SIGSEGV"):
            pool.read(Bytes(documents.pdf(pages=4, extra=documents.TABLE * 2000)), ReadRequest(), on_page=kill)
    finally:
        pool.close(5)


@pytest.fixture(scope="module")
def strict_pool() -> Iterator[ReaderPool]:
    pool = ReaderPool(ReaderLimits(document_seconds=4, memory_bytes=300 << 20), 1)
    pool.start()
    yield pool
    pool.close(5)


def test_endless_drawing_is_stopped_by_the_deadline(strict_pool: ReaderPool) -> None:
    with pytest.raises(DocfleetError, match=r"more than the 4 seconds") as caught:
        strict_pool.read(Bytes(documents.slow_pdf()), PLAIN)
    assert caught.value.code is ErrorCode.DOCUMENT_TOO_COMPLEX
    assert strict_pool.counters.timeouts == 1
    assert first_page(strict_pool.read(Bytes(documents.pdf()), PLAIN)).text


def test_swelling_document_is_stopped_by_the_memory_limit(strict_pool: ReaderPool) -> None:
    with pytest.raises(DocfleetError) as caught:
        strict_pool.read(Bytes(documents.swelling_pdf()), PLAIN)
    assert caught.value.code is ErrorCode.DOCUMENT_TOO_COMPLEX
    assert "memory" in caught.value.sentence
    assert first_page(strict_pool.read(Bytes(documents.pdf()), PLAIN)).text


def test_cancelled_job_frees_its_reader(pool: ReaderPool) -> None:
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    timeouts = pool.counters.timeouts
    with pytest.raises(ReadCancelled):
        pool.read(Bytes(documents.slow_pdf()), PLAIN, cancelled=cancelled)
    assert pool.counters.timeouts == timeouts
    assert first_page(pool.read(Bytes(documents.pdf()), PLAIN)).text


def test_more_callers_than_children_all_get_their_document(pool: ReaderPool) -> None:
    texts: list[str] = []

    def read(index: int) -> None:
        texts.append(first_page(pool.read(Bytes(documents.pdf(text=f"NUMBER {index}")), PLAIN)).text)

    threads = [threading.Thread(target=read, args=(index,)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(texts) == sorted(f"NUMBER {index}" for index in range(12))
    assert pool.busy == 0


def test_worn_child_is_replaced_without_failing_a_document() -> None:
    pool = ReaderPool(ReaderLimits(recycle_after_documents=2), 1)
    pool.start()
    try:
        for _ in range(5):
            assert first_page(pool.read(Bytes(documents.pdf()), PLAIN)).text
        assert pool.counters.recycled == 2
        assert pool.counters.deaths == 0
    finally:
        pool.close(1)


def test_closed_pool_leaves_no_process_and_takes_no_document() -> None:
    pool = ReaderPool(ReaderLimits(), 1)
    pool.start()
    pids = pool.pids
    pool.close(1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    with pytest.raises(ReadCancelled):
        pool.read(Bytes(documents.pdf()), PLAIN)


def test_child_gets_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://user:secret@db")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/secret.json")
    child = start_child(memory_bytes=1000 << 20, cpu_seconds=10)
    try:
        child.wait_ready(lambda: None)
        assert "secret" not in repr(child_environment())
        status = Path(f"/proc/{child.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
    finally:
        child.kill("the test is over")
        child.bury()


def test_child_dies_with_its_worker(tmp_path: Path) -> None:
    program = (
        "import os, signal\n"
        "from classifier_worker.reader.pool import ReaderPool\n"
        "from classifier_worker.reader.reading import ReaderLimits\n"
        "pool = ReaderPool(ReaderLimits(), 1)\n"
        "pool.start()\n"
        "print(*pool.pids, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    worker = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    pids = worker.stdout.split()
    assert pids and worker.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while any(_is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a reader child outlived its worker"
        time.sleep(0.02)


def _is_alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_children_write_no_bytecode_since_their_files_are_cut_short(pool: ReaderPool) -> None:
    assert pool.pids
    for pid in pool.pids:
        assert b"-B" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
