"""What is told about a job, and that it is told: events delivered, retries and dead letters published.

A message may be acknowledged once these calls return, and not before: while Kafka is away they go on
trying, until the worker is abandoned at the end of a stop.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from confluent_kafka import KafkaError, KafkaException

from classifier_worker.core.retry import GiveUp, Retry
from classifier_worker.handoff import Delivery
from docfleet import metrics, tracing
from docfleet.fault_points import reached
from docfleet.kafka import Delivered
from schemas import codec, events, topics
from schemas.errors import DocfleetError, ErrorCode

logger = logging.getLogger(__name__)

#: Pause between two tries to get an event out while Kafka is away, and how soon a stop is noticed.
_PAUSE_SECONDS: Final = 0.5


class Events(Protocol):
    """Where events go."""

    def publish(
        self,
        topic: topics.Topic,
        event: events.Event,
        *,
        traceparent: str | None = None,
        extra_headers: codec.Headers | None = None,
    ) -> Future[Delivered]:
        """Return the future of the event's delivery."""
        ...

    def forward(
        self, topic: topics.Topic, key: bytes | None, value: bytes | None, headers: codec.Headers
    ) -> Future[Delivered]:
        """Return the future of the delivery of a message as it is."""
        ...


class HandedBack(Exception):
    """The job is given back unfinished, because this worker stops."""


class MessageTooLarge(Exception):
    """A message that Kafka does not take, however often it is sent."""


@dataclass(frozen=True, slots=True)
class JobMessage:
    """A received message, seen as the job that it asks for."""

    delivery: Delivery
    span: tracing.Span  #: the job's, in the trace of the request

    def claim(self) -> None:
        """Take the right to end the job; TakenOver when another thread has it."""
        self.delivery.ending.claim()

    @property
    def exemplar(self) -> dict[str, str]:
        """What leads from a measurement to this job."""
        request = self.delivery.request
        return {} if request is None else metrics.exemplar(request.job_id, self.span.traceparent)

    def took(self, stage: str, seconds: float) -> None:
        """Count the time of one of the job's stages."""
        metrics.STAGE_SECONDS.labels(stage).observe(max(0.0, seconds), self.exemplar)

    def event(self, event_type: type[events.Event], **more: Any) -> events.Event:
        """Return an event about this job that happens now."""
        request = self.delivery.request
        if request is None:
            raise ValueError("a message that is no job has no events")
        return event_type(
            job_id=request.job_id,
            tenant_id=request.tenant_id,
            attempt=request.attempt,
            accepted_at=request.accepted_at,
            occurred_at=datetime.now(UTC),
            **more,
        )


