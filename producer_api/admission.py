"""From a form to a durable job: idempotency, quota and job row in one transaction, one answer.

Knows no HTTP and no SQL. The order is: lock the Idempotency-Key, take the body in, store the object, admit. Whatever
fails on the way leaves nothing behind: no object, no lock, no quota spent, no job. Only where nobody knows whether the
transaction gets through does the object stay: for the job, or else for the reaper.
"""

import asyncio
import hashlib
import json
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from docfleet import metrics, tracing
from docfleet.api_keys import ApiKey
from docfleet.fault_points import reached
from docfleet.objects import document_name
from producer_api.document import DocumentWriter, Storage
from producer_api.keys import Terms
from producer_api.outbox import Outbox
from producer_api.refusals import quota_exceeded, rate_limited, still_running
from producer_api.store import UNAVAILABLE, Admitted, FirstAnswer, JobRow, Lock, NewJob, Store, Undecided
from producer_api.upload import Form
from schemas.errors import DocfleetError, ErrorCode

_log = logging.getLogger(__name__)

Receive = Callable[[DocumentWriter], Awaitable[Form]]

QUEUED: Final = "Waiting for a worker"
_TO_BE_FETCHED: Final = "Waiting for the document at file_url"


@dataclass(frozen=True, slots=True)
class Leases:
    """Seconds for which a living process holds what it works on, and remembers a key's quota and rate."""

    idempotency_seconds: float
    publish_seconds: float
    terms_seconds: float


