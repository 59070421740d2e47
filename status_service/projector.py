"""Events into rows: a thread that reads Kafka and lets another write Postgres, batch by batch.

Where the group goes on is kept in Postgres, in the transaction that writes the rows; Kafka is told
afterwards, for lag tools only. A partition is not read before it is claimed in Postgres, so while
Postgres is away nothing is fetched, and a batch that could not be written is kept and tried again
while the group is still served. A zombie (a process whose partitions went to another while it
slept) is fenced by the claim's epoch; what is still ours then is claimed again, after a pause in which the
group is served and a zombie learns what it has lost. Owns the consumer; statements and rows are the store's.

Behind, the next batch is read and decoded while Postgres writes the one before. At most one write is
under way, and nothing that was decoded ahead of it outlives a turn: when the write fails, both batches
go back to being messages, in their order, and without those of partitions that are no longer ours.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from docfleet import metrics
from docfleet.offsets import watermarks_of
from docfleet.stopping import Deadline
from schemas import topics
from schemas.codec import SchemaIds
from schemas.topics import Topic
from status_service import traces
from status_service.batch import Ready, partition_of, prepare
from status_service.lag import LagReport
from status_service.store import Advance, Claim, Fenced, Partition, ProjectionStore
from status_service.writer import Writer

logger = logging.getLogger(__name__)

#: docfleet.jobs is read so that queued jobs, too, come back when the table was lost.
READ_TOPICS: Final = (topics.JOBS, topics.EVENTS, topics.PROGRESS)

#: A batch is what is there, so these count only behind; more does not make it faster, and holds locks for longer.
_BATCH_MESSAGES: Final = 4000
_BATCH_BYTES: Final = 8 * 1024 * 1024
#: librdkafka is asked for so many at a time, since it counts no bytes.
_TAKEN_AT_ONCE: Final = 500
_POLL_SECONDS: Final = 0.1
_FIRST_RETRY_SECONDS: Final = 0.1
_LAST_RETRY_SECONDS: Final = 2.0
#: For the answers about all partitions that are claimed at a time, and about one when that is used up.
_BROKER_SECONDS: Final = 5.0
_LEAST_BROKER_SECONDS: Final = 0.5
#: From one try to claim a partition that has no leader to the next, in which the others are read.
_LEADERLESS_SECONDS: Final = 10.0
#: A loop that has not turned for this long hangs. Its longest step is a statement on a lost connection, 10 s.
_HANGS_AFTER_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Intake:
    """What to read and as whom; `kafka` are librdkafka's settings of a consumer."""

    kafka: Mapping[str, Any]
    consumer_group: str = topics.STATUS_GROUP
    topics: Sequence[Topic] = READ_TOPICS


@dataclass(frozen=True, slots=True)
class _Writing:
    """A write under way."""

    ready: Ready
    written: Future[None]


