"""Kafka messages into events that can be stored; what is none is logged with its place, and passed over."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from confluent_kafka import Message

from docfleet import tracing
from docfleet.kafka import headers_of
from schemas import codec
from schemas.codec import SchemaIds, UndecodableMessage
from status_service.folding import Said, storable

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Decoded:
    """The events of a batch in order, and the topic of each message that is none."""

    said: list[Said] = field(default_factory=list)
    undecodable: list[str] = field(default_factory=list)


def decode_all(messages: Iterable[Message], schema_ids: SchemaIds | None) -> Decoded:
    """Return the events in messages of either framing. What a registry that is away raises is let through."""
    decoded = Decoded()
    for message in messages:
        topic, partition, offset = str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)
        try:
            event = storable(codec.decode(message.value(), schema_ids))
        except UndecodableMessage as error:
            extra = {"action": "message_skipped", "topic": topic, "partition": partition, "offset": offset}
            with tracing.about(_traceparent_of(message)):
                logger.warning("a message is no event: %s", error, extra=extra)
            decoded.undecodable.append(topic)
        else:
            decoded.said.append(Said(event, partition, offset, _traceparent_of(message)))
    return decoded


def _traceparent_of(message: Message) -> str | None:
    traceparent = codec.header(headers_of(message), "traceparent")
    return None if traceparent is None else traceparent.replace("\x00", "")