class Admission:
    """Decides whether a POST becomes a job, and makes it one."""

    def __init__(
        self,
        store: Store,
        storage: Storage,
        outbox: Outbox,
        *,
        leases: Leases,
        uploads_max: int,
        wake_fetcher: Callable[[], None],
        on_held_back: Callable[[], None],
    ) -> None:
        self._store = store
        self._terms = Terms(store, cache_seconds=leases.terms_seconds)
        self._storage = storage
        self._outbox = outbox
        self._leases = leases
        self._streams = asyncio.Semaphore(uploads_max)
        self._wake_fetcher = wake_fetcher
        self._on_held_back = on_held_back

    async def check_rate(self, key: ApiKey) -> None:
        """Count one request of the key; RATE_LIMITED over its rate."""
        if (await self._terms.of(key.key_id)).rate_per_minute is None:
            return
        wait_seconds = await self._store.take_rate(key.key_id)
        if wait_seconds is not None:
            raise rate_limited(wait_seconds)

    async def accept(self, key: ApiKey, receive: Receive, *, idempotency_key: str | None) -> dict[str, Any]:
        """Return the body of the 202. The job goes on in the current trace.

        Args:
            key: who asks.
            receive: takes the request's body in, the document's bytes into the writer it is given.
            idempotency_key: the client's, if any.

        """
        if idempotency_key is None:
            await self._look_at_quota(key)
            return await self._take_in(key, receive, None)
        lock = Lock(key.key_id, idempotency_key, uuid.uuid4())
        first = await self._lock(lock)
        if first is not None:
            return await self._repeat(first, receive)
        async with self._held(lock):
            await self._look_at_quota(key)
            return await self._take_in(key, receive, lock)

    async def _look_at_quota(self, key: ApiKey) -> None:
        """Refuse before the body is read where the quota is used up; the transaction decides in the end."""
        terms = await self._terms.of(key.key_id)
        if terms.quota_used >= terms.quota_limit:
            await self._refuse_over_quota(key)

    async def _refuse_over_quota(self, key: ApiKey) -> None:
        terms = await self._terms.fresh(key.key_id)
        if terms.quota_used >= terms.quota_limit:
            raise quota_exceeded(current=terms.quota_used, limit=terms.quota_limit)

    async def _lock(self, lock: Lock) -> FirstAnswer | None:
        """Take the Idempotency-Key and return None, or the first answer; IDEMPOTENCY_IN_PROGRESS while it runs."""
        if await self._store.lock(lock, self._leases.idempotency_seconds):
            return None
        first = await self._store.first_answer(lock.key_id, lock.idempotency_key)
        if first is None or first.response is None:
            raise still_running()
        return first

    async def _repeat(self, first: FirstAnswer, receive: Receive) -> dict[str, Any]:
        writer = DocumentWriter(self._storage, None, self._streams)
        try:
            form = await receive(writer)
        finally:
            await asyncio.shield(writer.abandon())
        if _fingerprint(form) != first.fingerprint or first.response is None:
            raise DocfleetError(ErrorCode.IDEMPOTENCY_KEY_REUSED)
        return first.response

    async def _take_in(self, key: ApiKey, receive: Receive, lock: Lock | None) -> dict[str, Any]:
        job_id = uuid.uuid4()
        with tracing.about(tracing.current_traceparent(), job_id):
            return await self._become(job_id, key, receive, lock)

    async def _become(self, job_id: uuid.UUID, key: ApiKey, receive: Receive, lock: Lock | None) -> dict[str, Any]:
        writer = DocumentWriter(self._storage, document_name(job_id), self._streams)
        try:
            form = await receive(writer)
        except BaseException:
            await asyncio.shield(writer.abandon())
            raise
        job = _new_job(job_id, form)
        # The body is here: from now on a client that goes away changes nothing.
        settling = asyncio.create_task(self._settle(key, job, lock, writer))
        try:
            return await asyncio.shield(settling)
        except asyncio.CancelledError:
            await asyncio.wait({settling})
            raise

    async def _settle(self, key: ApiKey, job: NewJob, lock: Lock | None, writer: DocumentWriter) -> dict[str, Any]:
        try:
            if job.file_url is None:
                await writer.store()
            admitted = await self._admit(key, job, lock)
        except Undecided as error:
            # The job may be durable or become so, so its object must stay.
            extra = {"action": "orphan", "job_id": job.job_id, "object": job.object_name, "why": str(error.__cause__)}
            _log.warning("nobody knows whether the transaction gets through", extra=extra)
            raise DocfleetError(ErrorCode.SERVICE_UNAVAILABLE) from error.__cause__
        except BaseException:
            await writer.abandon()
            raise
        self._announce(key, job, admitted)
        return {
            "job_id": str(job.job_id),
            "status": "processing",
            "message": "Classification started",
            "quota_remaining": admitted.remaining,
        }

    async def _admit(self, key: ApiKey, job: NewJob, lock: Lock | None) -> Admitted:
        reached("before_admit")
        admitted = await self._store.admit(key, job, lock, self._leases.publish_seconds)
        reached("after_admit")
        if admitted is not None:
            return admitted
        await self._refuse_over_quota(key)
        raise still_running()  # the lock ran out while this process was stalled, and another request has it

    def _announce(self, key: ApiKey, job: NewJob, admitted: Admitted) -> None:
        metrics.JOBS_ACCEPTED.labels("url" if job.file_url else "file").inc()
        _log.info("accepted", extra={"action": "accept", "job_id": job.job_id, "size_bytes": job.size_bytes})
        if job.file_url is not None:
            self._wake_fetcher()
            return
        if admitted.is_held_back:
            self._on_held_back()
            return
        row = JobRow(
            job_id=job.job_id,
            tenant_id=key.tenant_id,
            attempt=1,
            created_at=admitted.created_at,
            last_seen_at=admitted.created_at,
            object_name=job.object_name,
            media_type=job.media_type,
            size_bytes=job.size_bytes,
            categories=list(job.categories),
            none_of_these=job.none_of_these,
            evidence=job.evidence,
            traceparent=job.traceparent,
            file_url=None,
            fetch_attempts=0,
        )
        self._outbox.publish(row)

    @asynccontextmanager
    async def _held(self, lock: Lock) -> AsyncIterator[None]:
        """Keep the lock while the request lives; give it back when no job came of it."""
        renewing = asyncio.create_task(self._renew(lock))
        try:
            yield
        except BaseException:
            await asyncio.shield(self._release(lock))
            raise
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing

    async def _renew(self, lock: Lock) -> None:
        while True:
            await asyncio.sleep(self._leases.idempotency_seconds / 3)
            try:
                await self._store.renew(lock, self._leases.idempotency_seconds)
            except UNAVAILABLE as error:
                _log.warning("a lock was not renewed", extra={"action": "renew", "why": str(error)})

    async def _release(self, lock: Lock) -> None:
        try:
            await self._store.release(lock)
        except UNAVAILABLE as error:
            _log.warning("a lock runs out by itself", extra={"action": "release", "why": str(error)})


def _new_job(job_id: uuid.UUID, form: Form) -> NewJob:
    document = form.document
    return NewJob(
        job_id=job_id,
        object_name=document_name(job_id),
        media_type=document.media_type if document else None,
        size_bytes=document.size_bytes if document else None,
        categories=form.categories,
        none_of_these=form.options.none_of_these,
        evidence=form.options.evidence,
        traceparent=tracing.current_traceparent() or tracing.new_trace(),
        file_url=form.file_url,
        fingerprint=_fingerprint(form),
        progress=QUEUED if document else _TO_BE_FETCHED,
    )


def _fingerprint(form: Form) -> bytes:
    """Return the SHA-256 over file bytes or URL, the categories, and those options that are not at their default."""
    source = form.document.sha256.hex() if form.document else form.file_url
    body = {"file" if form.document else "url": source, "categories": form.categories} | form.options.changed()
    return hashlib.sha256(json.dumps(body).encode()).digest()
