"""Kafka for the services: client settings, the publisher, the registry's schema ids.

The producer is idempotent and waits for all in-sync replicas, so an event whose future resolved is
in the topic, once. Consumers are built from `consumer_config`, for the classic protocol or KIP-848.
"""

import asyncio
import json
import logging
import operator
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from docfleet import metrics, tracing
from docfleet.settings import KafkaSettings
from docfleet.stopping import Deadline
from schemas import codec
from schemas.events import Event, event_id
from schemas.topics import MESSAGE_BYTES_MAX, PROGRESS, Topic

logger = logging.getLogger(__name__)

#: The classic protocol's settings that KIP-848 keeps on the broker, where a client naming them is refused.
_CLASSIC_ONLY: Final = ("partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms")


def client_config(settings: KafkaSettings) -> dict[str, Any]:
    """Return what every librdkafka handle needs to reach the brokers."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": settings.kafka_sasl_password and settings.kafka_sasl_password.get_secret_value(),
        "ssl.ca.location": settings.kafka_ssl_ca_location,
        "reconnect.backoff.max.ms": 2000,
    }
    return {name: value for name, value in config.items() if value is not None}


def consumer_config(
    settings: KafkaSettings, *, group_id: str, group_protocol: str, session_timeout_seconds: float
) -> dict[str, Any]:
    """Return the settings of a consumer that stores offsets itself and starts at the beginning.

    Args:
        settings: how to reach the brokers.
        group_id: the consumer group.
        group_protocol: `classic` (cooperative-sticky) or `consumer` (KIP-848).
        session_timeout_seconds: after this silence the group gives the partitions to others (classic).

    """
    config = client_config(settings) | {
        "group.id": group_id,
        "group.protocol": group_protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": int(session_timeout_seconds * 1000),
        "heartbeat.interval.ms": max(100, int(session_timeout_seconds * 1000 / 5)),
        "queued.min.messages": 100,  # messages are small and work is slow: a long prefetch only holds memory
        "queued.max.messages.kbytes": 16384,
        "allow.auto.create.topics": False,
    }
    if group_protocol == "consumer":
        config = {name: value for name, value in config.items() if name not in _CLASSIC_ONLY}
    return config


def share_consumer_config(settings: KafkaSettings, *, group_id: str, lock_seconds: float) -> dict[str, Any]:
    """Return the settings of a member of a share group (KIP-932) that acknowledges each record by itself.

    Where the group begins and how long it locks are settings of the group on the broker (`docfleet.share_groups`).
    """
    return client_config(settings) | {
        "group.id": group_id,
        "share.acknowledgement.mode": "explicit",
        "max.poll.records": 1,
        "max.poll.interval.ms": 60_000 + int(2 * lock_seconds * 1000),  # a member does not poll while it holds a record
        "fetch.wait.max.ms": 50,
    }


@dataclass(frozen=True, slots=True)
class Delivered:
    """Where a message is now."""

    topic: str
    partition: int
    offset: int


class Publisher:
    """Sends events; each `publish` gives a future of the delivery. Safe to use from many threads.

    `message_timeout_seconds` bounds how long a message waits for a broker that is away; then its
    future fails with KafkaException, and nothing of it will get into the topic later. Who sees `has_failed` should end.
    """

    def __init__(self, settings: KafkaSettings, *, source: str, message_timeout_seconds: float = 30.0) -> None:
        self._source = source
        self._schema_ids = schema_ids(settings)
        self._producer = Producer(
            client_config(settings)
            | {
                "enable.idempotence": True,
                "acks": "all",
                # With more, a new producer's first batch that is refused while a partition's leader changes counts as
                # delivered once the batch after it is accepted, and is lost (confluent-kafka-go's issue 921).
                "max.in.flight": 1,
                "linger.ms": 2,
                "compression.type": "lz4",
                "message.timeout.ms": int(message_timeout_seconds * 1000),
                "message.max.bytes": MESSAGE_BYTES_MAX,
                "error_cb": _ignore,  # a broker that is away shows in the futures and in readiness
            }
        )
        self.has_failed = False  #: for good: the producer takes no more messages, and only a new process mends it
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="kafka-producer", daemon=True)
        self._thread.start()

    def publish(
        self,
        topic: Topic,
        event: Event,
        *,
        traceparent: str | None = None,
        extra_headers: codec.Headers | None = None,
    ) -> Future[Delivered]:
        """Hand the event to the producer and return the future of its delivery.

        With tracing on, the delivery is a span below `traceparent`, and the message carries the span's context.
        """
        value = codec.encode(event, self._schema_ids)
        span = _span_of(topic, event, traceparent)
        traceparent = span.traceparent if span else traceparent
        headers = codec.headers_of(event, source=self._source, traceparent=traceparent) + (extra_headers or [])
        future = self.forward(topic, str(event.job_id).encode(), value, headers)
        if span is not None:
            future.add_done_callback(partial(_end, span))
        return future

    def forward(
        self, topic: Topic, key: bytes | None, value: bytes | None, headers: codec.Headers
    ) -> Future[Delivered]:
        """Send a message as it is, such as one for the dead letter topic that could not be decoded."""
        future: Future[Delivered] = Future()
        future.add_done_callback(_measuring(topic.name))
        try:
            self._producer.produce(
                topic.name, key=key, value=value, headers=list(headers), on_delivery=_resolve(future)
            )
        except BufferError:
            future.set_exception(KafkaException(KafkaError(KafkaError._QUEUE_FULL)))  # noqa: SLF001  # the library's own name
        except KafkaException as error:
            future.set_exception(error)
        return future

    async def publish_async(self, topic: Topic, event: Event, *, traceparent: str | None = None) -> Delivered:
        """Publish from a running loop and wait for the delivery."""
        return await asyncio.wrap_future(self.publish(topic, event, traceparent=traceparent))

    @property
    def waiting(self) -> int:
        """How many messages are not delivered yet."""
        return len(self._producer)

    def is_reachable(self, timeout_seconds: float = 2.0) -> bool:
        """Whether a broker answers a metadata request. Blocks."""
        try:
            self._producer.list_topics(timeout=timeout_seconds)
        except KafkaException:
            return False
        return True

    def close(self, deadline: Deadline) -> int:
        """Wait for deliveries until the deadline and return how many messages are left undelivered."""
        left = int(self._producer.flush(deadline.remaining()))
        self._closing.set()
        self._thread.join(deadline.remaining() + 1.0)
        if isinstance(self._schema_ids, RegistrySchemaIds):
            self._schema_ids.close()
        return left

    def _poll(self) -> None:
        while not self._closing.is_set():
            try:
                self._producer.poll(0.1)
            except KafkaException:  # raised once, in place of a call of error_cb; what is pending is still delivered
                logger.exception("the producer failed for good", extra={"action": "producer_failed"})
                self.has_failed = True


def _span_of(topic: Topic, event: Event, traceparent: str | None) -> tracing.Span | None:
    """Return the span of a delivery, by the semantic conventions for Kafka; signs of life would drown the others."""
    if topic is PROGRESS or not tracing.is_on():
        return None
    attributes = tracing.messaging("send", topic.name) | {
        "messaging.message.id": str(event_id(event)),
        "messaging.kafka.message.key": str(event.job_id),
        "docfleet.job_id": str(event.job_id),
        "docfleet.event": type(event).__name__,
        "docfleet.attempt": event.attempt,
    }
    return tracing.begin(f"send {topic.name}", "producer", parent=traceparent, attributes=attributes)


def _end(span: tracing.Span, future: Future[Delivered]) -> None:
    if (error := future.exception()) is not None:
        span.fail(type(error).__name__, str(error))
    else:
        span.set(tracing.place(future.result().partition, future.result().offset))
    span.end()


def _measuring(topic: str) -> Callable[[Future[Delivered]], None]:
    sent_at = time.monotonic()

    def measure(future: Future[Delivered]) -> None:
        is_delivered = future.exception() is None
        metrics.MESSAGES_PUBLISHED.labels(topic, "delivered" if is_delivered else "failed").inc()
        if is_delivered:
            metrics.PUBLISH_SECONDS.labels(topic).observe(time.monotonic() - sent_at)

    return measure


def _resolve(future: Future[Delivered]) -> Callable[[KafkaError | None, Message], None]:
    def on_delivery(error: KafkaError | None, message: Message) -> None:
        if not future.set_running_or_notify_cancel():
            return
        if error is not None:
            future.set_exception(KafkaException(error))
        else:
            future.set_result(
                Delivered(str(message.topic()), int(message.partition() or 0), int(message.offset() or 0))
            )

    return on_delivery


def _ignore(_error: KafkaError) -> None:
    return


#: In a place that the interpreter has made fast, `message.headers()` returns such a list without raising; this raises.
_call_headers: Final = operator.methodcaller("headers")


def headers_of(message: Message) -> codec.Headers:
    """Return a message's headers; none at all when the name of one is no UTF-8, which the client library cannot read.

    It then leaves a list with holes in the message, which crash the process when somebody looks at them.
    """
    try:
        headers: Any = _call_headers(message)
    except (SystemError, UnicodeDecodeError):
        message.set_headers([])
        return []
    return [(name, value or b"") for name, value in headers or ()]


def schema_ids(settings: KafkaSettings) -> codec.SchemaIds | None:
    """Return the registry's schema ids when SCHEMA_REGISTRY_URL is set, else None."""
    return RegistrySchemaIds(settings.schema_registry_url) if settings.schema_registry_url else None


