"""A job ends once in a worker, and its message only after its end is in Kafka."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from classifier_worker.breaker import Breaker
from classifier_worker.core.fusion import PageWeights
from classifier_worker.core.held import Bounds
from classifier_worker.core.retry import RetryPolicy
from classifier_worker.handoff import Delivery, HandOffOptions, HeadLimits, RawMessage
from classifier_worker.job import JobRules, JobRunner, Neighbours
from classifier_worker.partition_handoff import PartitionHandOff
from classifier_worker.reader.wire import ReadRequest
from docfleet.kafka import Publisher
from docfleet.settings import KafkaSettings
from docfleet.stack.ports import free_port
from docfleet.stopping import Deadline
from schemas import codec, events, topics
from schemas.errors import DocfleetError, ErrorCode
from tests.integration.worker.running import EventLog, request
from tests.waiting import PATIENCE_SECONDS, eventually_sync

PLACE = (topics.JOBS.name, 0)
RULES = JobRules(
    read=ReadRequest(max_pages=4, image_px=512, structure_pages=1, ocr=False),
    retry=RetryPolicy(5, 0.1, 1.0),
    model="none@1",
    page_weights=PageWeights(),
    model_seconds=5.0,
)


class Reader:
    """A reader that does what a test says; every document is broken in the end."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work

    def read(self, source: Any, request: Any, *, on_page: Any = None, cancelled: Any = None) -> Any:
        self.work()
        raise DocfleetError(ErrorCode.UNREADABLE_DOCUMENT)


@contextmanager
def running(kafka: str, work: Callable[[], object]) -> Iterator[tuple[PartitionHandOff, JobRunner, Delivery]]:
    """Yield a hand-off, a runner whose reader does `work`, and a delivery that has started."""
    settings = KafkaSettings.from_mapping({"KAFKA_BOOTSTRAP_SERVERS": kafka})
    publisher = Publisher(settings, source="classifier_worker", message_timeout_seconds=1.0)
    options = HandOffOptions(bounds=Bounds(10, 1 << 30), decode=_decode, head=HeadLimits(0.1, 1000, 0.1))
    handoff = PartitionHandOff(options)
    handoff.assign([PLACE])
    handoff.arrive(PLACE, 0, RawMessage(b"key", codec.encode(request()), []), 0.0)
    delivery = handoff.receive(1)
    assert delivery is not None
    neighbours = Neighbours(
        intake=handoff, events=publisher, objects=cast(Any, None), reader=Reader(work), classifier=cast(Any, None)
    )
    yield handoff, JobRunner(neighbours, RULES), delivery
    publisher.close(Deadline(0))


def _decode(value: bytes | None) -> events.ClassificationRequested:
    return cast(events.ClassificationRequested, codec.decode(value))


def test_nothing_is_acknowledged_while_kafka_is_away_and_a_stop_hands_the_job_back() -> None:
    has_read = threading.Event()
    with running(f"127.0.0.1:{free_port()}", has_read.set) as (handoff, jobs, delivery):
        thread = threading.Thread(target=jobs.run, args=(delivery,))
        thread.start()
        assert has_read.wait(PATIENCE_SECONDS)
        thread.join(2.5)  # longer than an event may wait for its broker
        assert thread.is_alive()
        assert handoff.advanced() == {PLACE: (0, frozenset())}
        jobs.abandon()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
        assert handoff.jobs == 0
        assert handoff.is_holding_back, "the job waits to be done again"
        assert handoff.advanced() == {}


def test_a_hung_job_goes_to_the_retry_topic_and_its_late_thread_tells_nothing(kafka: str, topics: None) -> None:
    from schemas.topics import EVENTS, RETRY

    may_end = threading.Event()
    log = EventLog(kafka, EVENTS.name, RETRY.name)
    with running(kafka, lambda: may_end.wait(2 * PATIENCE_SECONDS)) as (handoff, jobs, delivery):
        assert delivery.request is not None
        job_id = delivery.request.job_id
        thread = threading.Thread(target=jobs.run, args=(delivery,))
        thread.start()
        breaker = Breaker(handoff, jobs.take_over)

        def is_taken_over() -> bool:
            breaker.look()
            return breaker.hung == 1

        eventually_sync(is_taken_over)
        again = log.until(job_id, events.ClassificationRequested)
        assert (again.attempt, again.job_id) == (2, job_id)
        assert handoff.advanced() == {PLACE: (1, frozenset())}
        may_end.set()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
        assert breaker.hung == 0, "a thread that came back counts as hung"
        assert handoff.jobs == 0
        assert not handoff.is_holding_back
        said = {type(event).__name__ for event in log.of(job_id)}
        assert said == {"ClassificationStarted", "ClassificationRequested"}
    log.close()


def test_a_hung_job_that_a_stop_hands_back_was_not_taken_over() -> None:
    may_end = threading.Event()
    with running(f"127.0.0.1:{free_port()}", lambda: may_end.wait(2 * PATIENCE_SECONDS)) as (handoff, jobs, delivery):
        thread = threading.Thread(target=jobs.run, args=(delivery,))
        thread.start()
        breaker = Breaker(handoff, jobs.take_over)

        def look() -> None:
            while not delivery.ending.is_claimed:
                breaker.look()

        looking = threading.Thread(target=look)
        looking.start()
        assert eventually_sync(lambda: delivery.ending.is_claimed)
        jobs.abandon()
        looking.join(PATIENCE_SECONDS)
        assert not looking.is_alive()
        assert breaker.hung == 0
        assert handoff.is_holding_back, "the job waits to be done again"
        may_end.set()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
