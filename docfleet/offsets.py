"""How far a topic reaches and how far it was read, as a consumer that never subscribes can ask. Every call blocks."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

#: Longest wait for a broker's answer.
ANSWER_SECONDS: Final = 10.0
#: Errors of a group whose coordinator is only just loading, or has moved: the same question is answered soon.
COORDINATOR_MOVES: Final = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    }
)


def partitions_of(consumer: Any, topic: str) -> list[TopicPartition]:  # noqa: ANN401  # untyped library
    """Return a topic's partitions; KafkaException when no broker answers or the topic is not known, so never none."""
    found = consumer.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    return [TopicPartition(topic, partition) for partition in sorted(found.partitions)]


def watermarks_of(
    consumer: Any,  # noqa: ANN401  # untyped library
    partition: TopicPartition,
    *,
    within_seconds: float = ANSWER_SECONDS,
) -> tuple[int, int]:
    """Return the first offset that is there and the next to be written; KafkaException when no broker answers."""
    found = consumer.get_watermark_offsets(partition, timeout=within_seconds)
    if found is None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001  # the library's own name
    low, high = found
    return low, high


def ends_of(consumer: Any, partitions: Iterable[TopicPartition]) -> dict[int, int]:  # noqa: ANN401
    """Return the next offset of each partition of one topic that has anything in it."""
    watermarks = {partition.partition: watermarks_of(consumer, partition) for partition in partitions}
    return {partition: high for partition, (low, high) in watermarks.items() if high > low}


def is_read(offsets: Mapping[int, int], ends: Mapping[int, int]) -> bool:
    """Whether who has come to these `offsets`, by partition, has read everything below `ends`."""
    return all(offsets.get(partition, 0) >= end for partition, end in ends.items())
