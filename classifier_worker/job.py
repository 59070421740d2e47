"""One job, from its message to its terminal event: started, read, classified, told, acknowledged.

Owns what an exception means for the job (an ErrorCode, then `core.retry`'s decision) and the order that
makes it safe: an event is delivered before its message is acknowledged, and nothing is acknowledged
while Kafka is away. Whom it works with comes from outside, by the Protocols below. The same job may run
twice at once, after a rebalance or a sweep: both give the same result under the same event id. In one worker
a delivery is ended once, by whoever claims its `Ending`.
"""

import dataclasses
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from classifier_worker.core.answer import PageAnswer, Question
from classifier_worker.core.fusion import PageWeights
from classifier_worker.core.page import Document, Page, UnreadPage
from classifier_worker.core.result import Asked, build_result
from classifier_worker.core.retry import GiveUp, RetryPolicy, after_failure
from classifier_worker.ending import Ending, TakenOver
from classifier_worker.handoff import Delivery
from classifier_worker.outcome import Events, HandedBack, JobMessage, MessageTooLarge, Teller
from classifier_worker.reader.reading import OnPage, ReadCancelled, Source
from classifier_worker.reader.wire import ReadRequest
from classifier_worker.stored_document import Objects, StoredDocument
from docfleet import metrics, tracing
from docfleet.fault_points import reached
from schemas import events, topics
from schemas.errors import DocfleetError, ErrorCode

logger = logging.getLogger(__name__)

#: How soon a stop is noticed while a job waits for the model.
_PAUSE_SECONDS: Final = 0.5


class Intake(Protocol):
    """Where messages end."""

    def ack(self, delivery: Delivery) -> None:
        """Done with."""

    def reject(self, delivery: Delivery) -> None:
        """Given up: it is in the dead letter topic."""

    def release(self, delivery: Delivery) -> None:
        """Unfinished: somebody else's now."""


class Reader(Protocol):
    """What turns a document into pages."""

    def read(
        self,
        source: Source,
        request: ReadRequest,
        *,
        on_page: OnPage | None = None,
        cancelled: threading.Event | None = None,
    ) -> Document:
        """Return the document's first pages; `on_page` hears of each as it comes."""
        ...


