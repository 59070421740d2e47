"""The object store, over google-cloud-storage: create once, read by ranges, list, delete.

Every call blocks, so callers run it in a thread. Uploads carry `if_generation_match=0`: the same
name is never written twice, and a retry of an upload that got through is told so. Failures leave as
DocfleetError: OBJECT_MISSING, or STORAGE_UNAVAILABLE when another try may help, as where the bucket is missing.
"""

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import requests
import requests.adapters
from google.api_core import exceptions as google_exceptions
from google.api_core.retry import Retry
from google.auth import exceptions as auth_exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage  # type: ignore[attr-defined]
from google.cloud.exceptions import NotFound
from google.cloud.storage.exceptions import InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from docfleet.settings import ObjectSettings
from schemas.errors import DocfleetError, ErrorCode

#: Parts of a resumable upload; GCS takes multiples of 256 KiB. One is held in memory per upload.
UPLOAD_PART_BYTES: Final = 8 * 1024 * 1024


_DOCUMENT_NAME: Final = re.compile(r"jobs/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/document")
#: What all documents' names begin with.
DOCUMENTS_PREFIX: Final = "jobs/"
#: Names of one answer to a listing; GCS gives at most so many.
_PAGE_OBJECTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing shows it."""

    name: str
    generation: int
    created_at: datetime


def document_name(job_id: object) -> str:
    """Return the name of a job's document in the bucket."""
    return f"jobs/{job_id}/document"


def job_id_in(name: str) -> uuid.UUID | None:
    """Return whose document an object is by its name; None when it is no document."""
    found = _DOCUMENT_NAME.fullmatch(name)
    return uuid.UUID(found[1]) if found else None


class Upload:
    """One object on its way into the store (a resumable upload); holds one part in memory."""

    def __init__(self, name: str, writer: Any) -> None:
        self._name = name
        self._writer = writer

    def write(self, piece: bytes) -> None:
        """Take the next bytes; sends a part when one is full."""
        with _translated(self._name):
            self._writer.write(piece)

    def finish(self) -> None:
        """Send the rest: now the object exists."""
        with _translated(self._name):
            try:
                self._writer.close()
            except google_exceptions.PreconditionFailed:
                return  # an earlier try of ours got through

    def abandon(self) -> None:
        """Give the upload up: no object comes of it, not even a partial one."""
        with _translated(self._name):
            self._writer.terminate()


class ObjectStore:
    """One bucket. Safe to use from many threads at once."""

    def __init__(self, settings: ObjectSettings, *, connections: int = 32) -> None:
        self._timeout_seconds = settings.object_timeout_seconds
        self._retry = DEFAULT_RETRY.with_timeout(settings.object_timeout_seconds)
        self._client = _client(settings, connections)
        self._bucket = self._client.bucket(settings.bucket)

    def put(self, name: str, body: bytes, *, media_type: str) -> None:
        """Create the object from bytes at hand, in one request; leave it be when it is there already."""
        blob = self._bucket.blob(name)
        with _translated(name):
            try:
                blob.upload_from_string(
                    body,
                    content_type=media_type,
                    if_generation_match=0,
                    timeout=self._timeout_seconds,
                    retry=self._retry,
                    checksum=None,
                )
            except google_exceptions.PreconditionFailed:
                return  # an earlier try of ours got through

    def open_upload(self, name: str, *, media_type: str) -> "Upload":
        """Return an upload to write the object into part by part; nothing exists until it is finished."""
        blob = self._bucket.blob(name, chunk_size=UPLOAD_PART_BYTES)
        writer = blob.open(
            "wb", content_type=media_type, if_generation_match=0, timeout=self._timeout_seconds, retry=self._retry
        )
        return Upload(name, writer)

    def read(self, name: str, start: int, end: int) -> bytes:
        """Return the bytes from `start` up to, without, `end`; fewer at the end of the object."""
        with _translated(name):
            try:
                body = self._bucket.blob(name).download_as_bytes(
                    start=start,
                    end=end - 1,
                    timeout=self._timeout_seconds,
                    retry=self._retry,
                    checksum=None,
                    raw_download=True,
                )
            except NotFound as error:
                self._find_bucket(timeout_seconds=self._timeout_seconds, retry=self._retry)
                raise DocfleetError(ErrorCode.OBJECT_MISSING) from error
        return bytes(body)

    def delete(self, name: str, *, generation: int | None = None) -> None:
        """Delete the object, or only this generation of it; it may be gone already."""
        with _translated(name):
            try:
                self._bucket.blob(name).delete(
                    if_generation_match=generation, timeout=self._timeout_seconds, retry=self._retry
                )
            except (NotFound, google_exceptions.PreconditionFailed):
                return

    def listed(self, prefix: str, page_token: str | None = None) -> tuple[list[Listed], str | None]:
        """Return one page of the objects whose names begin so, and the token of the next page; None: it is the last."""
        with _translated(prefix):
            blobs = self._client.list_blobs(
                self._bucket,
                prefix=prefix,
                page_size=_PAGE_OBJECTS,
                page_token=page_token,
                fields="items(name,generation,timeCreated),nextPageToken",
                timeout=self._timeout_seconds,
                retry=self._retry,
            )
            page = [Listed(blob.name, int(blob.generation), blob.time_created) for blob in next(blobs.pages, ())]
        return page, blobs.next_page_token

    def ping(self) -> None:
        """Return when the bucket answers, by one small request without retries; raises when it does not."""
        with _translated("ping"):
            self._find_bucket(timeout_seconds=2.0, retry=None)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _find_bucket(self, *, timeout_seconds: float, retry: Retry | None) -> None:
        """Return when there is the bucket; else NotFound. A listing, since it needs no right to the bucket itself."""
        blobs = self._client.list_blobs(
            self._bucket, prefix="ping", max_results=1, fields="items(name)", timeout=timeout_seconds, retry=retry
        )
        next(blobs.pages, None)


def _client(settings: ObjectSettings, connections: int) -> storage.Client:
    if settings.storage_emulator_host:
        os.environ["STORAGE_EMULATOR_HOST"] = settings.storage_emulator_host  # where the library looks for it
        session = requests.Session()
        session.trust_env = False
        client = storage.Client(
            project="docfleet",
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            _http=session,
        )
    else:
        client = storage.Client()
    adapter = requests.adapters.HTTPAdapter(pool_connections=connections, pool_maxsize=connections)
    client._http.mount("https://", adapter)  # noqa: SLF001  # documented way to size the pool
    client._http.mount("http://", adapter)  # noqa: SLF001
    return client


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except NotFound as error:  # whoever asks for an object has looked for the bucket
        sentence = "The object store has no bucket of that name (DOCFLEET_BUCKET)."
        raise DocfleetError(ErrorCode.STORAGE_UNAVAILABLE, sentence) from error
    except (
        google_exceptions.GoogleAPIError,
        InvalidResponse,  # to a part of an upload: the library does not turn it into one of those above
        auth_exceptions.GoogleAuthError,
        requests.RequestException,
        ConnectionError,
        TimeoutError,
    ) as error:
        sentence = f"The object store did not answer for {name} ({type(error).__name__})."
        raise DocfleetError(ErrorCode.STORAGE_UNAVAILABLE, sentence) from error
