"""A job's document where it lies: what a reader takes its bytes from."""

import time
from typing import Protocol

from docfleet import metrics, tracing


class Objects(Protocol):
    """Where documents lie."""

    def read(self, name: str, start: int, end: int) -> bytes:
        """Return a range of the object."""
        ...


class StoredDocument:
    """A job's document in the object store, read by ranges."""

    def __init__(self, objects: Objects, name: str, size: int) -> None:
        self._objects = objects
        self._name = name
        self.size = size
        self.fetch_seconds = 0.0  #: spent in the store so far

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes start..end, end excluded."""
        before = time.monotonic()
        try:
            with tracing.span("fetch", "client", attributes={"docfleet.bytes": end - start}):
                data = self._objects.read(self._name, start, end)
        finally:
            self.fetch_seconds += time.monotonic() - before
        metrics.OBJECT_BYTES_READ.inc(len(data))
        return data
