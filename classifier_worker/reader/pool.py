"""The parent side of reading: a pool of child processes, one document in each at a time.

`ReaderPool.read` blocks its calling thread from a `Source` of bytes to a `Document`. The pool owns the
children: it starts them, keeps a warm spare so that a killed one is replaced without a stall, and
recycles after many documents. What happens to one document is in `reading.py`. The pool does not know
Kafka or the object store, and does not decide whether a document that killed its child is tried again.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from classifier_worker.core.page import Document
from classifier_worker.reader import wire
from classifier_worker.reader.reading import (
    OnPage,
    ReadCancelled,
    ReaderCounters,
    ReaderLimits,
    Reading,
    Source,
    Spool,
)
from classifier_worker.reader.slot import ReaderChild, start_child
from schemas.errors import DocfleetError, ErrorCode

logger = logging.getLogger(__name__)

#: Children kept warm beyond those that may work at the same time.
_SPARES: Final = 1
#: How long killed readings may take to notice when the pool closes.
_KILL_SECONDS: Final = 2.0
_RESTART_PAUSE_SECONDS: Final = 1.0
#: A child that holds this share of its memory after a document is replaced.
_BLOATED: Final = 0.6


class ReaderPool:
    """At most `size` documents are read at a time, each in a child of its own; call `start` once."""

    def __init__(self, limits: ReaderLimits, size: int) -> None:
        self.limits = limits
        self.size = size
        self.counters = ReaderCounters()
        self._idle: list[ReaderChild] = []
        self._busy: set[ReaderChild] = set()
        self._change = threading.Condition()
        self._is_closed = False
        self._start_error: str | None = None
        self._keeper = threading.Thread(target=self._keep, name="reader-pool", daemon=True)

    @property
    def busy(self) -> int:
        """How many documents are being read now."""
        return len(self._busy)

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the children that can read or are reading, the next one to work first."""
        with self._change:
            return tuple(child.pid for child in (*self._busy, *reversed(self._idle)))

    def start(self) -> None:
        """Start the children and return when the first can read; RuntimeError when none can be started."""
        self._keeper.start()
        with self._change:
            self._change.wait_for(lambda: self._idle or self._start_error, self.limits.start_seconds)
            if not self._idle:
                self._is_closed = True
                self._change.notify_all()
                raise RuntimeError(f"no reader child could be started: {self._start_error or 'it took too long'}")

    def close(self, deadline_seconds: float) -> None:
        """Take no more documents, let running ones end until the deadline, then kill what is left."""
        with self._change:
            self._is_closed = True
            self._change.notify_all()
            self._change.wait_for(lambda: not self._busy, deadline_seconds)
            for child in self._busy:
                child.kill("closed")
            self._change.wait_for(lambda: not self._busy, _KILL_SECONDS)
        if self._keeper.is_alive():
            # a reading whose source hangs cannot be ended from here; its child dies with this process
            self._keeper.join(_KILL_SECONDS)

    def read(
        self,
        source: Source,
        request: wire.ReadRequest,
        *,
        on_page: OnPage | None = None,
        cancelled: threading.Event | None = None,
    ) -> Document:
        """Return the first pages of a document; wait for a free child first.

        `on_page(page, total_pages)` is called as each page arrives. Raises `DocfleetError` for what is
        wrong with the document (`ReaderDied` when it crashed its child), `ReadCancelled`, or whatever
        `source` or `on_page` raised.
        """
        if source.size > self.limits.document_bytes:
            raise DocfleetError(
                ErrorCode.DOCUMENT_TOO_COMPLEX,
                f"The document has {source.size} bytes; at most {self.limits.document_bytes} are read.",
            )
        asked_at = time.monotonic()
        with self._child(cancelled) as child, Spool(source.size, self.limits.spool_dir) as spool:
            waited_seconds = time.monotonic() - asked_at
            reading = Reading(child, source, spool, limits=self.limits, counters=self.counters)
            document = reading.run(request, on_page, cancelled)
        self.counters.add(documents=1)
        return replace(document, times=replace(document.times, reader_wait=waited_seconds))

    @contextmanager
    def _child(self, cancelled: threading.Event | None) -> Iterator[ReaderChild]:
        """Lend a ready child; afterwards it goes back, or is buried when it died or shall be replaced."""
        with self._change:
            child = self._next_idle(cancelled)
            while not child.is_alive:  # it died without a document, so no document shall be blamed for it
                child.bury()
                self._change.notify_all()
                child = self._next_idle(cancelled)
            self._busy.add(child)
        try:
            yield child
        finally:
            if not child.is_between_documents:
                child.kill("given up")
            self._take_back(child)

    def _next_idle(self, cancelled: threading.Event | None) -> ReaderChild:
        """Wait until a document may be read and return an idle child, taken from the others; with the lock held."""
        while not (self._is_closed or (self._idle and len(self._busy) < self.size)):
            if cancelled is not None and cancelled.is_set():
                raise ReadCancelled("cancelled before a reader was free")
            self._change.wait(0.2)
        if self._is_closed:
            raise ReadCancelled("the reader pool is closed")
        return self._idle.pop()  # the one used last: its OCR models are loaded

    def _take_back(self, child: ReaderChild) -> None:
        child.documents += 1
        is_worn = child.documents >= self.limits.recycle_after_documents
        is_worn = is_worn or child.resident_bytes > _BLOATED * self.limits.memory_bytes
        if is_worn and not child.killed_because:
            child.kill("recycled")
            self.counters.add(recycled=1)
        if child.killed_because:
            child.bury()
        with self._change:
            self._busy.discard(child)
            if not child.killed_because:
                self._idle.append(child)
            self._change.notify_all()

    def _keep(self) -> None:
        """Keep `size` children and a spare alive; the thread that starts them, since they die with it."""
        while True:
            with self._change:
                self._change.wait_for(lambda: self._is_closed or self._missing() > 0)
                if self._is_closed:
                    self._change.wait_for(lambda: not self._busy)
                    leftover, self._idle = self._idle, []
                    break
                missing = self._missing()
            self._start(missing)
        for child in leftover:
            child.kill("closed")
            child.bury()

    def _missing(self) -> int:
        return self.size + _SPARES - len(self._idle) - len(self._busy)

    def _start(self, count: int) -> None:
        limits = self.limits
        children = []
        deadline = time.monotonic() + limits.start_seconds

        def on_wait() -> None:
            if self._is_closed or time.monotonic() > deadline:
                raise wire.PeerGone("it took too long" if not self._is_closed else "the pool is closed")

        try:
            for _ in range(count):
                children.append(start_child(memory_bytes=limits.memory_bytes, cpu_seconds=limits.document_seconds))
        except OSError as error:
            self._failed_to_start(str(error))
        for child in children:
            try:
                child.wait_ready(on_wait)
            except (wire.PeerGone, wire.BrokenProtocol) as error:
                child.kill(str(error))
                death = child.bury()
                self._failed_to_start(f"{error}; {death}; {death.stderr}")
                continue
            self.counters.add(started=1)
            with self._change:
                self._start_error = None
                self._idle.insert(0, child)
                self._change.notify_all()

    def _failed_to_start(self, reason: str) -> None:
        with self._change:
            if self._is_closed:
                return
            self._start_error = reason
            self._change.notify_all()
            logger.error("a reader child could not be started", extra={"action": "reader_start", "reason": reason})
            self._change.wait_for(lambda: self._is_closed, _RESTART_PAUSE_SECONDS)
