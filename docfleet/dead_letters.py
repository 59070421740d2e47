"""The dead letter topic as a person works on it: what is in it and why, and how far it was worked off.

Nothing here deletes anything: messages leave with the topic's retention. What was dropped lies below the offset that
the group docfleet.dlq-review has committed for its partition, so it can still be read. Blocks; one thread at a time.
"""

import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from docfleet.kafka import client_config, headers_of, schema_ids
from docfleet.offsets import ANSWER_SECONDS, COORDINATOR_MOVES, ends_of, partitions_of, watermarks_of
from docfleet.settings import KafkaSettings
from docfleet.stopping import Deadline
from schemas import codec, topics
from schemas.events import Event

Answer = TypeVar("Answer")

_PAUSE_SECONDS: Final = 0.2
_ADDRESS: Final = re.compile(r"(\d{1,9}):(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a message is, written `PARTITION:OFFSET`."""

    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address in a text; ValueError when it is none."""
        found = _ADDRESS.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no PARTITION:OFFSET, such as 2:17")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class Extent:
    """The offsets of one partition: the first that is there, the first that is not dropped, the next to be written."""

    first: int
    undropped: int
    end: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message of the topic; `event` is None where it is no event, and `fault` says why."""

    address: Address
    at: datetime
    key: bytes | None
    value: bytes | None
    headers: codec.Headers
    event: Event | None
    fault: str | None
    is_dropped: bool

    def header(self, name: str) -> str | None:
        """Return the text of a header."""
        return codec.header(self.headers, name)

    @property
    def job_id(self) -> uuid.UUID | None:
        """Whose message it is: the event says it, else the key, else nobody knows."""
        if self.event is not None:
            return self.event.job_id
        try:
            return uuid.UUID((self.key or b"").decode("ascii"))
        except ValueError:
            return None


class DeadLetters:
    """Reads the topic and says how far it was worked off. Every call raises KafkaException when no broker answers."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._schema_ids = schema_ids(settings)
        config = {
            "group.id": topics.DLQ_REVIEW_GROUP,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "allow.auto.create.topics": False,
            "error_cb": lambda _error: None,  # what matters is raised
            "log_level": 0,
        }
        self._consumer = Consumer(client_config(settings) | config)

    def extents(self) -> dict[int, Extent]:
        """Return the extent of each partition."""
        partitions = partitions_of(self._consumer, topics.DLQ.name)
        answer = _asked(lambda: self._consumer.committed(partitions, ANSWER_SECONDS))
        committed = {t.partition: t.offset for t in answer}
        extents = {}
        for partition in partitions:
            first, end = watermarks_of(self._consumer, partition)
            dropped_up_to = committed.get(partition.partition, 0)  # negative: nothing was ever committed
            extents[partition.partition] = Extent(first, min(max(first, dropped_up_to), end), end)
        return extents

    def read(self, extents: Mapping[int, Extent], *, with_dropped: bool = False) -> Iterator[DeadLetter]:
        """Return the messages of these extents, one partition after the other."""
        for partition, extent in sorted(extents.items()):
            start = extent.first if with_dropped else extent.undropped
            for message in self._messages(TopicPartition(topics.DLQ.name, partition, start), extent.end):
                yield self._letter(message, extent)

    def one(self, address: Address, extent: Extent) -> DeadLetter | None:
        """Return the message at an address, dropped ones too; None when the topic does not have it."""
        if not extent.first <= address.offset < extent.end:
            return None
        place = TopicPartition(topics.DLQ.name, address.partition, address.offset)
        found = next(self._messages(place, address.offset + 1), None)
        return None if found is None or found.offset() != address.offset else self._letter(found, extent)

    def drop(self, ends: Mapping[int, int]) -> None:
        """Say that everything below these offsets, by partition, was worked off."""
        offsets = [TopicPartition(topics.DLQ.name, partition, end) for partition, end in ends.items()]
        for result in _asked(lambda: self._consumer.commit(offsets=offsets, asynchronous=False)):
            if result.error is not None:
                raise KafkaException(result.error)

    def ends_of(self, topic: topics.Topic) -> dict[int, int]:
        """Return the next offset of each partition of another topic that has anything in it."""
        return ends_of(self._consumer, partitions_of(self._consumer, topic.name))

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()

    def _messages(self, start: TopicPartition, end: int) -> Iterator[Message]:
        if start.offset >= end:
            return
        self._consumer.assign([start])
        try:
            silent_since = time.monotonic()
            while time.monotonic() - silent_since < ANSWER_SECONDS:
                for message in self._consumer.consume(500, timeout=0.2):
                    if (error := message.error()) is not None:
                        raise KafkaException(error)
                    silent_since = time.monotonic()
                    offset = int(message.offset() or 0)
                    if offset < end:
                        yield message
                    if offset >= end - 1:
                        return
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001  # the library's own name
        finally:
            self._consumer.unassign()

    def _letter(self, message: Message, extent: Extent) -> DeadLetter:
        address = Address(int(message.partition() or 0), int(message.offset() or 0))
        event, fault = None, None
        try:
            event = codec.decode(message.value(), self._schema_ids)
        except Exception as error:  # noqa: BLE001  # a person looks at it because it can fail in any way
            fault = str(error) or type(error).__name__
        _kind, milliseconds = message.timestamp()
        return DeadLetter(
            address=address,
            at=datetime.fromtimestamp(milliseconds / 1000, UTC),
            key=message.key(),
            value=message.value(),
            headers=headers_of(message),
            event=event,
            fault=fault,
            is_dropped=address.offset < extent.undropped,
        )


def _asked(call: Callable[[], Answer]) -> Answer:
    """Return what the call returns; a coordinator that is only just loading, or has moved, is asked again."""
    deadline = Deadline(ANSWER_SECONDS)
    while True:
        try:
            return call()
        except KafkaException as error:
            if error.args[0].code() not in COORDINATOR_MOVES or deadline.is_over:
                raise
            time.sleep(_PAUSE_SECONDS)
