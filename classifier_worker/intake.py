"""The intake that the settings ask for: a consumer group's or a share group's, behind one port."""

from collections.abc import Callable
from typing import Any, Final, Protocol

from classifier_worker.consumer import JobConsumer
from classifier_worker.core.held import Bounds, Partition
from classifier_worker.handoff import Delivery, HandOff, HandOffOptions, HeadLimits, RawMessage
from classifier_worker.partition_handoff import PartitionHandOff
from classifier_worker.record_handoff import RecordHandOff
from classifier_worker.settings import WorkerSettings
from classifier_worker.share_consumer import JobShareConsumer, ShareOptions
from docfleet.kafka import Publisher, client_config, consumer_config, schema_ids, share_consumer_config
from docfleet.share_groups import prepare
from docfleet.stopping import Deadline
from schemas import codec, events, topics

_TOPICS: Final = (topics.JOBS.name, topics.RETRY.name)


class Consumer(Protocol):
    """The consume port: what job threads and the composition root ask of either kind of group."""

    def receive(self, timeout_seconds: float) -> Delivery | None:
        """Return the next message and count it as started; None when none may start within the time."""
        ...

    def ack(self, delivery: Delivery) -> None:
        """Done with."""

    def release(self, delivery: Delivery) -> None:
        """Unfinished: somebody else's now."""

    def reject(self, delivery: Delivery) -> None:
        """Given up: it is in the dead letter topic."""

    def start(self) -> None:
        """Join the group and begin to consume."""

    def stop_intake(self) -> None:
        """Let no further message start."""

    def close(self, deadline: Deadline) -> bool:
        """Wait for started jobs and leave the group; False when that was not done by the deadline."""
        ...

    @property
    def has_failed(self) -> bool:
        """Whether it ended by an error, which only a new process mends."""
        ...

    def dead_because(self, silence_seconds: float) -> str | None:
        """Return why it counts as dead; None while it turns."""
        ...

    def unready_because(self, lost_seconds: float) -> str | None:
        """Return why no jobs get in; None when they can."""
        ...


def build_intake(settings: WorkerSettings, publisher: Publisher) -> tuple[HandOff, Consumer]:
    """Return the hand-off and the consumer that fills it; nothing of it runs yet."""
    options = HandOffOptions(
        bounds=Bounds(settings.max_jobs_in_flight, settings.max_bytes_in_flight),
        decode=_decoder(settings),
        head=HeadLimits(settings.head_seconds, settings.head_stretch),
    )
    if settings.group_protocol == "share":
        return _share_group(settings, publisher, options)
    partitions = PartitionHandOff(options)
    config = consumer_config(
        settings,
        group_id=topics.WORKER_GROUP,
        group_protocol=settings.group_protocol,
        session_timeout_seconds=settings.session_timeout_seconds,
    )
    return partitions, JobConsumer(config, _TOPICS, partitions, drain_seconds=settings.revoke_drain_seconds)


def _share_group(settings: WorkerSettings, publisher: Publisher, options: HandOffOptions) -> tuple[HandOff, Consumer]:
    def carry_over(place: Partition, message: RawMessage) -> None:
        topic = next(topic for topic in topics.TOPICS if topic.name == place[0])
        publisher.forward(topic, message.key, message.value, message.headers).result()

    records = RecordHandOff(options)
    share: dict[str, Any] = share_consumer_config(
        settings, group_id=topics.WORKER_SHARE_GROUP, lock_seconds=settings.share_lock_seconds
    )
    return records, JobShareConsumer(
        ShareOptions(
            config=share,
            topics=_TOPICS,
            members=settings.share_members,
            terms=lambda: prepare(
                client_config(settings),
                topics.WORKER_SHARE_GROUP,
                lock_seconds=settings.share_lock_seconds,
                topics=_TOPICS,
                former_group_id=topics.WORKER_GROUP,
            ),
            carry_over=carry_over,
        ),
        records,
    )


def _decoder(settings: WorkerSettings) -> Callable[[bytes | None], events.ClassificationRequested]:
    ids = schema_ids(settings)

    def decode(value: bytes | None) -> events.ClassificationRequested:
        event = codec.decode(value, ids)
        if not isinstance(event, events.ClassificationRequested):
            raise codec.UndecodableMessage(f"a {type(event).__name__} is no job")
        return event

    return decode
