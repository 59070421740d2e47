"""One document in one reader child, from the parent's side: its bytes go in, its pages come out, or a reason.

The child is not trusted: whatever it asks for or sends is checked, and it is killed when its time, its
memory or its job is over. Bytes come from a `Source` range by range, as the child asks for them.
"""

import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Protocol

from classifier_worker.core.page import Document, Page, ReadingTimes, UnreadPage
from classifier_worker.reader import wire
from classifier_worker.reader.ranges import READ_AHEAD_BYTES_MAX
from classifier_worker.reader.slot import POLL_SECONDS, ReaderChild
from classifier_worker.reader.wire import ReadRequest
from schemas.errors import DocfleetError, ErrorCode

logger = logging.getLogger(__name__)

OnPage = Callable[[Page | UnreadPage, int], None]

#: How long a child may take to give up a document whose bytes cannot be fetched, before it is killed.
_ABORT_SECONDS: Final = 2.0
_CODES_OF_A_CHILD: Final = frozenset(
    {
        ErrorCode.EMPTY_FILE,
        ErrorCode.PASSWORD_REQUIRED,
        ErrorCode.UNREADABLE_DOCUMENT,
        ErrorCode.NO_PAGES,
        ErrorCode.UNSUPPORTED_FORMAT,
        ErrorCode.DOCUMENT_TOO_COMPLEX,
    }
)


