"""A batch of messages on its way into the database: what they say, folded, and how far it leads each partition."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import Message

from docfleet import metrics
from schemas.codec import SchemaIds
from status_service import folding
from status_service.decoding import Decoded, decode_all
from status_service.store import Partition


@dataclass(frozen=True, slots=True)
class Ready:
    """Messages, and what is to be written of them."""

    messages: list[Message]
    decoded: Decoded
    changes: folding.Batch
    next_offsets: Mapping[Partition, int]
    since_ns: int  #: when it began to be made, nanoseconds since the epoch

    def count(self) -> None:
        """Count it as written."""
        for kind, count in Counter(type(one.event).__name__ for one in self.decoded.said).items():
            metrics.EVENTS_PROJECTED.labels(kind).inc(count)
        for topic in self.decoded.undecodable:
            metrics.EVENTS_UNDECODABLE.labels(topic).inc()


def prepare(messages: list[Message], schema_ids: SchemaIds | None) -> Ready:
    """Decode and fold messages that are in the order of their partitions; what a registry raises is let through."""
    since_ns = time.time_ns()
    decoded = decode_all(messages, schema_ids)
    next_offsets = {partition_of(message): int(message.offset() or 0) + 1 for message in messages}
    return Ready(messages, decoded, folding.fold(decoded.said), next_offsets, since_ns)


def partition_of(message: Message) -> Partition:
    """Return where the message lies."""
    return str(message.topic()), int(message.partition() or 0)