class Teller:
    """Tells what becomes of jobs; safe to use from many threads. `abandoned` ends every wait by HandedBack."""

    def __init__(self, channel: Events, abandoned: threading.Event) -> None:
        self._channel = channel
        self._abandoned = abandoned

    def try_again(self, job: JobMessage, retry: Retry, error: DocfleetError) -> None:
        """Publish the next attempt; only then is this message acknowledged, so its counts outlive this worker."""
        now = datetime.now(UTC)
        not_before = codec.utc(now + timedelta(seconds=retry.delay_seconds))
        headers = [(topics.NOT_BEFORE_HEADER, not_before.encode())]
        request = dataclasses.replace(retry.request, occurred_at=now)
        self._deliver(lambda: self.publish(topics.RETRY, job, request, headers))
        reached("after_retry")
        job.span.set({"docfleet.outcome": "retried"})
        job.span.fail(error.code, error.sentence)
        metrics.JOBS_RETRIED.labels(error.code).inc(exemplar=job.exemplar)
        logger.warning(
            "job will be tried again: %s",
            error.sentence,
            extra={
                "action": "job_retried",
                "attempt": request.attempt,
                "not_before": not_before,
            },
        )

    def give_up(self, job: JobMessage, decision: GiveUp) -> bool:
        """Say that the job failed, and why; return whether its message went to the dead letter topic too."""
        if decision.is_dead_letter:
            self.dead_letter(job, decision.error_code, decision.sentence)
        event = job.event(events.ClassificationFailed, error_code=decision.error_code, error=decision.sentence)
        self.tell(job, event, outcome="failed", error_code=decision.error_code)
        job.span.fail(decision.error_code, decision.sentence)
        return decision.is_dead_letter

    def dead_letter(self, job: JobMessage, error_code: ErrorCode, sentence: str) -> None:
        """Put the message, as it came, into the dead letter topic with where it was and what is wrong.

        A message that is too large to be sent on, such as one that was compressed by a client with other limits,
        stays where it was: then only its job's id and what is wrong are sent.
        """
        message, ticket = job.delivery.message, job.delivery.ticket
        told = {
            topics.DLQ_ERROR_CODE_HEADER: error_code,
            topics.DLQ_ERROR_HEADER: sentence,
            topics.DLQ_TOPIC_HEADER: ticket.partition[0],
            topics.DLQ_PARTITION_HEADER: str(ticket.partition[1]),
            topics.DLQ_OFFSET_HEADER: str(ticket.offset),
        }
        with tracing.span(f"send {topics.DLQ.name}", "producer", attributes=tracing.messaging("send", topics.DLQ.name)):
            try:
                self._forward_dead(message.key, message.value, message.headers, told)
            except MessageTooLarge:
                told[topics.DLQ_ERROR_HEADER] += " The message is too large to be kept with this."
                request = job.delivery.request
                self._forward_dead(None if request is None else str(request.job_id).encode(), None, [], told)
        metrics.JOBS_DEAD_LETTERED.labels(error_code).inc(exemplar=job.exemplar)

    def tell(self, job: JobMessage, event: events.Event, *, outcome: str, error_code: str = "") -> None:
        """Deliver the job's terminal event."""
        before = time.monotonic()
        reached("before_result")
        self._deliver(lambda: self.publish(topics.EVENTS, job, event))
        reached("after_result")
        job.span.set({"docfleet.outcome": outcome})
        job.took("publish", time.monotonic() - before)
        metrics.JOBS_FINISHED.labels(outcome, error_code).inc(exemplar=job.exemplar)
        seconds = (event.occurred_at - event.accepted_at).total_seconds()
        metrics.JOB_SECONDS.labels(outcome).observe(max(0.0, seconds), job.exemplar)
        logger.info(
            "job %s",
            outcome,
            extra={
                "action": f"job_{outcome}",
                "attempt": event.attempt,
                "error_code": error_code,
            },
        )

    def publish(
        self, topic: topics.Topic, job: JobMessage, event: events.Event, headers: codec.Headers | None = None
    ) -> Future[Delivered]:
        """Send an event about the job without waiting for its delivery."""
        return self._channel.publish(topic, event, traceparent=job.span.traceparent, extra_headers=headers)

    def _forward_dead(
        self, key: bytes | None, value: bytes | None, headers: codec.Headers, told: dict[str, str]
    ) -> None:
        headers = [*headers, *((name, text.encode()) for name, text in told.items())]
        self._deliver(lambda: self._channel.forward(topics.DLQ, key, value, headers))

    def _deliver(self, send: Callable[[], Future[Delivered]]) -> None:
        """Send until it is delivered or this worker stops; the message must not be acknowledged before."""
        while True:
            future = send()
            try:
                while not self._is_done(future):
                    if self._abandoned.is_set():
                        raise HandedBack
            except KafkaException as error:
                fault: KafkaError = error.args[0]
                if fault.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    raise MessageTooLarge from error
                if fault.fatal() or fault.code() == KafkaError._FATAL:  # noqa: SLF001  # the library's own name
                    raise
                logger.warning("event not delivered: %s", fault.str(), extra={"action": "delivery_failed"})
            else:
                return
            if self._abandoned.wait(_PAUSE_SECONDS):
                raise HandedBack

    def _is_done(self, future: Future[Delivered]) -> bool:
        with suppress(TimeoutError):
            future.result(_PAUSE_SECONDS)
            return True
        return False
