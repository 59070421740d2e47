"""No job is stuck: what has given no sign of life for too long is published again, and fails after too many attempts.

A job that merely waits in a long backlog is left alone: its message is still ahead of what the workers have
committed. And nobody is judged by old news: a sweep is only made while Kafka answers and the projector, which
writes the signs of life down, has read everything that was there at the sweep before.
"""

import asyncio
import logging
from functools import partial
from typing import Final

from confluent_kafka import Consumer, KafkaException

from docfleet import metrics, tracing
from docfleet.kafka import client_config
from docfleet.offsets import ANSWER_SECONDS, ends_of, is_read, partitions_of, watermarks_of
from docfleet.settings import KafkaSettings
from docfleet.threads import in_thread
from producer_api.outbox import Outbox
from producer_api.store import UNAVAILABLE, JobRow, Position, Store
from schemas.errors import ERRORS, ErrorCode
from schemas.topics import EVENTS, JOBS, STATUS_GROUP, WORKER_GROUP, Topic

_log = logging.getLogger(__name__)

_BATCH: Final = 500


class Offsets:
    """What Kafka says of offsets. Every call blocks for up to a minute; KafkaException when no broker answers.

    A consumer that never subscribes: it reads the workers' committed offsets without being a member of their group.
    (AdminClient.list_consumer_group_offsets of confluent-kafka 2.16 crashes the process while a coordinator loads.)
    """

    def __init__(self, settings: KafkaSettings) -> None:
        quiet = {"error_cb": lambda _error: None, "log_level": 0}
        self._consumer = Consumer(client_config(settings) | {"group.id": WORKER_GROUP} | quiet)

    def of_jobs(self) -> list[Position]:
        """Return each partition of docfleet.jobs."""
        partitions = partitions_of(self._consumer, JOBS.name)
        committed = {t.partition: max(0, t.offset) for t in self._consumer.committed(partitions, ANSWER_SECONDS)}
        return [
            Position(t.partition, committed.get(t.partition, 0), *watermarks_of(self._consumer, t)) for t in partitions
        ]

    def ends_of(self, topic: Topic) -> dict[int, int]:
        """Return the next offset of each partition of a topic that has anything in it."""
        return ends_of(self._consumer, partitions_of(self._consumer, topic.name))

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()


async def has_projector_read(store: Store, topic: Topic, ends: dict[int, int]) -> bool:
    """Whether the table of jobs says all that stands below these offsets of a topic."""
    offsets = await store.projector_offsets(STATUS_GROUP, topic.name)
    return is_read(offsets, ends)


class Sweeper:
    """Looks for jobs without a sign of life every `interval_seconds`; any number of replicas may."""

    def __init__(
        self, store: Store, outbox: Outbox, offsets: Offsets, *, interval_seconds: float, silence_seconds: float
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._offsets = offsets
        self._interval_seconds = interval_seconds
        self._silence_seconds = silence_seconds
        self._ends_before: dict[int, int] | None = None

    async def run(self, max_attempts: int) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self._look(max_attempts)
            except (KafkaException, *UNAVAILABLE) as error:
                self._ends_before = None
                _log.warning("no sweep", extra={"action": "sweep", "why": str(error)})
            await asyncio.sleep(self._interval_seconds)

    async def _look(self, max_attempts: int) -> None:
        positions = await in_thread(self._offsets.of_jobs)
        before, self._ends_before = self._ends_before, await in_thread(partial(self._offsets.ends_of, EVENTS))
        if before is None:
            return
        if not await has_projector_read(self._store, EVENTS, before):
            _log.warning("no sweep while the projector is behind", extra={"action": "sweep"})
            return
        await self._store.sweep_refused(self._silence_seconds, _BATCH)
        jobs = await self._store.sweep(positions, self._silence_seconds, _BATCH)
        for job in jobs:
            if job.attempt <= max_attempts:
                self._again(job)
        untold = [job for job in jobs if job.attempt > max_attempts and not await self._has_told_end(job)]
        if untold:
            await self._store.take_back_attempts(untold)

    def _again(self, job: JobRow) -> None:
        with tracing.about(job.traceparent, job.job_id):
            _log.warning("no sign of life: published again", extra={"action": "sweep", "attempt": job.attempt})
        metrics.RELAYED.labels("sweep").inc()
        self._outbox.publish(job)

    async def _has_told_end(self, job: JobRow) -> bool:
        """Say that the job has failed; whether that is in Kafka, else the next sweep says it again."""
        extra = {"action": "sweep", "attempt": job.attempt}
        with tracing.about(job.traceparent, job.job_id):
            _log.error("no sign of life, and no attempt left", extra=extra)
            metrics.RELAYED.labels("exhausted").inc()
            sentence = ERRORS[ErrorCode.ATTEMPTS_EXHAUSTED].sentence
            try:
                await self._outbox.publish_failed(job, ErrorCode.ATTEMPTS_EXHAUSTED, sentence)
            except Exception as error:  # noqa: BLE001  # a registry that is away raises its HTTP client's errors
                _log.warning("a failure is not told yet", extra=extra | {"why": str(error)})
                return False
        return True
