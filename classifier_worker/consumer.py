"""The consume port on a Kafka consumer group: receive / ack / release / reject, out of order, at least once.

Owns the consumer handle and the one thread that polls it. That thread never works: it takes messages
into the hand-off, pauses and resumes, stores the low-water marks and commits them each second.

Revoked: drop what has not started of the partition, wait (bounded) for what has, commit, forget. A job
acks only after its result is delivered, so nothing is left to flush by then. What is finished ahead of a
mark is committed beside it, for whoever gets the partition next. Lost: forget, never
commit. An ack that comes later moves nothing, because offsets are only stored for the partition's
present assignment, and `commit(offsets=...)`, which would succeed for partitions of others, is not used.
"""

import json
import logging
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from classifier_worker.core import done_ahead
from classifier_worker.core.held import Partition
from classifier_worker.core.retry import DELAY_SECONDS_MAX
from classifier_worker.handoff import RawMessage
from classifier_worker.partition_handoff import PartitionHandOff, Progress
from classifier_worker.receiving import Receiving
from docfleet import metrics
from docfleet.fault_points import reached
from docfleet.kafka import headers_of
from docfleet.stopping import Deadline
from schemas import codec
from schemas.topics import NOT_BEFORE_HEADER

logger = logging.getLogger(__name__)

_IDLE_POLL_SECONDS: Final = 0.2
_BUSY_POLL_SECONDS: Final = 0.02  #: while something waits for its time or for room
_COMMIT_SECONDS: Final = 1.0
#: Committing and leaving may take this long at least, whatever is left of a stop's time.
_LEAVE_SECONDS: Final = 2.0
_COMMITTED_SECONDS: Final = 5.0
_STATISTICS_MS: Final = 5000
#: A fetch that waits at the broker delays what is resumed meanwhile (librdkafka's default: 500 ms).
_FETCH_WAIT_MS: Final = 50