class RegistrySchemaIds:
    """Schema ids of a Confluent-compatible registry; our schemas are registered when first used.

    Subjects follow RecordNameStrategy (the event's full name), since docfleet.events carries several
    types. Ids never change their schema, so both directions are kept for the life of the process.
    """

    def __init__(self, url: str) -> None:
        # In the extra `registry`: most systems run without one.
        from confluent_kafka.schema_registry import Schema, SchemaRegistryClient  # noqa: PLC0415

        self._make_schema = Schema
        self._session = ExitStack()
        self._client = self._session.enter_context(SchemaRegistryClient({"url": url}))
        self._ids: dict[str, int] = {}
        self._schemas: dict[int, dict[str, Any] | None] = {}

    def close(self) -> None:
        """Close the connections to the registry."""
        self._session.close()

    def id_of(self, full_name: str) -> int:
        """Return the id of our current schema, registering it the first time."""
        if full_name not in self._ids:
            text = json.dumps(codec.schema_of(full_name))
            self._ids[full_name] = int(self._client.register_schema(full_name, self._make_schema(text, "AVRO")))
        return self._ids[full_name]

    def schema_of(self, schema_id: int) -> dict[str, Any]:
        """Return the record schema with this id; KeyError when the registry has none.

        Anything else that is raised says that the registry does not answer as it should, and may do later.
        """
        from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: PLC0415

        if schema_id not in self._schemas:
            try:
                text = str(self._client.get_schema(schema_id).schema_str)
            except SchemaRegistryError as error:
                if error.http_status_code == 404:  # noqa: PLR2004
                    raise KeyError(schema_id) from error
                raise
            self._schemas[schema_id] = codec.record_schema(text)
        if (schema := self._schemas[schema_id]) is None:
            raise KeyError(schema_id)
        return schema
