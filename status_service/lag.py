"""How far the projector is, for those who watch: offsets committed to Kafka, and the metric of the lag.

Nothing goes on from here: where a group goes on is in Postgres.
"""

import logging
import time
from collections.abc import Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from docfleet import metrics
from status_service.store import Claim, Partition

logger = logging.getLogger(__name__)

_REPORT_SECONDS: Final = 1.0


class LagReport:
    """Tells Kafka and the metrics what is written. Use it from the thread that polls."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._uncommitted: dict[Partition, int] = {}
        self._reported_at = 0.0

    def moved(self, partition: Partition, next_offset: int) -> None:
        """Note that all below this offset is written."""
        self._uncommitted[partition] = next_offset

    def forget(self, partition: Partition) -> None:
        """Say no more about a partition that is not ours."""
        self._uncommitted.pop(partition, None)
        try:
            metrics.PROJECTOR_LAG.remove(partition[0], str(partition[1]))
        except KeyError:
            return

    def tell(self, claims: Mapping[Partition, Claim]) -> None:
        """Commit and measure, once a second however often it is called."""
        if time.monotonic() - self._reported_at > _REPORT_SECONDS:
            self.commit()
            for (topic, number), claim in claims.items():
                _, high = self._consumer.get_watermark_offsets(TopicPartition(topic, number), cached=True)
                metrics.PROJECTOR_LAG.labels(topic, str(number)).set(max(0, high - claim.next_offset))

    def commit(self) -> None:
        """Commit now, without waiting for the answer."""
        self._reported_at = time.monotonic()
        if self._uncommitted:
            offsets = [TopicPartition(topic, number, offset) for (topic, number), offset in self._uncommitted.items()]
            self._uncommitted = {}
            try:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            except KafkaException as error:
                logger.warning("lag tools will lag: %s", error, extra={"action": "commit_failed"})
