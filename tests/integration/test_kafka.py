"""What confluent-kafka does otherwise than one expects, on a real broker."""

import dataclasses

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from docfleet.kafka import Publisher, headers_of
from docfleet.settings import KafkaSettings
from docfleet.stack import kafka_server
from docfleet.stopping import Deadline
from schemas import topics
from tests import foreign_client
from tests.events import started
from tests.waiting import eventually_sync


def test_header_whose_name_is_no_text_is_no_header_however_often_headers_were_read(kafka: str, unique: str):
    kafka_server.create_topics(
        {"bootstrap.servers": kafka}, [dataclasses.replace(topics.EVENTS, name=unique, partitions=1)]
    )
    producer = Producer({"bootstrap.servers": kafka})
    for _ in range(100):  # the interpreter makes a call faster, and checks less, when it has seen it a few times
        producer.produce(unique, b"", headers=[("a", b"1"), ("b", None)])
    producer.flush(20)
    foreign_client.produce(kafka, unique, b"odd", b"\xff\xfe")
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": unique, "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(unique, 0)])
    messages = consumer.consume(101, timeout=20)
    read = [headers_of(message) for message in messages]
    assert read == [[("a", b"1"), ("b", b"")]] * 100 + [[]]
    assert headers_of(messages[-1]) == []
    consumer.close()


@pytest.mark.usefixtures("topics")
def test_producer_that_failed_for_good_says_so_and_leaves_no_delivery_unanswered(kafka: str):
    publisher = Publisher(KafkaSettings(kafka_bootstrap_servers=kafka), source="tests")
    publisher.publish(topics.EVENTS, started()).result(20)
    assert not publisher.has_failed
    under_way = [publisher.publish(topics.EVENTS, started()) for _ in range(100)]
    foreign_client.fail_for_good(publisher._producer)
    eventually_sync(lambda: publisher.has_failed)
    eventually_sync(lambda: all(future.done() for future in under_way))
    with pytest.raises(KafkaException) as refused:
        publisher.publish(topics.EVENTS, started()).result(20)
    assert refused.value.args[0].code() == KafkaError._FATAL
    publisher.close(Deadline(5))
