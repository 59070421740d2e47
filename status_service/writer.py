"""A thread that writes one batch while its owner decodes the next, so that Postgres and the codec work side by side.

A daemon: a statement that Postgres never answers does not keep the process from ending by its deadline.
"""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue

from docfleet import metrics
from status_service.folding import Batch
from status_service.store import Advance, Partition, ProjectionStore


@dataclass(frozen=True, slots=True)
class _Write:
    batch: Batch
    advances: Mapping[Partition, Advance]
    written: Future[None]


class Writer:
    """Writes what it is given, in that order; nobody else may use the store before the future of a write is done."""

    def __init__(self, store: ProjectionStore) -> None:
        self._store = store
        self._writes: SimpleQueue[_Write | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="projection-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def begin(self, batch: Batch, advances: Mapping[Partition, Advance]) -> Future[None]:
        """Return a future that is done when the transaction is; it raises what `ProjectionStore.write` raises."""
        write = _Write(batch, advances, Future())
        self._writes.put(write)
        return write.written

    def close(self) -> None:
        """Let the thread end."""
        self._writes.put(None)

    def _run(self) -> None:
        while True:
            write = self._writes.get()
            if write is None:
                return
            self._do(write)
            del write  # or an idle thread would hold the last batch for as long as it waits

    def _do(self, write: _Write) -> None:
        began = time.monotonic()
        try:
            self._store.write(write.batch, write.advances)
        except BaseException as error:
            write.written.set_exception(error)
        else:
            metrics.PROJECTION_SECONDS.observe(time.monotonic() - began)
            write.written.set_result(None)
