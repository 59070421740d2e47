"""A document on its way from a client or a URL into the object store.

Small ones wait in memory and go out in one request; larger ones are streamed by a thread, one piece
being written while the next is read, so that a document never needs more than a part of an upload and a few pieces
of memory, and only so many are streamed at a time.
Nothing exists in the store before `store()`.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from docfleet import metrics
from docfleet.fault_points import reached
from docfleet.objects import ObjectStore, Upload
from producer_api.formats import HEAD_BYTES, media_type_of
from schemas.errors import DocfleetError, ErrorCode

_log = logging.getLogger(__name__)

#: What is handed to the thread at a time.
_PIECE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Document:
    """A whole document as it was taken in."""

    media_type: str
    size_bytes: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Storage:
    """The object store, the threads that call it and the limits of a document."""

    objects: ObjectStore
    threads: Executor
    max_bytes: int
    memory_bytes: int


class DocumentWriter:
    """Takes one document's bytes: counts, hashes, knows the format by the first bytes, stores.

    `write` and `end` raise FILE_TOO_LARGE, EMPTY_FILE, UNSUPPORTED_FORMAT or STORAGE_UNAVAILABLE, and `write`
    SERVICE_UNAVAILABLE where a document is to be streamed and `streams` has no place left. Whoever does not come to the
    end of `store` calls `abandon`. With `name` None the bytes are only looked at, not stored.
    """

    def __init__(self, storage: Storage, name: str | None, streams: asyncio.Semaphore | None = None) -> None:
        self._storage = storage
        self._name = name
        self._streams = streams
        self._has_place = False
        self._pending = bytearray()
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        self._media_type: str | None = None
        self._upload: Upload | None = None
        self._in_thread: asyncio.Future[Any] | None = None
        self._is_stored = False

    async def write(self, piece: bytes | bytearray) -> None:
        """Take the next bytes; waits while the store is slower than the client."""
        self._size_bytes += len(piece)
        metrics.UPLOAD_BYTES.inc(len(piece))
        if self._size_bytes > self._storage.max_bytes:
            raise DocfleetError(
                ErrorCode.FILE_TOO_LARGE, f"The file is larger than {self._storage.max_bytes} bytes, the most accepted."
            )
        self._pending += piece
        if self._media_type is None and len(self._pending) >= HEAD_BYTES:
            self._know_format()
        if self._size_bytes > self._storage.memory_bytes:
            await self._take_place()
            if len(self._pending) >= _PIECE_BYTES:
                await self._hand_over()

    async def end(self) -> Document:
        """Return what came in, after the last byte."""
        if self._size_bytes == 0:
            raise DocfleetError(ErrorCode.EMPTY_FILE)
        media_type = self._media_type or self._know_format()
        if self._upload is not None:
            await self._hand_over()
        await self._thread_is_done()
        if self._upload is None:
            self._hash.update(self._pending)
        return Document(media_type, self._size_bytes, self._hash.digest())

    async def store(self) -> None:
        """Make the object exist; call it after `end`."""
        if self._name is None:
            return
        self._is_stored = True  # from here on it may exist, whatever is raised
        reached("before_object_put")
        if self._upload is not None:
            await self._run(self._upload.finish)
        else:
            body, self._pending = bytes(self._pending), bytearray()
            media_type = self._media_type or ""
            await self._run(lambda: self._storage.objects.put(str(self._name), body, media_type=media_type))
        reached("after_object_put")
        self._give_place_back()

    async def abandon(self, *, keep_stored: bool = False) -> None:
        """Leave nothing behind: the upload is given up, an object that exists already is deleted unless it is kept."""
        self._pending = bytearray()
        with suppress(DocfleetError):  # a piece that failed was told to whoever waited for it
            await self._thread_is_done()
        try:
            if self._upload is not None:
                await self._run(self._upload.abandon)
            if self._is_stored and self._name is not None and not keep_stored:
                name = self._name
                await self._run(lambda: self._storage.objects.delete(name))
        except DocfleetError as error:
            _log.warning(
                "an object may stay behind", extra={"action": "abandon", "object": self._name, "why": str(error)}
            )
        finally:
            self._give_place_back()

    async def _take_place(self) -> None:
        if self._streams is None or self._has_place:
            return
        if self._streams.locked():
            raise DocfleetError(
                ErrorCode.SERVICE_UNAVAILABLE, "Too many large documents are being uploaded at the moment; try again."
            )
        await self._streams.acquire()  # does not wait
        self._has_place = True

    def _give_place_back(self) -> None:
        if self._streams is not None and self._has_place:
            self._has_place = False
            self._streams.release()

    def _know_format(self) -> str:
        self._media_type = media_type_of(bytes(self._pending[:HEAD_BYTES]))
        if self._media_type is None:
            raise DocfleetError(ErrorCode.UNSUPPORTED_FORMAT)
        return self._media_type

    async def _hand_over(self) -> None:
        await self._thread_is_done()
        piece, self._pending = bytes(self._pending), bytearray()
        if self._name is not None and self._upload is None:
            media_type = self._media_type or ""
            self._upload = self._storage.objects.open_upload(self._name, media_type=media_type)
        self._in_thread = asyncio.get_running_loop().run_in_executor(self._storage.threads, self._take, piece)

    def _take(self, piece: bytes) -> None:
        self._hash.update(piece)
        if self._upload is not None:
            self._upload.write(piece)

    async def _thread_is_done(self) -> None:
        if self._in_thread is not None:
            running, self._in_thread = self._in_thread, None
            try:
                await asyncio.shield(running)
            except asyncio.CancelledError:
                self._in_thread = running  # it goes on: abandon() has to wait for it
                raise

    async def _run(self, call: Callable[[], None]) -> None:
        self._in_thread = asyncio.get_running_loop().run_in_executor(self._storage.threads, call)
        await self._thread_is_done()
