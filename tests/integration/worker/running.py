"""A worker as a process, and the two ends of it: jobs in, events out."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from docfleet.kafka import Publisher
from docfleet.objects import ObjectStore
from docfleet.settings import KafkaSettings, ObjectSettings
from docfleet.stack.ports import free_port
from docfleet.stopping import Deadline
from schemas import codec, events, topics
from tests.events import requested
from tests.servers import Gcs
from tests.waiting import PATIENCE_SECONDS, eventually_sync

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CATEGORIES = ("invoice", "scientific paper", "letter")


def request(**changes: Any) -> events.ClassificationRequested:
    """Return a request made now, valid but for what `changes` break."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {"accepted_at": now, "occurred_at": now, "categories": CATEGORIES}
    return requested(**values | changes)


class EventLog:
    """Everything that is said in some topics, by job."""

    def __init__(self, kafka: str, *topic_names: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": kafka, "group.id": "tests", "enable.auto.commit": False})
        self._places = [
            TopicPartition(name, partition, OFFSET_BEGINNING)
            for name, topic in self._consumer.list_topics(timeout=10).topics.items()
            for partition in topic.partitions
            if name in topic_names
        ]
        self._consumer.assign(self._places)
        self.messages: list[Any] = []

    def close(self) -> None:
        self._consumer.close()

    def fresh(self) -> list[events.Event]:
        """Return what has been said since this, `of` or `until` was last called; waits a moment for it."""
        said = self._consumer.consume(500, timeout=0.05)
        for message in said:
            assert message.error() is None, message.error()
        self.messages += said
        return [codec.decode(message.value()) for message in said if message.topic() == topics.EVENTS.name]

    def everything(self) -> list[Any]:
        """Return all messages that are in the topics by now."""
        marks = {(p.topic, p.partition): self._consumer.get_watermark_offsets(p, timeout=10) for p in self._places}
        ends = {place: high for place, (low, high) in marks.items() if low < high}

        def is_read() -> bool:
            self.fresh()
            read = {(message.topic(), message.partition()): message.offset() + 1 for message in self.messages}
            return all(read.get(place, 0) >= end for place, end in ends.items())

        eventually_sync(is_read)
        return self.messages

    def of(self, job_id: uuid.UUID) -> list[events.Event]:
        """Return the events of a job that have been seen so far, in order."""
        self.fresh()
        return [codec.decode(m.value()) for m in self.messages if m.key() == str(job_id).encode()]

    def until(self, job_id: uuid.UUID, event_type: type[events.Event], *, within: float = PATIENCE_SECONDS) -> Any:
        """Return the job's first event of this type."""
        return eventually_sync(
            lambda: next((event for event in self.of(job_id) if isinstance(event, event_type)), None), within=within
        )

    def dead_letter(self, is_meant: Callable[[Any], bool]) -> Any:
        """Return the first message of the dead letter topic that is meant."""

        def found() -> list[Any]:
            self.fresh()
            return [message for message in self.messages if message.topic() == topics.DLQ.name and is_meant(message)]

        return eventually_sync(found)[0]


@dataclass
class Bench:
    """Kafka and a bucket, with what tests need to give jobs to a worker."""

    kafka: str
    gcs: Gcs
    log: EventLog
    publisher: Publisher
    store: ObjectStore
    environment: dict[str, str] = field(default_factory=dict)

    def post(self, document: bytes, **changes: Any) -> events.ClassificationRequested:
        """Put a document into the store and its job into Kafka."""
        job = request(size_bytes=len(document), **changes)
        self.store.put(job.object_name, document, media_type=job.media_type)
        self.publish(job)
        return job

    def publish(self, job: events.Event) -> None:
        self.publisher.publish(topics.JOBS, job, traceparent=TRACEPARENT).result(20)


@contextmanager
def bench(kafka: str, gcs: Gcs, *, is_frugal: bool = True) -> Iterator[Bench]:
    """Open a bench; worker processes started from it use the same Kafka and bucket, and little of the machine."""
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "STORAGE_EMULATOR_HOST": gcs.endpoint,
        "DOCFLEET_BUCKET": gcs.bucket,
        "DOCFLEET_HTTP_HOST": "127.0.0.1",
    }
    if is_frugal:
        environment |= {"DOCFLEET_TORCH_THREADS": "1", "DOCFLEET_READERS": "1"}
    publisher = Publisher(KafkaSettings.from_mapping(environment), source="producer_api")
    store = ObjectStore(ObjectSettings.from_mapping(environment))
    log = EventLog(kafka, topics.EVENTS.name, topics.PROGRESS.name, topics.RETRY.name, topics.DLQ.name)
    try:
        yield Bench(kafka, gcs, log, publisher, store, environment)
    finally:
        log.close()
        publisher.close(Deadline(5))
        store.close()


def committed(kafka: str, partition: int) -> int:
    """Return up to which offset the workers have committed a partition of docfleet.jobs; negative for nowhere."""
    group = Consumer({"bootstrap.servers": kafka, "group.id": topics.WORKER_GROUP})
    try:
        [place] = group.committed([TopicPartition(topics.JOBS.name, partition)], timeout=10)
    finally:
        group.close()
    return place.offset


def count_as_done(kafka: str) -> None:
    """Let the workers' consumer group begin behind what a share group has done."""
    group = Consumer({"bootstrap.servers": kafka, "group.id": topics.WORKER_GROUP})
    partitions = group.list_topics(topics.JOBS.name, timeout=10).topics[topics.JOBS.name].partitions
    places = [TopicPartition(topics.JOBS.name, partition) for partition in partitions]
    ends = [(place, group.get_watermark_offsets(place, timeout=10)[1]) for place in places]
    group.commit(offsets=[TopicPartition(p.topic, p.partition, end) for p, end in ends], asynchronous=False)
    group.close()


class WorkerProcess:
    """`python -m classifier_worker`, with its log in a file."""

    def __init__(self, environment: dict[str, str], log_path: Path) -> None:
        self.port = free_port()
        self.log_path = log_path
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("DOCFLEET_")}
        with log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "classifier_worker"],
                env=inherited | environment | {"DOCFLEET_HTTP_PORT": str(self.port)},
                stdout=log,
                stderr=log,
            )

    def answer(self, path: str) -> tuple[int, str]:
        """Return status and body of a GET of the probes' server; (0, "") while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_ready(self, *, within: float = 180.0) -> "WorkerProcess":
        """Return when the worker is ready; fail at once when it died."""

        def is_ready() -> bool:
            if self.process.poll() is not None:
                raise SystemExit(
                    f"the worker ended with {self.process.returncode}: {self.log_path.read_text()[-4000:]}"
                )
            return self.answer("/healthz/ready")[0] == 200

        eventually_sync(is_ready, within=within)
        return self

    def metric(self, line_start: str) -> float:
        """Return the sum of the metric's samples whose line starts so."""
        lines = self.answer("/metrics")[1].splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(line_start))

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def wait(self, within: float) -> tuple[int, float]:
        """Return the exit code and the seconds until it was there."""
        began = time.monotonic()
        return self.process.wait(within), time.monotonic() - began


@contextmanager
def worker(bench: Bench, log_path: Path, **settings: str) -> Iterator[WorkerProcess]:
    """Run a worker, ready, and kill it at the end if it still runs."""
    changed = {f"DOCFLEET_{name.upper()}": text for name, text in settings.items()}
    process = WorkerProcess(bench.environment | changed, log_path)
    try:
        yield process.wait_ready()
    finally:
        if process.process.poll() is None:
            process.kill()
