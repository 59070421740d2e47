"""The publisher on a real broker, when its producer fails for good."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from docfleet.kafka import Publisher
from docfleet.settings import KafkaSettings
from docfleet.stopping import Deadline
from schemas import topics
from tests import foreign_client
from tests.events import started
from tests.waiting import eventually_sync


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