class Classifier(Protocol):
    """What says how well each category fits a page."""

    def submit(self, page: Page, question: Question) -> Future[PageAnswer]:
        """Return the future answer, its probabilities in the order of the question's categories."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """Everything that a job touches."""

    intake: Intake
    events: Events
    objects: Objects
    reader: Reader
    classifier: Classifier


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRules:
    """How jobs are done, the same for all of them."""

    read: ReadRequest
    retry: RetryPolicy
    model: str  #: the bundle, `name@version`, as results tell it
    page_weights: PageWeights
    model_seconds: float  #: most time that a page may wait for its classification
    consumer_group: str = topics.WORKER_GROUP  #: as spans tell it


class _Interrupted(Exception):
    """The job should stop: this worker stops, or the job holds others back."""


class JobRunner:
    """Runs jobs, one a call, on as many threads as call it."""

    def __init__(self, neighbours: Neighbours, rules: JobRules) -> None:
        self._neighbours = neighbours
        self.rules = rules
        self._abandoned = threading.Event()
        self._running: set[Ending] = set()
        self._teller = Teller(neighbours.events, self._abandoned)

    def abandon(self) -> None:
        """Hand back every job that is running, as soon as it notices; for the end of a stop."""
        self._abandoned.set()
        for ending in self._running.copy():
            ending.cancelled.set()

    def run(self, delivery: Delivery) -> None:
        """Do the job of one message to its end, and ack, reject or release the message."""
        self._running.add(delivery.ending)
        if self._abandoned.is_set():
            delivery.ending.cancelled.set()
        try:
            with self._traced("process", delivery) as job, suppress(HandedBack):
                self._settle(job, self._run)
        except TakenOver:
            return
        finally:
            self._running.discard(delivery.ending)
            delivery.ending.is_left = True

    def take_over(self, delivery: Delivery) -> None:
        """End a job whose own thread does not; TakenOver when that thread has begun to, HandedBack in a stop."""
        with self._traced("take over", delivery) as job:
            job.claim()
            self._settle(job, self._end_overdue)

    @contextmanager
    def _traced(self, what: str, delivery: Delivery) -> Iterator[JobMessage]:
        """Make the body a span of the request's trace, and the job what log records of this thread are about."""
        (topic, partition), request = delivery.ticket.partition, delivery.request
        attributes = tracing.messaging("process", topic) | tracing.place(partition, delivery.ticket.offset)
        attributes["messaging.consumer.group.name"] = self.rules.consumer_group
        if request is not None:
            attributes |= {"docfleet.job_id": str(request.job_id), "docfleet.attempt": request.attempt}
        with (
            delivery.as_subject(),
            tracing.span(f"{what} {topic}", "consumer", attributes=attributes) as span,
        ):
            yield JobMessage(delivery, span)

    def _settle(self, job: JobMessage, work: Callable[[JobMessage], bool]) -> None:
        """Do the work and ack the message, or reject it when the work says so; release it when there is no end."""
        delivery = job.delivery
        try:
            is_given_up = self._to_an_end(job, work)
        except TakenOver:
            logger.info("a job ended too late", extra={"action": "job_overtaken", "ticket": delivery.ticket})
            raise
        except BaseException as error:
            self._neighbours.intake.release(delivery)
            if isinstance(error, HandedBack):
                logger.info("job handed back", extra={"action": "job_released", "ticket": delivery.ticket})
            raise
        else:
            (self._neighbours.intake.reject if is_given_up else self._neighbours.intake.ack)(delivery)

    def _to_an_end(self, job: JobMessage, work: Callable[[JobMessage], bool]) -> bool:
        """Do the work; a job of which Kafka does not take what is to be told fails."""
        try:
            return work(job)
        except MessageTooLarge:  # the end is claimed
            sentence = "The result, or the next attempt, is too large for a message."
            return self._teller.give_up(job, GiveUp(ErrorCode.INTERNAL_ERROR, sentence, is_dead_letter=True))

    def _run(self, job: JobMessage) -> bool:
        """Do the job and return whether it ended as a dead letter."""
        request = job.delivery.request
        if request is None:
            job.claim()
            logger.error("undecodable message", extra={"action": "dead_lettered", "reason": job.delivery.fault})
            self._teller.dead_letter(job, ErrorCode.INVALID_REQUEST, job.delivery.fault)
            return True
        queued_at = request.accepted_at if request.attempt == 1 else request.occurred_at
        job.took("queue", time.time() - queued_at.timestamp())
        # Not waited for: the terminal event follows it in the same partition of the same idempotent producer.
        self._teller.publish(topics.EVENTS, job, job.event(events.ClassificationStarted))
        reached("after_start")
        try:
            result = self._classify(job, request)
        except (ReadCancelled, _Interrupted) as error:
            if self._abandoned.is_set():
                raise HandedBack from error
            job.claim()
            return self._end_overdue(job)
        except DocfleetError as error:
            return self._fail(job, request, error)
        except Exception as error:
            logger.exception("job failed unexpectedly", extra={"action": "job_failed"})
            sentence = f"Something unexpected went wrong here ({type(error).__name__})."
            return self._fail(job, request, DocfleetError(ErrorCode.INTERNAL_ERROR, sentence))
        job.claim()
        self._teller.tell(job, job.event(events.ClassificationCompleted, result=result), outcome="completed")
        return False

    # --- to a result ---

    def _classify(self, job: JobMessage, request: events.ClassificationRequested) -> str:
        """Return the result as JSON text, its keys and scores in the order of the contract."""
        asked = Asked(request.categories, request.none_of_these, is_evidence_wanted=request.evidence)
        question = Question(asked.categories, asked.is_evidence_wanted, asked.is_none_told)
        answers: list[Future[PageAnswer] | None] = []
        pages_max = self.rules.read.max_pages

        def on_page(page: Page | UnreadPage, total_pages: int) -> None:
            classifier = self._neighbours.classifier
            if isinstance(page, Page) and page.ocr_seconds:
                tracing.record("ocr", page.ocr_seconds, attributes={"docfleet.page": page.number})
            with tracing.about(job.span.traceparent):  # it goes on when the document is read
                answers.append(classifier.submit(page, question) if isinstance(page, Page) else None)
            said = f"Processing page {page.number} of {min(pages_max, total_pages)}"
            self._teller.publish(topics.PROGRESS, job, job.event(events.ClassificationProgressed, progress=said))

        try:
            document = self._read(job, request, on_page)
            read_at = time.monotonic()
            result = build_result(
                document,
                self._await_all(document, answers, job.delivery.ending.cancelled),
                asked,
                page_weights=self.rules.page_weights,
                model=self.rules.model,
            )
            job.took("classify", time.monotonic() - read_at)
        finally:
            for future in answers:
                if future is not None:
                    future.cancel()  # of a job that failed meanwhile; a no-op on a finished one
        return json.dumps(result, ensure_ascii=False, allow_nan=False)

    def _read(self, job: JobMessage, request: events.ClassificationRequested, on_page: OnPage) -> Document:
        """Return the document's first pages, and count where the time went."""
        source = StoredDocument(self._neighbours.objects, request.object_name, request.size_bytes)
        cancelled = job.delivery.ending.cancelled
        try:
            with tracing.span("read") as span:
                document = self._neighbours.reader.read(source, self.rules.read, on_page=on_page, cancelled=cancelled)
                span.set({"docfleet.pages": len(document.pages)})
        finally:
            job.took("fetch", source.fetch_seconds)
        for stage, seconds in dataclasses.asdict(document.times).items():
            job.took(stage, seconds)
        return document

    def _await_all(
        self, document: Document, futures: list[Future[PageAnswer] | None], cancelled: threading.Event
    ) -> list[PageAnswer | None]:
        """Return the answers in the order of the pages; UNREADABLE_DOCUMENT when no page could be read."""
        answers = [None if future is None else self._answer(future, cancelled) for future in futures]
        unread = [page for page in document.pages if isinstance(page, UnreadPage)]
        metrics.PAGES_CLASSIFIED.labels("classified").inc(len(answers) - len(unread))
        metrics.PAGES_CLASSIFIED.labels("unread").inc(len(unread))
        if len(unread) == len(answers):
            reason = next((page.error for page in unread if page.error), None)
            raise DocfleetError(
                ErrorCode.UNREADABLE_DOCUMENT, f"No page of the document could be read: {reason}" if reason else None
            )
        return answers

    def _answer(self, future: Future[PageAnswer], cancelled: threading.Event) -> PageAnswer:
        deadline = time.monotonic() + self.rules.model_seconds
        while True:
            with suppress(TimeoutError):
                return future.result(_PAUSE_SECONDS)
            if cancelled.is_set():
                raise _Interrupted
            if time.monotonic() > deadline:
                sentence = f"The model did not answer within {self.rules.model_seconds:g} s."
                raise DocfleetError(ErrorCode.MODEL_FAILED, sentence)

    # --- to another attempt or an end ---

    def _fail(self, job: JobMessage, request: events.ClassificationRequested, error: DocfleetError) -> bool:
        if self._abandoned.is_set():
            raise HandedBack from error  # the stop is the likely cause, and it does not count as an attempt
        job.claim()
        return self._try_again_or_give_up(job, request, error)

    def _end_overdue(self, job: JobMessage) -> bool:
        """End a job that was stopped because it held others back: it counts as a failed attempt."""
        request, why = job.delivery.request, job.delivery.ending.overdue_because
        if request is None:
            self._teller.dead_letter(job, ErrorCode.INVALID_REQUEST, job.delivery.fault)
            return True
        return self._try_again_or_give_up(job, request, DocfleetError(ErrorCode.INTERNAL_ERROR, why))

    def _try_again_or_give_up(
        self, job: JobMessage, request: events.ClassificationRequested, error: DocfleetError
    ) -> bool:
        if error.code is ErrorCode.READER_CRASHED:
            metrics.READER_DEATHS.labels("crashed").inc()
        randomness = random.random()  # noqa: S311  # jitter
        decision = after_failure(request, error.code, error.sentence, policy=self.rules.retry, randomness=randomness)
        if isinstance(decision, GiveUp):
            return self._teller.give_up(job, decision)
        self._teller.try_again(job, decision, error)
        return False
