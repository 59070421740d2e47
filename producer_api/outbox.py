"""Jobs' events to Kafka, and back into the rows where they are: off the loop, in batches, never awaited by a request.

A row says when its event is in Kafka. Until then it is claimed by whoever is publishing it; what fails
here is released, and the relay takes it up from the row.
"""

import asyncio
import logging
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from confluent_kafka import KafkaException

from docfleet import tracing
from docfleet.fault_points import reached
from docfleet.kafka import Delivered, Publisher
from docfleet.stopping import Deadline
from producer_api.store import UNAVAILABLE, JobRow, Published, Store
from schemas.errors import ErrorCode
from schemas.events import ClassificationFailed, ClassificationRequested
from schemas.topics import EVENTS, JOBS

_log = logging.getLogger(__name__)

_BATCH: Final = 500
_PAUSE_SECONDS: Final = 1.0


class Outbox:
    """Publishes jobs. `run` is its loop; `publish` only queues."""

    def __init__(self, publisher: Publisher, store: Store) -> None:
        self._publisher = publisher
        self._store = store
        self._queue: asyncio.Queue[JobRow] = asyncio.Queue()
        self._delivered: list[Published] = []
        self._failed: list[JobRow] = []
        self._settled = asyncio.Event()
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def publish(self, job: JobRow) -> None:
        """Take a job whose row this process has claimed; its event is on the way when this returns."""
        self._open += 1
        self._idle.clear()
        self._queue.put_nowait(job)

    @property
    def waiting(self) -> int:
        """How many jobs were taken and are not known to be in Kafka, or not to be."""
        return self._open

    async def publish_failed(self, job: JobRow, code: ErrorCode, sentence: str) -> None:
        """Say that the job has failed; raises when that did not get into Kafka, with a registry away in any way."""
        event = ClassificationFailed(
            job_id=job.job_id,
            tenant_id=job.tenant_id,
            attempt=job.attempt,
            accepted_at=job.created_at,
            occurred_at=datetime.now(UTC),
            error_code=code,
            error=sentence,
        )
        future = await asyncio.to_thread(self._publisher.publish, EVENTS, event, traceparent=job.traceparent)
        await asyncio.wrap_future(future)

    async def run(self) -> None:
        """Publish and mark until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hand_over_all())
            tasks.create_task(self._mark_all())

    async def drain(self, deadline: Deadline) -> int:
        """Wait until everything taken is settled and marked; return how many jobs are left to the relay."""
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline.remaining()):
                await self._idle.wait()
        return self._open

    async def _hand_over_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            jobs = [await self._queue.get()]
            while len(jobs) < _BATCH and not self._queue.empty():
                jobs.append(self._queue.get_nowait())
            # in a thread: encoding takes time, and the first use of a schema may ask the registry
            futures = await asyncio.to_thread(lambda batch: [self._hand_over(job) for job in batch], jobs)
            for job, future in zip(jobs, futures, strict=True):
                future.add_done_callback(lambda f, job=job: loop.call_soon_threadsafe(self._settle, job, f))  # type: ignore[misc]

    def _hand_over(self, job: JobRow) -> Future[Delivered]:
        event = ClassificationRequested(
            job_id=job.job_id,
            tenant_id=job.tenant_id,
            attempt=job.attempt,
            accepted_at=job.created_at,
            occurred_at=datetime.now(UTC),
            object_name=job.object_name,
            media_type=job.media_type or "",
            size_bytes=job.size_bytes or 0,
            categories=tuple(job.categories),
            none_of_these=job.none_of_these,
            evidence=job.evidence,
        )
        reached("before_produce")
        try:
            return self._publisher.publish(JOBS, event, traceparent=job.traceparent)
        except Exception as error:  # noqa: BLE001  # a registry that is away raises its HTTP client's errors
            failed: Future[Delivered] = Future()
            failed.set_exception(error)
            return failed

    def _settle(self, job: JobRow, future: Future[Delivered]) -> None:
        error = future.exception()
        if error is None:
            reached("after_produce")
            delivered = future.result()
            self._delivered.append(Published(job.job_id, job.last_seen_at, delivered.partition, delivered.offset))
        else:
            self._failed.append(job)
            level = logging.WARNING if isinstance(error, KafkaException) else logging.ERROR
            with tracing.about(job.traceparent, job.job_id):
                _log.log(level, "an event did not get out", extra={"action": "publish", "why": str(error)})
        self._settled.set()

    async def _mark_all(self) -> None:
        while True:
            await self._settled.wait()
            self._settled.clear()
            delivered, self._delivered = self._delivered, []
            failed, self._failed = self._failed, []
            try:
                if delivered:
                    await self._store.mark_published(delivered)
                    reached("after_mark")
                if failed:
                    await self._store.release_unpublished([job.job_id for job in failed])
                if swept := [job for job in failed if job.is_swept]:
                    await self._store.take_back_attempts(swept)
            except UNAVAILABLE as error:
                _log.warning("events are out but not marked", extra={"action": "mark", "why": str(error)})
                self._delivered, self._failed = delivered + self._delivered, failed + self._failed
                self._settled.set()
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                self._open -= len(delivered) + len(failed)
                if not self._open:
                    self._idle.set()
