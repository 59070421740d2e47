"""Events into rows: a thread that reads Kafka and writes Postgres, batch by batch.

Where the group goes on is kept in Postgres, in the transaction that writes the rows; Kafka is told
afterwards, for lag tools only. A partition is not read before it is claimed in Postgres, so while
Postgres is away nothing is fetched, and a batch that could not be written is kept and tried again
while the group is still served. A zombie (a process whose partitions went to another while it
slept) is fenced by the claim's epoch. Owns the consumer; statements and rows are the store's.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from docfleet import metrics
from docfleet.stopping import Deadline
from schemas import topics
from schemas.codec import SchemaIds
from schemas.topics import Topic
from status_service import folding, traces
from status_service.decoding import decode_all
from status_service.store import Advance, Claim, Fenced, Partition, ProjectionStore

logger = logging.getLogger(__name__)

#: docfleet.jobs is read so that queued jobs, too, come back when the table was lost.
READ_TOPICS: Final = (topics.JOBS, topics.EVENTS, topics.PROGRESS)

_BATCH_MESSAGES: Final = 1000
_POLL_SECONDS: Final = 0.1
_FIRST_RETRY_SECONDS: Final = 0.1
_LAST_RETRY_SECONDS: Final = 2.0
_COMMIT_SECONDS: Final = 1.0
_BROKER_SECONDS: Final = 5.0
#: A loop that has not turned for this long hangs. Its longest step is a statement on a lost connection, 10 s.
_HANGS_AFTER_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Intake:
    """What to read and as whom; `kafka` are librdkafka's settings of a consumer."""

    kafka: Mapping[str, Any]
    consumer_group: str = topics.STATUS_GROUP
    topics: Sequence[Topic] = READ_TOPICS