class Source(Protocol):
    """Where a document's bytes come from."""

    @property
    def size(self) -> int:
        """Bytes in the document."""
        ...

    def read(self, start: int, end: int) -> bytes:
        """Return exactly the bytes start..end (end excluded); any exception ends the read and reaches its caller."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderLimits:
    """What one document may cost."""

    document_seconds: float = 30.0  #: of the child's time; waiting for the source and for `on_page` does not count
    memory_bytes: int = 1000 << 20  #: resident memory of a child
    document_bytes: int = 512 << 20  #: size of a document
    recycle_after_documents: int = 500
    start_seconds: float = 60.0  #: for a child to become ready
    spool_dir: Path | None = None  #: where documents lie while they are read; default: the system's temporary folder


@dataclass(slots=True)
class ReaderCounters:
    """What a pool did since it started; each number only ever rises."""

    documents: int = 0
    pages: int = 0
    unread_pages: int = 0
    ocr_pages: int = 0
    bytes_fetched: int = 0
    fetches: int = 0
    deaths: int = 0  #: children that a document killed
    timeouts: int = 0
    memory_kills: int = 0
    recycled: int = 0
    started: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **amounts: int) -> None:
        """Raise the named counters together."""
        with self._lock:
            for name, amount in amounts.items():
                setattr(self, name, getattr(self, name) + amount)


class ReaderDied(DocfleetError):
    """The document made its reader child crash."""


class ReadCancelled(Exception):
    """The read was given up: its job was cancelled, or the pool is closing."""


class Spool:
    """A sparse, nameless file that holds the fetched ranges of one document; the child reads it, we write it."""

    def __init__(self, size_bytes: int, folder: Path | None) -> None:
        with ExitStack() as opened:
            self.descriptor, name = tempfile.mkstemp(prefix="reader-spool-", dir=folder)
            opened.callback(os.close, self.descriptor)
            try:
                self.for_child = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            finally:
                os.unlink(name)  # noqa: PTH108
            opened.callback(os.close, self.for_child)
            os.ftruncate(self.descriptor, size_bytes)  # fails where the disk takes no file so large
            self._opened = opened.pop_all()

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()


class Reading:
    """One document in one child: the frames of it, under its deadline."""

    def __init__(
        self, child: ReaderChild, source: Source, spool: Spool, *, limits: ReaderLimits, counters: ReaderCounters
    ) -> None:
        self._limits = limits
        self._counters = counters
        self._child = child
        self._source = source
        self._spool = spool
        self._request = ReadRequest()
        self._on_page: OnPage | None = None
        self._cancelled: threading.Event | None = None
        self._began = time.monotonic()
        self._deadline = self._began + limits.document_seconds
        self._elsewhere_seconds = 0.0  # at the source and in `on_page`
        self._next_check = 0.0
        self._total_pages = 0
        self._is_image = False
        self._pages: list[Page | UnreadPage] = []
        self._source_error: BaseException | None = None

    def run(self, request: ReadRequest, on_page: OnPage | None, cancelled: threading.Event | None) -> Document:
        """Return the document; see `ReaderPool.read` for what it raises."""
        self._request, self._on_page, self._cancelled = request, on_page, cancelled
        try:
            header = {"kind": "read", "size_bytes": self._source.size, "request": asdict(self._request)}
            self._child.channel.send(header, descriptor=self._spool.for_child)
            self._child.is_between_documents = False
            while not self._step():
                pass
        except wire.PeerGone as error:
            raise self._why_it_died() from error
        except wire.BrokenProtocol as error:
            self._child.kill("broken protocol")
            logger.warning("reader child broke the protocol", extra={"action": "reader_killed", "reason": str(error)})
            self._counters.add(deaths=1)
            raise ReaderDied(ErrorCode.READER_CRASHED, "The document made its reader process go wrong.") from error
        if self._source_error is not None:
            raise self._source_error
        ocr_seconds = sum(page.ocr_seconds for page in self._pages if isinstance(page, Page))
        own_seconds = time.monotonic() - self._began - self._elsewhere_seconds
        return Document(
            total_pages=self._total_pages,
            is_image=self._is_image,
            pages=tuple(self._pages),
            times=ReadingTimes(read=max(0.0, own_seconds - ocr_seconds), ocr=ocr_seconds),
        )

    def _step(self) -> bool:
        """Handle one frame; True after the last."""
        image_px = self._request.image_px
        header, payload = self._child.channel.receive(wire.page_payload_bytes_max(image_px), on_wait=self._check)
        kind = header["kind"]
        if kind == "need":
            self._fetch(header)
        elif kind == "opened":
            self._open(header)
        elif kind == "page":
            self._add(wire.page_of(header, payload, image_px))
        elif kind == "unread":
            self._add(wire.unread_of(header))
        elif kind == "failed":
            error = self._failure(header)
            self._child.is_between_documents = True
            raise error
        elif kind in ("aborted", "done") and self._may_end(kind):
            self._child.is_between_documents = True
            return True
        else:
            raise wire.BrokenProtocol(f"unexpected {kind!r}")
        return False

    def _may_end(self, kind: str) -> bool:
        if self._source_error is not None:
            return True
        return kind == "done" and 0 < len(self._pages) == min(self._request.max_pages, self._total_pages)

    def _check(self) -> None:
        """Kill the child when its time, its memory or its job is over; called while waiting for it."""
        child, limits, now = self._child, self._limits, time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + POLL_SECONDS
        if self._cancelled is not None and self._cancelled.is_set():
            child.kill("cancelled")
        elif now > self._deadline:
            child.kill("deadline")
        elif child.resident_bytes > limits.memory_bytes:
            child.kill("memory")

    def _fetch(self, header: wire.Header) -> None:
        start, end = header.get("start"), header.get("end")
        if type(start) is not int or type(end) is not int:
            raise wire.BrokenProtocol("a range without numbers")
        if not 0 <= start < end <= self._source.size or end - start > READ_AHEAD_BYTES_MAX:
            raise wire.BrokenProtocol(f"a range {start}..{end} of {self._source.size} bytes")
        if self._source_error is None:
            before = time.monotonic()
            try:
                data = self._source.read(start, end)
                if len(data) != end - start:
                    raise OSError(f"the source gave {len(data)} bytes for {start}..{end}")
                _write(self._spool.descriptor, data, start)
            except Exception as error:
                self._source_error = error
                self._deadline = time.monotonic() + _ABORT_SECONDS
            else:
                self._spent_elsewhere(time.monotonic() - before)
                self._counters.add(bytes_fetched=len(data), fetches=1)
        self._child.channel.send({"kind": "ok" if self._source_error is None else "abort"})

    def _open(self, header: wire.Header) -> None:
        total_pages, is_image = header.get("total_pages"), header.get("is_image")
        if type(total_pages) is not int or not 0 < total_pages <= wire.TOTAL_PAGES_MAX or self._total_pages:
            raise wire.BrokenProtocol(f"a document of {total_pages!r} pages")
        self._total_pages, self._is_image = total_pages, bool(is_image)

    def _add(self, page: Page | UnreadPage) -> None:
        if self._source_error is not None:
            return  # what the child makes of missing bytes is of no interest
        expected = len(self._pages) + 1
        if page.number != expected or expected > min(self._request.max_pages, self._total_pages):
            raise wire.BrokenProtocol(f"page {page.number} where {expected} of {self._total_pages} comes next")
        self._pages.append(page)
        if isinstance(page, UnreadPage):
            self._counters.add(unread_pages=1)
        else:
            self._counters.add(pages=1, ocr_pages=int(page.text_source == "ocr"))
        if self._on_page is not None:
            before = time.monotonic()
            self._on_page(page, self._total_pages)
            self._spent_elsewhere(time.monotonic() - before)

    def _spent_elsewhere(self, seconds: float) -> None:
        self._deadline += seconds
        self._elsewhere_seconds += seconds

    def _failure(self, header: wire.Header) -> BaseException:
        if self._source_error is not None:
            return self._source_error
        try:
            code, sentence = ErrorCode(str(header.get("code"))), wire.sentence_of(header.get("sentence"))
        except ValueError as error:
            raise wire.BrokenProtocol(f"a failure that is none: {error}") from error
        if code not in _CODES_OF_A_CHILD:
            raise wire.BrokenProtocol(f"a failure with the code {code}")
        return DocfleetError(code, sentence)

    def _why_it_died(self) -> BaseException:
        """Bury the child and return what its end means for the document."""
        child, counters, limits = self._child, self._counters, self._limits
        reason = child.killed_because
        death = child.bury()
        child.kill("dead")
        if self._source_error is not None:
            return self._source_error
        if reason in ("cancelled", "closed"):
            return ReadCancelled(reason)
        logger.warning(
            "reader child died",
            extra={"action": "reader_died", "reason": reason or str(death), "stderr": death.stderr},
        )
        if reason == "deadline" or -death.exit_code == signal.SIGXCPU:
            counters.add(timeouts=1)
            return DocfleetError(
                ErrorCode.DOCUMENT_TOO_COMPLEX,
                f"Reading the document took more than the {limits.document_seconds:g} seconds allowed.",
            )
        if reason == "memory" or death.ran_out_of_memory(limits.memory_bytes):
            counters.add(memory_kills=1)
            return DocfleetError(
                ErrorCode.DOCUMENT_TOO_COMPLEX,
                f"Reading the document took more than the {limits.memory_bytes >> 20} MiB of memory allowed.",
            )
        counters.add(deaths=1)
        return ReaderDied(ErrorCode.READER_CRASHED, f"The document made its reader process crash ({death}).")


def _write(descriptor: int, data: bytes, start: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, start)
        start += written
        view = view[written:]
