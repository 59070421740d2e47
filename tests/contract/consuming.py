"""Members of consumer and share groups, as tests of the consume port need them, and what their groups have durable."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from confluent_kafka import Consumer, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from classifier_worker.consumer import JobConsumer
from classifier_worker.core.held import Bounds
from classifier_worker.core.retry import FuseLimits
from classifier_worker.handoff import Delivery, HandOff, HandOffOptions, HeadLimits, RawMessage
from classifier_worker.partition_handoff import PartitionHandOff
from classifier_worker.record_handoff import RecordHandOff
from classifier_worker.share_consumer import JobShareConsumer, ShareOptions
from docfleet.kafka import client_config, consumer_config, share_consumer_config
from docfleet.settings import KafkaSettings
from docfleet.share_groups import prepare
from docfleet.stopping import Deadline
from schemas import codec, events
from tests.events import requested
from tests.share_state import done_below
from tests.waiting import PATIENCE_SECONDS, eventually_sync

PARTITIONS = 4


class Backend:
    def __init__(self, bootstrap_servers: str, group_protocol: str, topic: str, group: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.group_protocol = group_protocol
        self.topic = topic
        self.group = group
        self.former_group = f"former-{group}"
        self._looker = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": group})

    def close(self) -> None:
        self._looker.close()

    def make_topic(self, partitions: int = PARTITIONS) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        admin.create_topics([NewTopic(self.topic, partitions, 1)])[self.topic].result(10)

    def produce(self, partition: int, *sizes: int, headers: Any = None, timestamp_ms: int = 0) -> None:
        """Append a job for each document size to a partition."""
        producer = Producer({"bootstrap.servers": self.bootstrap_servers})
        for size in sizes:
            value = codec.encode(requested(size_bytes=size))
            producer.produce(self.topic, value=value, partition=partition, headers=headers, timestamp=timestamp_ms)
        assert producer.flush(20) == 0

    @property
    def is_share(self) -> bool:
        """Whether records are acknowledged one by one, and partitions belong to nobody."""
        return self.group_protocol == "share"

    def carry_over(self, place: tuple[str, int], message: RawMessage) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap_servers})
        producer.produce(place[0], value=message.value, key=message.key, partition=place[1])
        assert producer.flush(20) == 0

    def committed(self, partition: int) -> int | None:
        """Return the group's committed offset, below which all is done; None when there is none."""
        if self.is_share:
            return done_below(self.bootstrap_servers, self.group, self._topic_id, partition)
        offset = self._looker.committed([TopicPartition(self.topic, partition)], timeout=10)[0].offset
        return offset if offset >= 0 else None

    @cached_property
    def _topic_id(self) -> UUID:
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        topic_id = admin.describe_topics(TopicCollection([self.topic]))[self.topic].result(10).topic_id
        halves = (topic_id.get_most_significant_bits(), topic_id.get_least_significant_bits())
        return UUID(bytes=b"".join(half.to_bytes(8, signed=True) for half in halves))

    def commits(self, partition: int, offset: int) -> None:
        """Wait until this offset is committed."""
        assert eventually_sync(lambda: self.committed(partition) == offset)


@contextmanager
def topic_on(
    bootstrap_servers: str, group_protocol: str, unique: str, *, partitions: int = PARTITIONS
) -> Iterator[Backend]:
    """Make a topic on a real broker, for a group that has it to itself."""
    opened = Backend(bootstrap_servers, group_protocol, f"jobs-{unique}", f"workers-{unique}")
    opened.make_topic(partitions)
    yield opened
    opened.close()


def decode(value: bytes | None) -> events.ClassificationRequested:
    event = codec.decode(value)
    assert isinstance(event, events.ClassificationRequested)
    return event


class Watched(HandOff):
    """Lets a test hold up the thread that polls, and tells the most jobs that were in flight."""

    may_turn = threading.Event()
    most_jobs = 0

    def admit_due(self) -> None:
        self.may_turn.wait(2 * PATIENCE_SECONDS)
        super().admit_due()
        self.most_jobs = max(self.most_jobs, self.jobs)


class Partitions(Watched, PartitionHandOff):
    pass


class Records(Watched, RecordHandOff):
    pass


@dataclass(frozen=True, slots=True)
class Member:
    consumer: Any
    handoff: Any
    topic: str

    def partitions(self) -> set[int]:
        return {partition for _, partition in self.handoff.partitions}

    def owns(self, count: int) -> bool:
        return len(self.handoff.partitions) == count

    def get(self, within: float = PATIENCE_SECONDS) -> Delivery:
        delivery = self.consumer.receive(within)
        assert delivery is not None, "nothing was received"
        return delivery


@contextmanager
def member(
    backend: Backend,
    *,
    bounds: Bounds | None = None,
    drain_seconds: float = 5.0,
    head: HeadLimits | None = None,
    lock_seconds: float = 15.0,
    share_members: int = 2 * PARTITIONS,
    **config: Any,
) -> Iterator[Member]:
    options = HandOffOptions(
        bounds=bounds or Bounds(50, 1 << 30),
        decode=decode,
        fuse=FuseLimits(10, 5, 60.0, 60.0),
        head=head or HeadLimits(),
    )
    handoff = Records(options) if backend.is_share else Partitions(options)
    handoff.may_turn = threading.Event()
    handoff.may_turn.set()
    consumer = (
        share_consumer(backend, handoff, lock_seconds, share_members)
        if backend.is_share
        else group_consumer(backend, handoff, config, drain_seconds)
    )
    consumer.start()
    try:
        yield Member(consumer, handoff, backend.topic)
    finally:
        handoff.may_turn.set()
        consumer.close(Deadline(0))


def settings_of(backend: Backend) -> KafkaSettings:
    return KafkaSettings.from_mapping({"KAFKA_BOOTSTRAP_SERVERS": backend.bootstrap_servers})


def group_consumer(backend: Backend, handoff: Any, config: dict[str, Any], drain_seconds: float) -> JobConsumer:
    whole = consumer_config(
        settings_of(backend), group_id=backend.group, group_protocol=backend.group_protocol, session_timeout_seconds=6
    )
    return JobConsumer(whole | config, [backend.topic], handoff, drain_seconds=drain_seconds)


def share_consumer(backend: Backend, handoff: Any, lock_seconds: float, members: int) -> JobShareConsumer:
    settings = settings_of(backend)
    return JobShareConsumer(
        ShareOptions(
            config=share_consumer_config(settings, group_id=backend.group, lock_seconds=lock_seconds),
            topics=[backend.topic],
            members=members,
            terms=lambda: prepare(
                client_config(settings),
                backend.group,
                lock_seconds=lock_seconds,
                topics=[backend.topic],
                former_group_id=backend.former_group,
            ),
            carry_over=backend.carry_over,
        ),
        handoff,
    )


def place(delivery: Delivery) -> tuple[int, int]:
    return delivery.ticket.partition[1], delivery.ticket.offset
