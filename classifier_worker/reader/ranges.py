"""The child's view of a document that lies in the object store: a seekable file that is fetched as it is read.

The parent makes a sparse spool on disk and hands over a read-only descriptor; this file asks the
parent for the blocks that are missing and reads them from the spool. It does not know where the
parent gets them. Read-ahead doubles while access runs forward and forgets it at the first jump, so
that the trailer, the cross-reference table and four pages of a huge PDF stay a small share of its
bytes while a scan of a whole file costs few requests.
"""

import io
import os
from collections.abc import Callable
from typing import Final

BLOCK_BYTES: Final = 64 << 10
READ_AHEAD_BYTES_MAX: Final = 8 << 20
#: A document up to this size is fetched at once: one round trip is worth more than its bytes.
WHOLE_BYTES: Final = 2 << 20


class FetchAborted(OSError):
    """The parent cannot get the bytes; the document is given up."""


class RangedFile(io.RawIOBase):
    """A read-only, seekable file over `descriptor` of `size_bytes` whose missing ranges `fetch(start, end)` brings."""

    def __init__(self, descriptor: int, size_bytes: int, fetch: Callable[[int, int], bool]) -> None:
        self.size_bytes = size_bytes
        self.is_aborted = False
        self._descriptor = descriptor
        self._fetch = fetch
        self._present = bytearray(-(-size_bytes // BLOCK_BYTES))
        self._position = 0
        self._fetched_to = -1
        self._read_ahead_bytes = BLOCK_BYTES
        if size_bytes <= WHOLE_BYTES:
            self._bring(0, size_bytes)

    @property
    def is_whole(self) -> bool:
        """Whether every byte is here."""
        return all(self._present)

    def readable(self) -> bool:
        """Whether reading works: always."""
        return True

    def seekable(self) -> bool:
        """Whether seeking works: always."""
        return True

    def tell(self) -> int:
        """Return the position, bytes from the start."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; a position beyond the end reads nothing."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"cannot seek to {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed: Buffer
        """Fill `buffer` as far as the document reaches; `FetchAborted` when the bytes cannot be had."""
        view = memoryview(buffer).cast("B")
        end = min(self._position + len(view), self.size_bytes)
        if end <= self._position:
            return 0
        self._bring(self._position, end)
        count = end - self._position
        done = 0
        while done < count:
            got = os.preadv(self._descriptor, [view[done:count]], self._position + done)
            if got == 0:
                raise OSError("the spool is shorter than the document")
            done += got
        self._position = end
        return count

    def _bring(self, start: int, end: int) -> None:
        """Make bytes start..end present, in few requests of at most READ_AHEAD_BYTES_MAX."""
        first, last = start // BLOCK_BYTES, -(-end // BLOCK_BYTES)
        block = self._present.find(0, first, last)
        while block != -1:
            hole_start = block * BLOCK_BYTES
            if hole_start == self._fetched_to:
                self._read_ahead_bytes = min(self._read_ahead_bytes * 2, READ_AHEAD_BYTES_MAX)
            else:
                self._read_ahead_bytes = BLOCK_BYTES
            wanted = max(last * BLOCK_BYTES, hole_start + self._read_ahead_bytes)
            wanted = min(wanted, hole_start + READ_AHEAD_BYTES_MAX)
            there = self._present.find(1, block, -(-wanted // BLOCK_BYTES))
            hole_end = min(there * BLOCK_BYTES if there != -1 else wanted, self.size_bytes)
            if self.is_aborted or not self._fetch(hole_start, hole_end):
                self.is_aborted = True
                raise FetchAborted(f"bytes {hole_start} to {hole_end} could not be fetched")
            self._fetched_to = hole_end
            stop = -(-hole_end // BLOCK_BYTES)
            self._present[block:stop] = b"\x01" * (stop - block)
            block = self._present.find(0, stop, last)
