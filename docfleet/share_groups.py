"""What a share group (KIP-932) is told and what it answers: lock time, deliveries, where it begins.

The settings of a share group live on the broker. Whoever may alter them makes them fit; else what the
broker has is taken as it is.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)  # not exported for type checkers
from confluent_kafka.admin._resource import ResourceType

from docfleet.offsets import COORDINATOR_MOVES

logger = logging.getLogger(__name__)

_LOCK: Final = "share.record.lock.duration.ms"
_DELIVERIES: Final = "share.delivery.count.limit"
_ANSWER_SECONDS: Final = 10.0
_SPARE_SECONDS: Final = 5.0  #: until a request that found no broker says so itself, rather than its future
#: Apache Kafka's defaults, for a broker that does not let us look.
_DEFAULTS: Final = {_LOCK: "30000", _DELIVERIES: "5"}
#: No answer, or one that will be another soon. (What librdkafka calls retriable is about transactions.)
_PASSING: Final = frozenset(
    {
        KafkaError._TIMED_OUT,  # noqa: SLF001  # the library's own names
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NOT_CONTROLLER,
        *COORDINATOR_MOVES,
    }
)


@dataclass(frozen=True, slots=True)
class GroupTerms:
    """How long a record is locked, how often it is given out, and what of the topics was done before the group."""

    lock_seconds: float
    deliveries_max: int
    done_before: Mapping[tuple[str, int], int]


def prepare(
    client_config: Mapping[str, Any], group_id: str, *, lock_seconds: float, topics: Iterable[str], former_group_id: str
) -> GroupTerms:
    """Make the group begin at the start of its topics and lock for `lock_seconds`; return what it then has.

    What the consumer group `former_group_id` has committed counts as done. KafkaException when no broker answers.
    """
    admin = AdminClient({**client_config, "log_level": 0})
    wanted = {
        "share.auto.offset.reset": "earliest",
        "share.isolation.level": "read_committed",
        _LOCK: str(int(lock_seconds * 1000)),
    }
    for name, value in wanted.items():  # one by one, so that a refused one does not keep the others out
        _alter(admin, group_id, name, value)
    terms = _DEFAULTS | _describe(admin, group_id)
    return GroupTerms(
        int(terms[_LOCK]) / 1000, int(terms[_DELIVERIES]), _committed(client_config, former_group_id, topics)
    )


def _alter(admin: AdminClient, group_id: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.GROUP, group_id, incremental_configs=[entry])
    for altered in admin.incremental_alter_configs([resource], request_timeout=_ANSWER_SECONDS).values():
        try:
            altered.result(_ANSWER_SECONDS + _SPARE_SECONDS)
        except KafkaException as error:
            if _is_passing(error.args[0]):
                raise
            logger.warning("%s=%s was refused: %s", name, value, error, extra={"action": "share_group_setting"})


def _describe(admin: AdminClient, group_id: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.GROUP, group_id)
    for described in admin.describe_configs([resource], request_timeout=_ANSWER_SECONDS).values():
        try:
            entries: dict[str, Any] = described.result(_ANSWER_SECONDS + _SPARE_SECONDS)
        except KafkaException as error:
            if _is_passing(error.args[0]):
                raise
            logger.warning("the group's settings are not known: %s", error, extra={"action": "share_group_setting"})
        else:
            return {name: entry.value for name, entry in entries.items() if name in _DEFAULTS}
    return {}


def _is_passing(error: KafkaError) -> bool:
    return error.retriable() or error.code() in _PASSING


def _committed(client_config: Mapping[str, Any], group_id: str, topics: Iterable[str]) -> dict[tuple[str, int], int]:
    consumer = Consumer({**client_config, "group.id": group_id, "log_level": 0})
    try:
        partitions = [
            TopicPartition(topic, partition)
            for topic in topics
            for partition in consumer.list_topics(topic, timeout=_ANSWER_SECONDS).topics[topic].partitions
        ]
        committed = consumer.committed(partitions, timeout=_ANSWER_SECONDS)
    finally:
        consumer.close()
    return {(place.topic, place.partition): place.offset for place in committed if place.offset > 0}
