"""The local stack's servers are what they claim to be."""

import asyncio
import urllib.request
from dataclasses import replace

import psycopg
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from docfleet.stack import kafka_server
from schemas.topics import DLQ, TOPICS
from tests.servers import Gcs
from tests.waiting import eventually_sync


def test_each_test_has_a_migrated_database_of_its_own(postgres: str) -> None:
    with psycopg.connect(postgres) as connection:
        version = connection.execute("SHOW server_version_num").fetchone()
        rows = connection.execute("SELECT count(*) FROM jobs").fetchone()
    assert version is not None
    assert int(version[0]) >= 180000
    assert rows == (0,)


def test_bucket_keeps_what_is_put_into_it(gcs: Gcs) -> None:
    upload = urllib.request.Request(
        f"{gcs.endpoint}/upload/storage/v1/b/{gcs.bucket}/o?uploadType=media&name=a/b", data=b"hello", method="POST"
    )
    urllib.request.urlopen(upload, timeout=5).close()
    with urllib.request.urlopen(f"{gcs.endpoint}/storage/v1/b/{gcs.bucket}/o/a%2Fb?alt=media", timeout=5) as answer:
        assert answer.read() == b"hello"


def test_topics_of_the_catalogue_are_created_once(kafka: str, unique: str) -> None:
    config = {"bootstrap.servers": kafka}
    kafka_server.create_topics(config, TOPICS, prefix=unique)
    kafka_server.create_topics(config, TOPICS, prefix=unique)
    topics = AdminClient(config).list_topics(timeout=10).topics
    assert {topic.name for topic in TOPICS} == {name.removeprefix(unique) for name in topics if name.startswith(unique)}
    assert len(topics[unique + DLQ.name].partitions) == DLQ.partitions


def test_partitions_grow_to_what_is_asked_for_and_never_shrink(kafka: str, unique: str) -> None:
    config = {"bootstrap.servers": kafka}
    topic = replace(DLQ, name=f"{DLQ.name}-{unique}")

    def partitions() -> int:
        return len(AdminClient(config).list_topics(topic.name, timeout=10).topics[topic.name].partitions)

    kafka_server.create_topics(config, [topic])
    kafka_server.raise_partitions(config, replace(topic, partitions=5))
    eventually_sync(lambda: partitions() == 5)
    kafka_server.raise_partitions(config, replace(topic, partitions=4))
    assert partitions() == 5


async def test_broker_serves_both_group_protocols(kafka: str, unique: str) -> None:
    kafka_server.create_topics({"bootstrap.servers": kafka}, [DLQ], prefix=unique)
    topic = unique + DLQ.name
    producer = Producer({"bootstrap.servers": kafka, "enable.idempotence": True})
    producer.produce(topic, b"hello")
    assert producer.flush(20) == 0

    def first_message(protocol: str) -> bytes | None:
        settings = {"bootstrap.servers": kafka, "group.id": f"{unique}-{protocol}", "group.protocol": protocol}
        consumer = Consumer({**settings, "auto.offset.reset": "earliest"})
        consumer.subscribe([topic])
        message = consumer.poll(20)
        consumer.close()
        assert message is not None
        assert message.error() is None
        return message.value()

    answers = await asyncio.gather(
        *(asyncio.to_thread(first_message, protocol) for protocol in ("classic", "consumer"))
    )
    assert answers == [b"hello", b"hello"]