class Projector:
    """Keeps the table of jobs up with the topics, from `start` to `stop`."""

    def __init__(self, intake: Intake, dsn: str, schema_ids: SchemaIds | None = None) -> None:
        self._intake = intake
        self._store = ProjectionStore(dsn, intake.consumer_group)
        self._schema_ids = schema_ids
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="projector", daemon=True)
        self._turned_at = time.monotonic()
        self._was_assigned = False
        # from here on the thread's own
        self._consumer = Consumer(dict(intake.kafka) | {"group.id": intake.consumer_group, "error_cb": _log_error})
        self._unclaimed: set[Partition] = set()
        self._claims: dict[Partition, Claim] = {}
        self._batch: list[Message] = []
        self._retry_seconds = 0.0
        self._retry_at = 0.0
        self._uncommitted: dict[Partition, int] = {}
        self._committed_at = 0.0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, deadline: Deadline) -> bool:
        """Finish the batch at hand, commit, leave the group; False when the deadline came first. Blocks."""
        self._stopping.set()
        self._thread.join(deadline.remaining())
        return not self._thread.is_alive()

    def fault(self) -> str | None:
        """Return why the loop does not turn; None while it does."""
        if not self._thread.is_alive():
            return "the projector ended" if self._thread.ident else "the projector has not started"
        silent_seconds = time.monotonic() - self._turned_at
        return f"the projector hangs for {silent_seconds:.0f} s" if silent_seconds > _HANGS_AFTER_SECONDS else None

    def unready(self) -> str | None:
        """Return why this process should not be asked yet; None once the group has let it in.

        A broker that goes away later only makes rows late, and the rows can still be read.
        """
        return self.fault() or (None if self._was_assigned else "the consumer group has not let the projector in yet")

    def _run(self) -> None:
        try:
            self._consumer.subscribe(
                [topic.name for topic in self._intake.topics],
                on_assign=self._on_assigned,
                on_revoke=self._on_revoked,
                on_lost=self._on_lost,
            )
            while not self._stopping.is_set():
                self._turned_at = time.monotonic()
                self._turn()
            if self._batch:
                self._attempt(self._project)
            self._commit()
        except KafkaException:
            logger.exception("the consumer failed for good", extra={"action": "projector_failed"})
        finally:
            self._consumer.close()
            self._store.close()

    def _turn(self) -> None:
        if self._retry_seconds and time.monotonic() < self._retry_at:
            self._take([self._consumer.poll(_POLL_SECONDS / 2)])  # serves the group; the partitions are paused
        elif self._attempt(self._catch_up) and self._retry_seconds:
            self._retry_seconds = 0.0
            self._consumer.resume(self._consumer.assignment())
        if time.monotonic() - self._committed_at > _COMMIT_SECONDS:
            self._commit()
            self._measure_lag()

    def _catch_up(self) -> None:
        if self._unclaimed:
            self._claim()
        if not self._batch and not self._retry_seconds:
            self._read()
        if self._batch:
            self._project()

    def _attempt(self, step: Callable[[], None]) -> bool:
        """Do a step; if it fails, keep the batch, pause, and let the next try wait."""
        try:
            step()
        except KafkaException as error:
            if error.args[0].fatal():
                raise
            self._back_off("Kafka does not answer", error)
        except (psycopg.OperationalError, psycopg.errors.IdleInTransactionSessionTimeout) as error:
            self._back_off("Postgres is away", error)
        except Exception as error:
            logger.exception("the projector could not go on", extra={"action": "projection_failed"})
            self._back_off("an unexpected error", error)
        else:
            return True
        return False

    def _back_off(self, what: str, error: Exception) -> None:
        self._retry_seconds = min(_LAST_RETRY_SECONDS, max(_FIRST_RETRY_SECONDS, 2 * self._retry_seconds))
        self._retry_at = time.monotonic() + self._retry_seconds
        extra = {"action": "projection_postponed", "messages": len(self._batch)}
        logger.warning("%s, next try in %.1f s: %s", what, self._retry_seconds, error, extra=extra)
        self._store.close()
        self._consumer.pause(self._consumer.assignment())

    def _read(self) -> None:
        first = self._consumer.poll(_POLL_SECONDS)
        if first is not None:  # and what is here already: batches grow with the load, and no timer adds to the delay
            self._take([first, *self._consumer.consume(_BATCH_MESSAGES - 1, 0)])

    def _take(self, messages: Iterable[Message | None]) -> None:
        for message in messages:
            if message is None:
                continue
            error = message.error()
            if error is None:
                if _partition_of(message) in self._claims:  # else it was revoked while this was on its way
                    self._batch.append(message)
            elif error.fatal():
                raise KafkaException(error)
            else:
                logger.warning("Kafka says: %s", error.str(), extra={"action": "kafka_error"})

    def _project(self) -> None:
        started, started_ns = time.monotonic(), time.time_ns()
        decoded = decode_all(self._batch, self._schema_ids)
        advances = {}
        for message in self._batch:
            partition = _partition_of(message)
            advances[partition] = Advance(self._claims[partition], int(message.offset() or 0) + 1)
        try:
            self._store.write(folding.fold(decoded.said), advances)
        except Fenced as fenced:
            logger.warning("%s", fenced, extra={"action": "projector_fenced"})
            self._forget(fenced.partitions)
            return
        for partition, advance in advances.items():
            self._claims[partition] = Claim(advance.claim.owner_epoch, advance.next_offset)
            self._uncommitted[partition] = advance.next_offset
        for kind, count in Counter(type(one.event).__name__ for one in decoded.said).items():
            metrics.EVENTS_PROJECTED.labels(kind).inc(count)
        for topic in decoded.undecodable:
            metrics.EVENTS_UNDECODABLE.labels(topic).inc()
        metrics.PROJECTION_SECONDS.observe(time.monotonic() - started)
        traces.tell(decoded.said, self._intake.consumer_group, since_ns=started_ns)
        self._batch = []

    def _claim(self) -> None:
        """Claim what was assigned and begin to read it where Postgres says."""
        claims = self._store.claim(sorted(self._unclaimed))
        for partition, claim in claims.items():
            topic, number = partition
            low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_BROKER_SECONDS)
            if not low <= claim.next_offset <= high:
                extra = {"action": "partition_restarted", "topic": topic, "partition": number}
                logger.warning("offset %d is not there, from %d on", claim.next_offset, low, extra=extra)
                claims[partition] = self._store.restart(partition, claim, low)
        begin = [TopicPartition(topic, number, claims[topic, number].next_offset) for topic, number in claims]
        self._consumer.incremental_assign(begin)
        self._consumer.resume(begin)  # librdkafka remembers that a partition was paused when it was last ours
        self._claims |= claims
        self._unclaimed -= claims.keys()

    def _on_assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._unclaimed |= {(tp.topic, tp.partition) for tp in partitions}
        consumer.incremental_assign([])  # they follow when they are claimed
        self._was_assigned = True
        metrics.REBALANCES.labels("assigned").inc(len(partitions))

    def _on_revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit()
        self._drop(consumer, partitions)
        metrics.REBALANCES.labels("revoked").inc(len(partitions))

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._drop(consumer, partitions)
        metrics.REBALANCES.labels("lost").inc(len(partitions))

    def _drop(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        dropped = {(tp.topic, tp.partition) for tp in partitions}
        self._unclaimed -= dropped
        self._forget(dropped)
        held = {(tp.topic, tp.partition) for tp in consumer.assignment()}
        consumer.incremental_unassign([TopicPartition(*partition) for partition in sorted(dropped & held)])

    def _forget(self, partitions: set[Partition]) -> None:
        for partition in partitions:
            self._claims.pop(partition, None)
            self._uncommitted.pop(partition, None)
            _drop_lag(partition)
        self._batch = [message for message in self._batch if _partition_of(message) in self._claims]

    def _commit(self) -> None:
        self._committed_at = time.monotonic()
        if self._uncommitted:
            offsets = [TopicPartition(topic, number, offset) for (topic, number), offset in self._uncommitted.items()]
            self._uncommitted = {}
            try:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            except KafkaException as error:
                logger.warning("lag tools will lag: %s", error, extra={"action": "commit_failed"})

    def _measure_lag(self) -> None:
        for (topic, number), claim in self._claims.items():
            _, high = self._consumer.get_watermark_offsets(TopicPartition(topic, number), cached=True)
            metrics.PROJECTOR_LAG.labels(topic, str(number)).set(max(0, high - claim.next_offset))


def _partition_of(message: Message) -> Partition:
    return str(message.topic()), int(message.partition() or 0)


def _drop_lag(partition: Partition) -> None:
    try:
        metrics.PROJECTOR_LAG.remove(partition[0], str(partition[1]))
    except KeyError:
        return


def _log_error(error: KafkaError) -> None:
    logger.warning("Kafka: %s", error.str(), extra={"action": "kafka_error"})
