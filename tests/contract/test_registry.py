"""Events in Confluent framing, through a real registry (Apicurio's Confluent API) and a real broker."""

import dataclasses
import io
import json
import uuid
from collections.abc import Iterator
from contextlib import closing

import fastavro
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

from docfleet.kafka import Publisher, RegistrySchemaIds
from docfleet.settings import KafkaSettings
from docfleet.stack import kafka_server
from docfleet.stopping import Deadline
from schemas import codec, topics
from schemas.events import EVENT_TYPES
from tests import registry
from tests.contract.golden import examples
from tests.events import cancelled, completed, failed, progressed, requested, started

BUILDERS = (requested, started, progressed, completed, failed, cancelled)


@pytest.fixture
def client(registry_url: str) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": registry_url}) as client:
        yield client


@pytest.fixture
def ids(registry_url: str) -> Iterator[RegistrySchemaIds]:
    with closing(RegistrySchemaIds(registry_url)) as ids:
        yield ids


@pytest.fixture
def topic(kafka: str, unique: str) -> topics.Topic:
    topic = dataclasses.replace(topics.EVENTS, name=f"{unique}.registry", partitions=1)
    kafka_server.create_topics({"bootstrap.servers": kafka}, [topic])
    return topic


@pytest.fixture(scope="module")
def registry_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry.registry_running(tmp_path_factory.mktemp("registry")) as url:
        yield url


def test_every_event_comes_back_in_confluent_framing(registry_url: str, ids: RegistrySchemaIds):
    with closing(RegistrySchemaIds(registry_url)) as reader:
        for build in BUILDERS:
            event = build()
            value = codec.encode(event, ids)
            assert value[0] == 0
            assert codec.decode(value, reader) == event
            assert codec.decode(codec.encode(event), reader) == event  # the other framing is read too


def test_confluents_own_deserializer_reads_what_the_publisher_wrote(
    registry_url: str, kafka: str, topic: topics.Topic, client: SchemaRegistryClient, ids: RegistrySchemaIds
):
    settings = KafkaSettings(kafka_bootstrap_servers=kafka, schema_registry_url=registry_url)
    publisher = Publisher(settings, source="tests")
    event = completed()
    where = publisher.publish(topic, event).result(20)
    publisher.close(Deadline(5))
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": topic.name})
    consumer.assign([TopicPartition(where.topic, where.partition, where.offset)])
    message = consumer.poll(20)
    consumer.close()
    assert message is not None
    deserialize = AvroDeserializer(client)
    record = deserialize(message.value(), SerializationContext(where.topic, MessageField.VALUE))
    assert record["job_id"] == event.job_id or uuid.UUID(record["job_id"]) == event.job_id
    assert (record["result"], record["occurred_at"]) == (event.result, event.occurred_at)
    assert codec.decode(message.value(), ids) == event


def test_released_versions_and_the_present_one_are_fully_compatible(client: SchemaRegistryClient, unique: str):
    for event_type in EVENT_TYPES:
        subject = f"{unique}.{event_type.__name__}"
        client.register_schema(subject, Schema(examples(event_type)[0].schema_text, "AVRO"))
        client.set_compatibility(subject, "FULL_TRANSITIVE")
        for example in examples(event_type)[1:]:
            client.register_schema(subject, Schema(example.schema_text, "AVRO"))
        client.register_schema(subject, Schema(json.dumps(codec.schema_of(codec.full_name(event_type))), "AVRO"))


def test_change_that_old_readers_could_not_follow_is_refused(client: SchemaRegistryClient, unique: str):
    schema = codec.schema_of(codec.full_name(EVENT_TYPES[0]))
    client.register_schema(unique, Schema(json.dumps(schema), "AVRO"))
    client.set_compatibility(unique, "FULL_TRANSITIVE")
    without_default = schema | {"fields": [*schema["fields"], {"name": "added", "type": "string"}]}
    with pytest.raises(SchemaRegistryError) as refused:
        client.register_schema(unique, Schema(json.dumps(without_default), "AVRO"))
    assert refused.value.http_status_code == 409


def test_schema_of_a_newer_writer_is_read_by_todays_reader(client: SchemaRegistryClient, ids: RegistrySchemaIds):
    """A later release may add a field with a default; whoever runs this one passes over it."""
    event = started()
    schema = codec.schema_of(codec.full_name(type(event)))
    newer = schema | {"fields": [*schema["fields"], {"name": "gpu", "type": "string", "default": ""}]}
    schema_id = client.register_schema("newer", Schema(json.dumps(newer), "AVRO"))
    body = io.BytesIO()
    record = {name: getattr(event, name) for name in event.__dataclass_fields__} | {"gpu": "H100"}
    fastavro.schemaless_writer(body, fastavro.parse_schema(newer), record)
    value = b"\x00" + schema_id.to_bytes(4, "big") + body.getvalue()
    assert codec.decode(value, ids) == event


def test_id_that_the_registry_does_not_know_is_no_event(ids: RegistrySchemaIds):
    with pytest.raises(codec.UndecodableMessage, match="no record schema with id 999999"):
        codec.decode(b"\x00" + (999_999).to_bytes(4, "big") + b"abc", ids)


@pytest.mark.parametrize(
    ("text", "kind"),
    [('"string"', "AVRO"), ('["null", "string"]', "AVRO"), ('syntax = "proto3"; message M {}', "PROTOBUF")],
)
def test_schema_that_is_no_record_is_no_event(
    client: SchemaRegistryClient, ids: RegistrySchemaIds, unique: str, text: str, kind: str
):
    schema_id = client.register_schema(unique, Schema(text, kind))
    with pytest.raises(codec.UndecodableMessage, match="no record schema"):
        codec.decode(b"\x00" + schema_id.to_bytes(4, "big") + b"abc", ids)


def test_schema_of_another_system_is_no_event(client: SchemaRegistryClient, ids: RegistrySchemaIds):
    text = json.dumps({"type": "record", "name": "Order", "namespace": "shop", "fields": []})
    schema_id = client.register_schema("orders", Schema(text, "AVRO"))
    with pytest.raises(codec.UndecodableMessage, match="no event of this system"):
        codec.decode(b"\x00" + schema_id.to_bytes(4, "big"), ids)