class JobConsumer(Receiving):
    """Messages of the group's partitions, for many job threads; call `start` once, `close` last."""

    def __init__(
        self,
        config: dict[str, Any],
        topics: Sequence[str],
        handoff: PartitionHandOff,
        *,
        drain_seconds: float = 10.0,
    ) -> None:
        self._config = config
        self._topics = list(topics)
        super().__init__(handoff)
        self._handoff: PartitionHandOff = handoff
        self._drain_seconds = drain_seconds
        self._consumer: Any = None
        self._paused: frozenset[Partition] = frozenset()
        self._commit_is_due = False
        self._closing = threading.Event()
        self._leave_by = Deadline(0)
        self._last_turn = self._last_commit = time.monotonic()
        self._lost_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="kafka-poll", daemon=True)

    def start(self) -> None:
        """Join the group and begin to consume."""
        callbacks = {"on_commit": self._on_commit, "stats_cb": self._on_statistics, "error_cb": _log_error}
        timing = {"statistics.interval.ms": _STATISTICS_MS, "fetch.wait.max.ms": _FETCH_WAIT_MS}
        self._consumer = Consumer(self._config | timing | callbacks)
        self._thread.start()

    def close(self, deadline: Deadline) -> bool:
        """Wait for started jobs, commit, leave the group; False when that was not done by the deadline."""
        self.stop_intake()
        is_idle = self._handoff.wait_until_idle(deadline.remaining())
        self._drain_seconds = 0.0  # leaving revokes every partition; what has not ended by now is handed back
        leave_seconds = max(_LEAVE_SECONDS, deadline.remaining())
        self._leave_by = Deadline(leave_seconds / 2)
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(leave_seconds)
        return is_idle and not self._thread.is_alive()

    def dead_because(self, silence_seconds: float) -> str | None:
        """Return why the poll loop counts as dead; None while it turns."""
        if self._failure is not None:
            return f"the poll loop ended: {self._failure}"
        silent_seconds = time.monotonic() - self._last_turn
        return f"the poll loop is silent for {silent_seconds:.0f} s" if silent_seconds > silence_seconds else None

    def unready_because(self, lost_seconds: float) -> str | None:
        """Return why no jobs get in; None when they can."""
        if (fused := super().unready_because(lost_seconds)) is not None:
            return fused
        if self._lost_at is not None and time.monotonic() - self._lost_at > lost_seconds:
            return "the partitions were lost and none were given since"
        return None

    # --- the poll thread ---

    def _run(self) -> None:
        try:
            self._consumer.subscribe(
                self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not self._closing.is_set():
                self._turn()
            self._commit_last()
        except BaseException as error:
            self._failure = error
            logger.exception("the poll loop failed", extra={"action": "consumer_failed"})
        finally:
            try:
                self._consumer.close()
            except KafkaException as error:
                logger.warning("leaving the group failed: %s", error, extra={"action": "consumer_close_failed"})

    def _turn(self) -> None:
        self._last_turn = time.monotonic()
        self._handoff.admit_due()
        self._steer()
        message = self._consumer.poll(_BUSY_POLL_SECONDS if self._handoff.is_holding_back else _IDLE_POLL_SECONDS)
        if message is not None:
            self._take(message)
        if time.monotonic() - self._last_commit >= _COMMIT_SECONDS:
            self._last_commit = time.monotonic()
            self._store()
            self._commit(asynchronous=True)

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.fatal():
                raise KafkaException(error)
            logger.warning("consume error: %s", error.str(), extra={"action": "consume_error"})
            return
        raw = raw_message(message)
        self._handoff.arrive(_place(message), message.offset() or 0, raw, due_at(raw, sent_at(message)))

    def _steer(self) -> None:
        wanted = self._handoff.to_pause()
        if wanted == self._paused:
            return
        if pausing := wanted - self._paused:
            self._consumer.pause(_listed(pausing))
            metrics.CONSUMER_PAUSES.inc()
        if resuming := self._paused - wanted:
            self._consumer.resume(_listed(resuming))
        self._paused = wanted

    def _store(self) -> None:
        for (topic, partition), (mark, ahead) in self._handoff.advanced().items():
            place = TopicPartition(topic, partition, mark, done_ahead.encode(mark, ahead))
            try:
                self._consumer.store_offsets(offsets=[place])
            except KafkaException as error:  # the partition has just been taken away
                self._log_commit_failure(error.args[0])
            else:
                self._commit_is_due = True

    def _commit(self, *, asynchronous: bool) -> None:
        if asynchronous and not self._commit_is_due:
            return  # but who is about to lose partitions must know that the commit before got through
        self._commit_is_due = False
        reached("before_offset_commit")
        try:
            self._consumer.commit(asynchronous=asynchronous)
        except KafkaException as error:
            self._log_commit_failure(error.args[0])

    def _commit_last(self) -> None:
        """Commit before leaving. While others join or leave too, the group refuses that: then wait until they have."""
        while True:
            self._store()
            self._commit(asynchronous=False)
            if not self._commit_is_due or self._leave_by.is_over:
                return
            self._consumer.poll(_BUSY_POLL_SECONDS)  # lets the group come to terms; what it returns is not ours to do

    # --- callbacks, on the poll thread ---

    def _on_assign(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        names = _named(partitions)
        self._handoff.assign(names, self._committed(consumer, partitions))
        self._lost_at = None
        consumer.incremental_assign(partitions)
        consumer.resume(partitions)  # librdkafka keeps a pause while a partition is away
        if held := self._handoff.to_pause() & frozenset(names):
            consumer.pause(_listed(held))
        self._paused = (self._paused - frozenset(names)) | held
        metrics.REBALANCES.labels("assigned").inc(len(partitions))
        logger.info("partitions assigned", extra={"action": "assigned", "partitions": names})

    def _committed(self, consumer: Any, partitions: list[TopicPartition]) -> dict[Partition, Progress]:
        """Return where the partitions' owners before have come to; nothing when that cannot be known now."""
        try:
            places = consumer.committed(partitions, timeout=_COMMITTED_SECONDS)
        except KafkaException as error:
            logger.warning("what is done ahead is not known: %s", error, extra={"action": "committed_unknown"})
            return {}
        return {
            (place.topic, place.partition): (place.offset, done_ahead.decode(place.offset, place.metadata))
            for place in places
            if place.offset >= 0
        }

    def _on_revoke(self, _consumer: Any, partitions: list[TopicPartition]) -> None:
        names = _named(partitions)
        if not self._handoff.leave(names, self._drain_seconds):
            logger.warning("jobs of revoked partitions are still running", extra={"action": "drain_ran_out"})
        self._store()
        self._commit(asynchronous=False)
        self._drop(names, "revoked")

    def _on_lost(self, _consumer: Any, partitions: list[TopicPartition]) -> None:
        self._lost_at = time.monotonic()
        self._drop(_named(partitions), "lost")

    def _drop(self, names: list[Partition], kind: str) -> None:
        self._handoff.forget(names)
        self._paused -= frozenset(names)
        for topic, partition in names:
            metrics.CONSUMER_LAG.remove(topic, str(partition))
        metrics.REBALANCES.labels(kind).inc(len(names))
        logger.info("partitions %s", kind, extra={"action": kind, "partitions": names})

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        for failed in [error, *(partition.error for partition in partitions)]:
            if failed is not None:
                self._log_commit_failure(failed)
        reached("after_offset_commit")

    def _log_commit_failure(self, error: KafkaError) -> None:
        if error.code() == KafkaError._NO_OFFSET:
            return
        self._commit_is_due = True  # what is stored is committed with the next
        logger.warning("commit failed: %s", error.str(), extra={"action": "commit_failed"})

    def _on_statistics(self, text: str) -> None:
        assigned = {(topic, str(partition)) for topic, partition in self._handoff.partitions}
        for topic, statistics in json.loads(text)["topics"].items():
            for partition, numbers in statistics["partitions"].items():
                if (topic, partition) in assigned and numbers["consumer_lag"] >= 0:
                    metrics.CONSUMER_LAG.labels(topic, partition).set(numbers["consumer_lag"])


def _place(message: Message) -> Partition:
    return str(message.topic()), message.partition() or 0


def raw_message(message: Message) -> RawMessage:
    """Return the message without its client."""
    return RawMessage(message.key(), message.value(), headers_of(message))


def sent_at(message: Message) -> float:
    """Return when the message was sent, in seconds since the epoch: the same each time that it is received."""
    return min(message.timestamp()[1] / 1000, time.time())  # whoever sent it may have another clock


def due_at(message: RawMessage, sent_at: float) -> float:
    """Return when the message may be worked on, in seconds since the epoch, as `sent_at` is; 0 for at once.

    That is soon, whatever the header says: what waits is not running, so the breaker does not see it hold others back.
    """
    text = codec.header(message.headers, NOT_BEFORE_HEADER)
    if text is None:
        return 0.0
    try:
        return min(datetime.fromisoformat(text).timestamp(), sent_at + DELAY_SECONDS_MAX)
    except ValueError:
        return 0.0  # a header of somebody else's making: the job is not the worse for starting now


def _named(partitions: list[TopicPartition]) -> list[Partition]:
    return [(partition.topic, partition.partition) for partition in partitions]


def _listed(partitions: frozenset[Partition]) -> list[TopicPartition]:
    return [TopicPartition(topic, partition) for topic, partition in sorted(partitions)]


def _log_error(error: KafkaError) -> None:
    logger.info("kafka: %s", error.str(), extra={"action": "kafka_error"})
