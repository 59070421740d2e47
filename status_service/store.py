"""The projector's side of the database: a batch of changes and its consumer offsets in one transaction.

Synchronous, over a connection of its own. Statements are in queries.sql. Knows no Kafka and no HTTP.
"""

import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from docfleet import tracing
from docfleet.fault_points import reached
from docfleet.postgres import load_queries
from schemas.channels import JOBS_CHANNEL
from status_service.folding import Batch, Change, Sign

logger = logging.getLogger(__name__)

#: A payload must be shorter than 8000 bytes, and an id takes 37.
_IDS_PER_PAYLOAD: Final = 200

_SQL: Final = {name: text.encode() for name, text in load_queries("status_service").items()}
_CHANGE_COLUMNS: Final = ("progress", *(name for name in Change.__dataclass_fields__))

#: Errors over what a row says, which come again however often it is written. The last two, such as a text that is too
#: large for an index, are OperationalErrors like those of a database that is away.
_REFUSALS: Final = (
    *(psycopg.DataError, psycopg.IntegrityError),
    *(psycopg.errors.ProgramLimitExceeded, psycopg.errors.StatementTooComplex),
)

Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Claim:
    """Our right to write for a partition, and the offset that comes next."""

    owner_epoch: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Advance:
    """A partition's way in one batch."""

    claim: Claim
    next_offset: int


class Fenced(Exception):
    """Another process has claimed some of the partitions since, or their rows are gone; nothing was written."""

    def __init__(self, partitions: set[Partition]) -> None:
        self.partitions = partitions
        super().__init__(f"no longer claimed by us: {sorted(partitions)}")


class ProjectionStore:
    """Writes batches for one consumer group; connects when needed. Use it from one thread."""

    def __init__(self, dsn: str, consumer_group: str) -> None:
        self._dsn = dsn
        self._group = {"consumer_group": consumer_group}
        self._open: psycopg.Connection[Any] | None = None

    def claim(self, partitions: Iterable[Partition]) -> dict[Partition, Claim]:
        """Take the partitions over and return where each goes on; 0 where nobody has been yet."""
        topics, numbers = _columns(partitions)
        values = self._group | {"topics": topics, "partitions": numbers}
        rows = self._connection().execute(_SQL["claim_partitions"], values).fetchall()
        return {(topic, number): Claim(epoch, offset) for topic, number, offset, epoch in rows}

    def restart(self, partition: Partition, claim: Claim, next_offset: int) -> Claim:
        """Set a partition to another offset and return the new claim."""
        topic, number = partition
        place = {"topic": topic, "partition": number, "owner_epoch": claim.owner_epoch, "next_offset": next_offset}
        self._connection().execute(_SQL["restart_partition"], self._group | place)
        return Claim(claim.owner_epoch, next_offset)

    def write(self, batch: Batch, advances: Mapping[Partition, Advance]) -> None:
        """Write rows and offsets in one transaction; listeners are told of changed jobs when it is committed.

        A row that Postgres refuses for what it says is logged and left out; the others are written.

        Raises:
            Fenced: names the partitions that are no longer ours.
            psycopg.OperationalError: Postgres is away; the batch may or may not be committed, and
                writing it again is safe.

        """
        connection = self._connection()
        try:
            with connection.transaction():
                self._advance(connection, advances)
                _notify(connection, _write_rows(connection, batch))
                reached("before_projection_commit")
            reached("after_projection_commit")
        except _REFUSALS as error:
            logger.warning("Postgres refuses something: %s", error, extra={"action": "batch_refused"})
            with connection.transaction():
                self._advance(connection, advances)
                _notify(connection, _write_singly(connection, batch))

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _advance(self, connection: psycopg.Connection[Any], advances: Mapping[Partition, Advance]) -> None:
        topics, numbers = _columns(advances)
        values = self._group | {
            "topics": topics,
            "partitions": numbers,
            "owner_epochs": [advance.claim.owner_epoch for advance in advances.values()],
            "from_offsets": [advance.claim.next_offset for advance in advances.values()],
            "next_offsets": [advance.next_offset for advance in advances.values()],
        }
        ours = set(connection.execute(_SQL["advance_offsets"], values).fetchall())
        if len(ours) < len(advances):
            raise Fenced(set(advances) - ours)

    def _connection(self) -> psycopg.Connection[Any]:
        if self._open is None or self._open.closed or self._open.broken:
            self._open = psycopg.connect(
                self._dsn,
                autocommit=True,
                connect_timeout=5,
                application_name="docfleet-projector",
                # a server that vanished must not hold the projector for the kernel's 15 minutes
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=3,
                tcp_user_timeout=10_000,
            )
            # a process that is frozen in a transaction must not keep its partitions' locks from those that take over
            self._open.execute(_SQL["limit_idle_transactions"])
        return self._open


def _write_rows(connection: psycopg.Connection[Any], batch: Batch) -> Sequence[uuid.UUID]:
    """Write all rows of a batch and return the jobs whose status may have changed."""
    changed: list[uuid.UUID] = []
    if batch.changes and batch.signs:
        connection.execute(_SQL["lock_jobs"], {"job_ids": [*batch.changes, *batch.signs]})
    if batch.changes:
        changes = batch.changes.values()
        values = {name: [getattr(change, name) for change in changes] for name in _CHANGE_COLUMNS}
        rows = connection.execute(_SQL["upsert_jobs"], values).fetchall()
        changed = [job_id for job_id, status in rows if status == batch.changes[job_id].status]
    if batch.signs:
        signs = batch.signs.values()
        values = {name: [getattr(sign, name) for sign in signs] for name in Sign.__dataclass_fields__}
        connection.execute(_SQL["update_progress"], values)
    return changed


def _write_singly(connection: psycopg.Connection[Any], batch: Batch) -> Sequence[uuid.UUID]:
    """Write the rows that can be written, in the order in which everybody locks them."""
    changed: list[uuid.UUID] = []
    for job_id in sorted(batch.changes.keys() | batch.signs.keys()):
        alone = Batch(
            {job_id: batch.changes[job_id]} if job_id in batch.changes else {},
            {job_id: batch.signs[job_id]} if job_id in batch.signs else {},
        )
        try:
            with connection.transaction():
                changed += _write_rows(connection, alone)
        except _REFUSALS:
            with tracing.about(batch.traceparents.get(job_id), job_id):
                logger.exception("a job's change cannot be stored and is left out", extra={"action": "change_refused"})
    return changed


def _notify(connection: psycopg.Connection[Any], job_ids: Sequence[uuid.UUID]) -> None:
    payloads = [
        " ".join(map(str, job_ids[start : start + _IDS_PER_PAYLOAD]))
        for start in range(0, len(job_ids), _IDS_PER_PAYLOAD)
    ]
    if payloads:
        connection.execute(_SQL["notify"], {"channel": JOBS_CHANNEL, "payloads": payloads})


def _columns(partitions: Iterable[Partition]) -> tuple[list[str], list[int]]:
    pairs = list(partitions)
    return [topic for topic, _ in pairs], [number for _, number in pairs]


def jobs_of(payload: str) -> Iterator[uuid.UUID]:
    """Return the job ids of a notification's payload; what is no id is passed over."""
    for word in payload.split():
        try:
            yield uuid.UUID(word)
        except ValueError:
            logger.warning("a notification names no job: %r", word, extra={"action": "notification_ignored"})