class Projector:
    """Keeps the table of jobs up with the topics, from `start` to `stop`."""

    def __init__(self, intake: Intake, dsn: str, schema_ids: SchemaIds | None = None) -> None:
        self._intake = intake
        self._store = ProjectionStore(dsn, intake.consumer_group)
        self._writer = Writer(self._store)
        self._schema_ids = schema_ids
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="projector", daemon=True)
        self._turned_at = time.monotonic()
        self._was_assigned = False
        # from here on the thread's own
        self._consumer = Consumer(dict(intake.kafka) | {"group.id": intake.consumer_group, "error_cb": _log_error})
        self._lag = LagReport(self._consumer)
        self._unclaimed: set[Partition] = set()
        self._claim_at = 0.0
        self._claims: dict[Partition, Claim] = {}
        self._batch: list[Message] = []
        self._writing: _Writing | None = None
        self._retry_seconds = 0.0
        self._retry_at = 0.0

    def start(self) -> None:
        """Start the threads."""
        self._writer.start()
        self._thread.start()

    def stop(self, deadline: Deadline) -> bool:
        """Finish what is at hand, commit, leave the group; False when the deadline came first. Blocks."""
        self._stopping.set()
        self._thread.join(deadline.remaining())
        return not self._thread.is_alive()

    def join(self) -> None:
        """Return when the projector has ended. Blocks."""
        self._thread.join()

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
            self._attempt(self._finish)
            self._lag.commit()
        except Exception:
            logger.exception("the projector failed for good", extra={"action": "projector_failed"})
        finally:
            self._consumer.close()
            self._writer.close()
            self._store.close()

    def _turn(self) -> None:
        if self._retry_seconds and time.monotonic() < self._retry_at:
            self._take([self._consumer.poll(_POLL_SECONDS / 2)])  # serves the group; the partitions are paused
        elif self._attempt(self._catch_up) and self._retry_seconds:
            self._retry_seconds = 0.0
            self._consumer.resume(self._consumer.assignment())
        self._lag.tell(self._claims)

    def _catch_up(self) -> None:
        if self._unclaimed and time.monotonic() >= self._claim_at:
            self._settle()
            self._claim()
        ready: Ready | None = None
        try:
            if not self._batch and not self._retry_seconds:
                self._read()
            if self._batch:
                ready = prepare(self._batch, self._schema_ids)
        finally:
            self._settle()
        if ready is not None:
            self._begin(ready)
        if self._retry_seconds:
            self._settle()  # nothing is read before it is known that Postgres is back

    def _finish(self) -> None:
        self._settle()
        if self._batch:
            self._begin(prepare(self._batch, self._schema_ids))
            self._settle()

    def _attempt(self, step: Callable[[], object]) -> bool:
        """Do a step; if it fails, keep the batch, pause, and let the next try wait."""
        try:
            step()
        except Fenced as error:
            self._back_off("another process claimed partitions", error, at_least_seconds=_LAST_RETRY_SECONDS)
        except KafkaException as error:
            if error.args[0].fatal():
                raise
            self._back_off("Kafka does not answer", error)
        except (
            psycopg.OperationalError,
            psycopg.errors.IdleInTransactionSessionTimeout,
            psycopg.errors.ReadOnlySqlTransaction,
        ) as error:
            self._back_off("Postgres is away", error)
        except Exception as error:
            logger.exception("the projector could not go on", extra={"action": "projection_failed"})
            self._back_off("an unexpected error", error)
        else:
            return True
        return False

    def _back_off(self, what: str, error: Exception, *, at_least_seconds: float = _FIRST_RETRY_SECONDS) -> None:
        self._retry_seconds = min(_LAST_RETRY_SECONDS, max(at_least_seconds, 2 * self._retry_seconds))
        self._retry_at = time.monotonic() + self._retry_seconds
        extra = {"action": "projection_postponed", "messages": len(self._batch)}
        logger.warning("%s, next try in %.1f s: %s", what, self._retry_seconds, error, extra=extra)
        self._store.close()
        self._consumer.pause(self._consumer.assignment())

    def _read(self) -> None:
        """Take what is here already, up to the bounds; wait for a message only when nothing is being written."""
        first = self._consumer.poll(0 if self._writing else _POLL_SECONDS)
        taken, asked, size_bytes = [] if first is None else [first], 1, 0
        while True:
            self._take(taken)
            size_bytes += sum(map(len, taken))
            is_all = len(taken) < asked
            asked = min(_TAKEN_AT_ONCE, _BATCH_MESSAGES - len(self._batch))
            if is_all or asked <= 0 or size_bytes >= _BATCH_BYTES:
                return
            taken = self._consumer.consume(asked, 0)

    def _take(self, messages: Iterable[Message | None]) -> None:
        for message in messages:
            if message is None:
                continue
            error = message.error()
            if error is None:
                if partition_of(message) in self._claims:  # else it was revoked while this was on its way
                    self._batch.append(message)
            elif error.fatal():
                raise KafkaException(error)
            else:
                logger.warning("Kafka says: %s", error.str(), extra={"action": "kafka_error"})

    def _begin(self, ready: Ready) -> None:
        """Let the writer begin; what was ready is no longer the batch at hand."""
        advances = {
            partition: Advance(self._claims[partition], offset) for partition, offset in ready.next_offsets.items()
        }
        self._writing = _Writing(ready, self._writer.begin(ready.changes, advances))
        self._batch = []

    def _settle(self) -> None:
        """Wait for the write under way and note what came of it. Raises what it raised."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            writing.written.result()
        except Fenced:
            # all of them: when the table was lost, the partitions in which nothing new is said would never tell
            self._unclaimed |= self._claims.keys()
            self._claim_at = 0.0
            self._forget(set(self._claims))
            raise
        except BaseException:
            self._batch = self._ours(writing.ready.messages) + self._batch
            raise
        for partition, next_offset in writing.ready.next_offsets.items():
            if partition in self._claims:  # else it was lost meanwhile
                self._claims[partition] = Claim(self._claims[partition].owner_epoch, next_offset)
                self._lag.moved(partition, next_offset)
        writing.ready.count()
        traces.tell(writing.ready.decoded.said, self._intake.consumer_group, since_ns=writing.ready.since_ns)

    def _claim(self) -> None:
        """Claim what was assigned and begin to read it where Postgres says; what has no leader is left for later."""
        if fenced := self._held(self._unclaimed):
            self._consumer.incremental_unassign(fenced)  # or it could not be assigned at another offset
        claims: dict[Partition, Claim] = {}
        deadline = Deadline(_BROKER_SECONDS)
        for partition, claim in self._store.claim(sorted(self._unclaimed)).items():
            self._turned_at = time.monotonic()  # many without a leader take long, but nothing hangs
            try:
                claims[partition] = self._existing(partition, claim, deadline)
            except KafkaException as error:
                if error.args[0].fatal():
                    raise
                extra = {"action": "partition_left", "topic": partition[0], "partition": partition[1]}
                logger.warning(
                    "a partition cannot be read, next try in %.0f s: %s", _LEADERLESS_SECONDS, error, extra=extra
                )
        if claims:
            begin = [TopicPartition(topic, number, claim.next_offset) for (topic, number), claim in claims.items()]
            self._consumer.incremental_assign(begin)
            self._consumer.resume(begin)  # librdkafka remembers that a partition was paused when it was last ours
        self._claims |= claims
        self._unclaimed -= claims.keys()
        self._claim_at = time.monotonic() + _LEADERLESS_SECONDS

    def _existing(self, partition: Partition, claim: Claim, deadline: Deadline) -> Claim:
        """Return the claim, at the topic's beginning when the topic does not have its offset."""
        topic, number = partition
        seconds = max(_LEAST_BROKER_SECONDS, deadline.remaining())
        low, high = watermarks_of(self._consumer, TopicPartition(topic, number), within_seconds=seconds)
        if low <= claim.next_offset <= high:
            return claim
        extra = {"action": "partition_restarted", "topic": topic, "partition": number}
        logger.warning("offset %d is not there, from %d on", claim.next_offset, low, extra=extra)
        return self._store.restart(partition, claim, low)

    def _on_assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._unclaimed |= {(tp.topic, tp.partition) for tp in partitions}
        self._claim_at = 0.0
        consumer.incremental_assign([])  # they follow when they are claimed
        self._was_assigned = True
        metrics.REBALANCES.labels("assigned").inc(len(partitions))

    def _on_revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._attempt(self._settle)
        self._lag.commit()
        self._drop(consumer, partitions)
        metrics.REBALANCES.labels("revoked").inc(len(partitions))

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._drop(consumer, partitions)
        metrics.REBALANCES.labels("lost").inc(len(partitions))

    def _drop(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        dropped = {(tp.topic, tp.partition) for tp in partitions}
        self._unclaimed -= dropped
        self._forget(dropped)
        consumer.incremental_unassign(self._held(dropped))

    def _held(self, partitions: set[Partition]) -> list[TopicPartition]:
        """Return those of the partitions that the consumer has begun to read."""
        held = {(tp.topic, tp.partition) for tp in self._consumer.assignment()}
        return [TopicPartition(*partition) for partition in sorted(partitions & held)]

    def _forget(self, partitions: set[Partition]) -> None:
        for partition in partitions:
            self._claims.pop(partition, None)
            self._lag.forget(partition)
        self._batch = self._ours(self._batch)

    def _ours(self, messages: list[Message]) -> list[Message]:
        return [message for message in messages if partition_of(message) in self._claims]


def _log_error(error: KafkaError) -> None:
    logger.warning("Kafka: %s", error.str(), extra={"action": "kafka_error"})
