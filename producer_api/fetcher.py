"""The loop that fetches file_urls: claims jobs from their rows, so that a crash lets another replica take over.

A fetch ends in one of three ways: the document is in the store and the relay has the job; another try is put off; or
ClassificationFailed is in Kafka, and until it is there the job stays claimed.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from docfleet import metrics, tracing
from producer_api.addresses import Allowed
from producer_api.document import DocumentWriter, Storage
from producer_api.fetch import FetchLimits, NoAnswer, fetch
from producer_api.outbox import Outbox
from producer_api.store import UNAVAILABLE, JobRow, Store
from schemas.errors import ERRORS, DocfleetError, ErrorCode

_log = logging.getLogger(__name__)

#: A fetch whose process died is taken over after this long.
_LEASE_SECONDS: Final = 15.0
_MOST_BACKOFF_SECONDS: Final = 60.0
_REPUBLISH_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class FetchRules:
    """How URLs are fetched: bounds of one try, tries, concurrency, addresses."""

    limits: FetchLimits
    allowed: Allowed
    attempts: int
    backoff_seconds: float
    concurrency: int
    look_seconds: float
    progress: str  #: of a job whose document is here


class ClaimLost(Exception):
    """The job ended otherwise, or another replica has it."""


class Fetcher:
    """Fetches up to `concurrency` documents at a time."""

    def __init__(
        self, store: Store, storage: Storage, outbox: Outbox, rules: FetchRules, *, wake_relay: Callable[[], None]
    ) -> None:
        self._store = store
        self._storage = storage
        self._outbox = outbox
        self._rules = rules
        self._wake_relay = wake_relay
        self._wake = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Look for work now: a job was just admitted or a fetch has ended."""
        self._wake.set()

    async def run(self) -> None:
        """Fetch until cancelled; then what is under way is put back for another replica."""
        try:
            while True:
                await self._start_what_is_due()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._rules.look_seconds):
                        await self._wake.wait()
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _start_what_is_due(self) -> None:
        self._wake.clear()
        free = self._rules.concurrency - len(self._running)
        if free <= 0:
            return
        try:
            jobs = await self._store.claim_fetches(free, _LEASE_SECONDS)
        except UNAVAILABLE as error:
            _log.warning("Postgres is away", extra={"action": "fetch", "why": str(error)})
            return
        for job in jobs:
            task = asyncio.create_task(self._settle(job))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a fetch died", exc_info=error, extra={"action": "fetch"})
        self.wake()

    async def _settle(self, job: JobRow) -> None:
        """Bring one claimed job on: published, put off, or failed."""
        told: tracing.Attributes = {"docfleet.job_id": str(job.job_id), "docfleet.attempt": job.fetch_attempts}
        with tracing.span(
            "fetch file_url", "client", parent=job.traceparent, job_id=job.job_id, attributes=told
        ) as span:
            await self._settle_in(span, job)

    async def _settle_in(self, span: tracing.Span, job: JobRow) -> None:
        extra = {"action": "fetch", "attempt": job.fetch_attempts}
        try:
            async with self._claimed(job):
                try:
                    await self._store_document(job)
                    outcome = "stored"
                except (ClaimLost, *UNAVAILABLE):
                    raise
                except Exception as error:  # what nobody foresaw would be met again and again
                    if not isinstance(error, (NoAnswer, DocfleetError)):
                        _log.exception("a try failed in an unforeseen way", extra=extra)
                    outcome = await self._put_off_or_refuse(job, error)
                    span.fail(type(error).__name__, str(error))
            span.set({"docfleet.outcome": outcome})
            metrics.URL_FETCHES.labels(outcome).inc()
            _log.info(outcome, extra=extra)
        except ClaimLost:
            _log.info("the job is no longer ours", extra=extra)
        except UNAVAILABLE as error:  # the claim runs out, and whoever has Postgres takes over
            _log.warning("Postgres is away", extra=extra | {"why": str(error)})
        except asyncio.CancelledError:
            with suppress(*UNAVAILABLE):
                await asyncio.shield(self._store.postpone_fetch(job, 0.0))
            raise

    async def _store_document(self, job: JobRow) -> None:
        if job.fetch_attempts > 1:
            await self._make_sure_of_claim(job)
            # The try before may have died after its object was stored; what is at the URL may have changed since.
            await asyncio.get_running_loop().run_in_executor(
                self._storage.threads, self._storage.objects.delete, job.object_name
            )
        writer = DocumentWriter(self._storage, job.object_name)
        try:
            document = await fetch(str(job.file_url), writer, self._rules.limits, self._rules.allowed)
            await writer.store()
        except BaseException:
            # An object that got stored may be another replica's by now; the next try deletes it.
            await asyncio.shield(writer.abandon(keep_stored=True))
            raise
        is_ours = await self._store.end_fetch(
            job, media_type=document.media_type, size_bytes=document.size_bytes, progress=self._rules.progress
        )
        if not is_ours:
            raise ClaimLost
        self._wake_relay()

    async def _put_off_or_refuse(self, job: JobRow, error: Exception) -> str:
        is_tried_again = job.fetch_attempts < self._rules.attempts
        if isinstance(error, DocfleetError):
            is_tried_again = error.is_transient  # our store is away
        if is_tried_again:
            backoff_seconds = self._rules.backoff_seconds * 2 ** min(job.fetch_attempts - 1, 16)
            delay_seconds = min(backoff_seconds, _MOST_BACKOFF_SECONDS) * random.uniform(0.75, 1.25)  # noqa: S311
            await self._store.postpone_fetch(job, delay_seconds)
            return "put off"
        code, sentence = _told(error)
        while True:
            await self._make_sure_of_claim(job)
            try:
                await self._outbox.publish_failed(job, code, sentence)
                break
            except Exception as away:  # noqa: BLE001  # a registry that is away raises its HTTP client's errors
                _log.warning("a failure is not told yet", extra={"action": "fetch", "why": str(away)})
                await asyncio.sleep(_REPUBLISH_SECONDS)
        await self._store.mark_refused(job.job_id)
        return "refused"

    async def _make_sure_of_claim(self, job: JobRow) -> None:
        """Return when the claim is ours now: Postgres may have been away, or this process still, for a whole lease."""
        if not await self._store.renew_fetch(job, _LEASE_SECONDS):
            raise ClaimLost

    @asynccontextmanager
    async def _claimed(self, job: JobRow) -> AsyncIterator[None]:
        """Renew the claim while the body runs; when it is lost, cancel the body and raise ClaimLost."""
        body = asyncio.current_task()
        is_lost = False

        async def renew() -> None:
            nonlocal is_lost
            while True:
                await asyncio.sleep(_LEASE_SECONDS / 3)
                with suppress(*UNAVAILABLE):
                    if not await self._store.renew_fetch(job, _LEASE_SECONDS) and body is not None:
                        is_lost = True
                        body.cancel()
                        return

        renewing = asyncio.create_task(renew())
        try:
            yield
        except asyncio.CancelledError:
            if is_lost and body is not None and body.uncancel() == 0:
                raise ClaimLost from None
            raise
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing


def _told(error: Exception) -> tuple[ErrorCode, str]:
    """Return what a client reads of the last try."""
    if isinstance(error, DocfleetError):
        return error.code, error.sentence
    if isinstance(error, NoAnswer):
        return ErrorCode.URL_UNREACHABLE, str(error)
    return ErrorCode.INTERNAL_ERROR, ERRORS[ErrorCode.INTERNAL_ERROR].sentence
