"""A projector's own topics, group and database, and what tests do with them."""

import dataclasses
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition
from psycopg.rows import dict_row

from docfleet.kafka import Publisher, consumer_config
from docfleet.settings import KafkaSettings
from docfleet.stack import kafka_server
from docfleet.stopping import Deadline
from schemas import codec, events, topics
from schemas.topics import Topic
from status_service.projector import Intake, Projector
from tests.events import EPOCH

PARTITIONS = 3


@dataclasses.dataclass(frozen=True)
class Place:
    settings: KafkaSettings
    dsn: str
    group: str
    jobs: Topic
    events: Topic
    progress: Topic
    publisher: Publisher

    @property
    def topics(self) -> tuple[Topic, Topic, Topic]:
        return self.jobs, self.events, self.progress

    def topic_of(self, event: events.Event) -> Topic:
        return next(topic for topic in self.topics if type(event) in topic.event_types)

    def say(self, said: Iterable[events.Event], *, traceparent: str | None = None) -> None:
        """Publish events in this order and return when all are in their topics."""
        futures = [self.publisher.publish(self.topic_of(one), one, traceparent=traceparent) for one in said]
        for future in futures:
            future.result(20)

    def say_bytes(self, topic: Topic, value: bytes | None, key: bytes = b"k") -> None:
        self.publisher.forward(topic, key, value, []).result(20)

    def projector(self, *, group_protocol: str = "classic", schema_ids: codec.SchemaIds | None = None) -> Projector:
        config = consumer_config(
            self.settings,
            group_id=self.group,
            group_protocol=group_protocol,
            session_timeout_seconds=6.0,
        )
        return Projector(Intake(config, self.group, self.topics), self.dsn, schema_ids)

    @contextmanager
    def projecting(self, **options: Any) -> Iterator[Projector]:
        projector = self.projector(**options)
        projector.start()
        try:
            yield projector
        finally:
            assert projector.stop(Deadline(20)), "the projector did not stop"

    def rows(self) -> list[dict[str, Any]]:
        """Return every job, with its result as text."""
        with psycopg.connect(self.dsn, row_factory=dict_row) as connection:
            return connection.execute("select *, result::text as result from jobs order by job_id").fetchall()

    def queued(self, *, object_name: str | None = None, file_url: str | None = None) -> uuid.UUID:
        """Make a job's row, as producer_api does, and return its id."""
        job_id = uuid.uuid4()
        with psycopg.connect(self.dsn) as connection:
            connection.execute(
                "insert into jobs"
                " (job_id, tenant_id, status, progress, created_at, last_seen_at, object_name, file_url)"
                " values (%s, 'acme', 'queued', 'Waiting for a worker', %s, %s, %s, %s)",
                (job_id, EPOCH, EPOCH, object_name, file_url),
            )
        return job_id

    def row(self, job_id: object) -> dict[str, Any]:
        return next((row for row in self.rows() if row["job_id"] == job_id), {})

    def offsets(self) -> dict[tuple[str, int], tuple[int, int]]:
        """Return (next offset, epoch) of each partition that was ever claimed."""
        with psycopg.connect(self.dsn) as connection:
            rows = connection.execute(
                "select topic, partition, next_offset, owner_epoch from consumer_offsets where consumer_group = %s",
                (self.group,),
            ).fetchall()
        return {(topic, number): (offset, epoch) for topic, number, offset, epoch in rows}

    def ends(self) -> dict[tuple[str, int], int]:
        """Return the end of each partition that has messages."""
        consumer = Consumer({"bootstrap.servers": self.settings.kafka_bootstrap_servers, "group.id": "ends"})
        ends = {}
        for topic in self.topics:
            for number in range(topic.partitions):
                high = _end(consumer, TopicPartition(topic.name, number))
                if high:
                    ends[topic.name, number] = high
        consumer.close()
        return ends

    def is_caught_up(self) -> bool:
        offsets = self.offsets()
        return all(offsets.get(partition, (0, 0))[0] == end for partition, end in self.ends().items())

    def close(self) -> None:
        self.publisher.close(Deadline(5))


def new_place(bootstrap_servers: str, dsn: str, unique: str) -> Place:
    settings = KafkaSettings(kafka_bootstrap_servers=bootstrap_servers)
    mine = [
        dataclasses.replace(topic, name=f"{unique}.{topic.name}", partitions=PARTITIONS)
        for topic in (topics.JOBS, topics.EVENTS, topics.PROGRESS)
    ]
    kafka_server.create_topics({"bootstrap.servers": bootstrap_servers}, mine)
    publisher = Publisher(settings, source="tests")
    return Place(settings, dsn, f"status-{unique}", *mine, publisher)


@contextmanager
def row_held(dsn: str, job_id: uuid.UUID) -> Iterator[None]:
    """Lock a row, so that whoever writes it waits in the middle of a transaction."""
    with psycopg.connect(dsn) as connection:
        connection.execute("select from jobs where job_id = %s for update", (job_id,))
        yield


def is_projector_waiting(dsn: str) -> bool:
    query = (
        "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        " and application_name = 'docfleet-projector'"
    )
    with psycopg.connect(dsn) as connection:
        return bool(connection.execute(query).fetchall())


def _end(consumer: Consumer, partition: TopicPartition) -> int:
    """Return the partition's end; a broker that does not lead a new partition yet is asked again."""
    deadline = Deadline(10)
    while True:
        try:
            return int(consumer.get_watermark_offsets(partition, timeout=10)[1])
        except KafkaException as error:
            if not error.args[0].retriable() or deadline.is_over:
                raise
            time.sleep(0.1)
