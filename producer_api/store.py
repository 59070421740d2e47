"""producer_api's rows in Postgres; the statements are in queries.sql."""

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import psycopg
from psycopg.rows import class_row
from psycopg_pool import PoolTimeout

from docfleet.api_keys import ApiKey
from docfleet.postgres import Pool, load_queries

Row = TypeVar("Row")

#: An advisory lock: whoever has it reaps.
_REAPING_LOCK: Final = 0x646F635F72656170  # "doc_reap"

#: Postgres is away, not migrated yet or, like a standby, read-only: another try may help, and nothing was decided.
UNAVAILABLE: Final = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.UndefinedTable,
    psycopg.errors.ReadOnlySqlTransaction,
)


class Undecided(Exception):
    """Nobody saw the end of the transaction, which may still be running: it commits later, or never."""


@dataclasses.dataclass(frozen=True, slots=True)
class KeyTerms:
    """What an API key allows, and how much of its quota was used when it was looked up."""

    quota_used: int
    quota_limit: int
    rate_per_minute: int | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What `admit` writes; the document's fields are None until a file_url is fetched."""

    job_id: uuid.UUID
    object_name: str
    media_type: str | None
    size_bytes: int | None
    categories: tuple[str, ...]
    none_of_these: float | None
    evidence: bool
    traceparent: str
    file_url: str | None
    fingerprint: bytes
    progress: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job as its events tell it."""

    job_id: uuid.UUID
    tenant_id: str
    attempt: int
    created_at: datetime
    last_seen_at: datetime
    object_name: str
    media_type: str | None
    size_bytes: int | None
    categories: list[str]
    none_of_these: float | None
    evidence: bool
    traceparent: str | None
    file_url: str | None
    fetch_attempts: int
    is_swept: bool = False  #: its attempt was raised for a message, and is taken back when that does not get out


@dataclasses.dataclass(frozen=True, slots=True)
class Lock:
    """An Idempotency-Key held by one request."""

    key_id: uuid.UUID
    idempotency_key: str
    lock_token: uuid.UUID


@dataclasses.dataclass(frozen=True, slots=True)
class FirstAnswer:
    """What the first request with an Idempotency-Key was and was answered; None while it runs."""

    fingerprint: bytes | None
    response: dict[str, Any] | None


@dataclasses.dataclass(frozen=True, slots=True)
class Admitted:
    """A job that is durable now."""

    remaining: int
    created_at: datetime
    is_held_back: bool  #: the relay publishes it when its tenant has fewer jobs in Kafka


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """Where a job's event is; `published_at` is its row's last_seen_at when the event was handed over."""

    job_id: uuid.UUID
    published_at: datetime
    partition: int
    offset: int


@dataclasses.dataclass(frozen=True, slots=True)
class Position:
    """A partition of docfleet.jobs: first and next offset in the topic, and how far the workers have committed."""

    partition: int
    committed: int
    low: int
    high: int


class Store:
    """Every statement is one transaction. Raises what UNAVAILABLE lists when Postgres is away."""

    def __init__(self, pool: Pool, *, tenant_jobs_max: int = 0) -> None:
        self._pool = pool
        self._tenant_jobs_max = tenant_jobs_max  # in Kafka and not ended; 0: as many as come
        self._queries = {name: text.encode() for name, text in load_queries("producer_api").items()}

    async def is_migrated(self) -> None:
        """Return when the tables are there; raises otherwise."""
        await self._run("is_migrated", {})

    async def is_read_only(self) -> bool:
        """Return whether nothing can be written now."""
        row = await self._one("is_read_only", {})
        return bool(row and row[0])

    async def terms(self, key_id: uuid.UUID) -> KeyTerms | None:
        """Return what the key allows; None when it is revoked."""
        return await self._row(KeyTerms, "terms", {"key_id": key_id})

    async def take_rate(self, key_id: uuid.UUID) -> float | None:
        """Count one request against the key's rate and return None, or the seconds to wait where it is over."""
        if await self._one("take_rate", {"key_id": key_id}) is not None:
            return None
        row = await self._one("rate_wait", {"key_id": key_id})
        return float(row[0]) if row else None

    async def lock(self, lock: Lock, lease_seconds: float) -> bool:
        """Take an Idempotency-Key for one request; whether that worked."""
        return await self._one("lock_idempotency_key", _lock_values(lock, lease_seconds)) is not None

    async def renew(self, lock: Lock, lease_seconds: float) -> None:
        """Hold on to an Idempotency-Key."""
        await self._run("renew_idempotency_key", _lock_values(lock, lease_seconds))

    async def release(self, lock: Lock) -> None:
        """Give an unanswered Idempotency-Key back."""
        await self._run("release_idempotency_key", dataclasses.asdict(lock))

    async def first_answer(self, key_id: uuid.UUID, idempotency_key: str) -> FirstAnswer | None:
        """Return what is known of an Idempotency-Key; None when it is free by now."""
        values = {"key_id": key_id, "idempotency_key": idempotency_key}
        return await self._row(FirstAnswer, "answered_idempotency_key", values)

    async def forget_idempotency_keys(self, keep_seconds: float) -> int:
        """Delete answers that are older, at most 1000 at a time; return how many."""
        return await self._run("forget_idempotency_keys", {"keep": timedelta(seconds=keep_seconds)})

    async def admit(self, key: ApiKey, job: NewJob, lock: Lock | None, publish_lease_seconds: float) -> Admitted | None:
        """Make the job durable; None when the quota is used up, the key revoked or the lock lost.

        Raises:
            Undecided: the job may be durable, or become so. Any other error: it is not and never will be.

        """
        values = dataclasses.asdict(job) | {
            "key_id": key.key_id,
            "tenant_id": key.tenant_id,
            "idempotency_key": lock.idempotency_key if lock else None,
            "lock_token": lock.lock_token if lock else None,
            "publish_lease": timedelta(seconds=publish_lease_seconds),
            "categories": list(job.categories),
            "tenant_jobs_max": self._tenant_jobs_max,
        }
        try:
            return await self._row(Admitted, "admit", values)
        except (psycopg.Error, asyncio.CancelledError) as error:
            if _has_done_nothing(error):
                raise
            raise Undecided from error

    async def claim_unpublished(self, limit: int, lease_seconds: float) -> list[JobRow]:
        """Take up to `limit` jobs whose event did not get out, or was held back and need not be any longer."""
        values = {"limit": limit, "lease": timedelta(seconds=lease_seconds), "tenant_jobs_max": self._tenant_jobs_max}
        return await self._jobs("claim_unpublished", values)

    async def mark_published(self, published: Sequence[Published]) -> None:
        """Write down that events are in Kafka, and where."""
        values = {
            "job_ids": [p.job_id for p in published],
            "published_at": [p.published_at for p in published],
            "partitions": [p.partition for p in published],
            "offsets": [p.offset for p in published],
        }
        await self._run("mark_published", values)

    async def release_unpublished(self, job_ids: Sequence[uuid.UUID]) -> None:
        """Let the relay try these at once."""
        await self._run("release_unpublished", {"job_ids": list(job_ids)})

    async def take_back_attempts(self, swept: Sequence[JobRow]) -> None:
        """Lower again what `sweep` raised, where the job is still as it left it."""
        values = {"job_ids": [job.job_id for job in swept], "attempts": [job.attempt for job in swept]}
        await self._run("take_back_attempts", values)

    async def outbox_depth(self) -> tuple[int, int]:
        """Return how many jobs are not in Kafka yet, and how many of them wait for the relay."""
        row = await self._one("outbox_depth", {})
        return (int(row[0]), int(row[1])) if row else (0, 0)

    async def claim_fetches(self, limit: int, lease_seconds: float) -> list[JobRow]:
        """Take up to `limit` jobs whose file_url is to be fetched."""
        return await self._jobs("claim_fetches", {"limit": limit, "lease": timedelta(seconds=lease_seconds)})

    async def renew_fetch(self, job: JobRow, lease_seconds: float) -> bool:
        """Hold on to a fetch; whether it is still this process's."""
        values = _fetch_values(job) | {"lease": timedelta(seconds=lease_seconds)}
        return await self._one("renew_fetch", values) is not None

    async def end_fetch(self, job: JobRow, *, media_type: str, size_bytes: int, progress: str) -> bool:
        """Write down that the document is stored; False when the job is no longer this process's."""
        values = _fetch_values(job) | {"media_type": media_type, "size_bytes": size_bytes, "progress": progress}
        return await self._one("end_fetch", values) is not None

    async def postpone_fetch(self, job: JobRow, delay_seconds: float) -> None:
        """Let the fetch be tried again later."""
        await self._run("postpone_fetch", _fetch_values(job) | {"delay": timedelta(seconds=delay_seconds)})

    async def mark_refused(self, job_id: uuid.UUID) -> None:
        """Write down that the terminal event of a failed fetch is in Kafka."""
        await self._run("mark_refused", {"job_id": job_id})

    async def projector_offsets(self, consumer_group: str, topic: str) -> dict[int, int]:
        """Return the next offset that the projector reads, by partition."""
        values = {"consumer_group": consumer_group, "topic": topic}
        async with self._pool.connection() as connection:
            cursor = await connection.execute(self._queries["projector_offsets"], values)
            return dict(await cursor.fetchall())

    async def sweep(self, positions: Sequence[Position], silence_seconds: float, limit: int) -> list[JobRow]:
        """Take up to `limit` jobs that nothing in Kafka accounts for; their attempt is raised."""
        values = {
            "partitions": [p.partition for p in positions],
            "committed": [p.committed for p in positions],
            "low": [p.low for p in positions],
            "high": [p.high for p in positions],
            "silence": timedelta(seconds=silence_seconds),
            "limit": limit,
        }
        return await self._jobs("sweep", values)

    async def sweep_refused(self, silence_seconds: float, limit: int) -> int:
        """Let failed fetches whose terminal event never came back be fetched again; return how many."""
        return await self._run("sweep_refused", {"silence": timedelta(seconds=silence_seconds), "limit": limit})

    @asynccontextmanager
    async def reaping(self) -> AsyncIterator[bool]:
        """Whether this process is the one that reaps, for as long as the block runs; holds a connection."""
        lock = {"reaping_lock": _REAPING_LOCK}
        async with self._pool.held() as connection:
            row = await (await connection.execute(self._queries["try_reaping"], lock)).fetchone()
            is_ours = bool(row and row[0])
            try:
                yield is_ours
            finally:
                if is_ours:
                    await connection.execute(self._queries["stop_reaping"], lock)

    async def documents_to_reap(self, keep_seconds: float, limit: int) -> list[tuple[uuid.UUID, str | None]]:
        """Return up to `limit` ended jobs, and the object of each, whose document has been kept for long enough."""
        values = {"keep": timedelta(seconds=keep_seconds), "limit": limit}
        async with self._pool.connection() as connection:
            cursor = await connection.execute(self._queries["documents_to_reap"], values)
            return [(job_id, name) for job_id, name in await cursor.fetchall()]

    async def mark_documents_deleted(self, job_ids: Sequence[uuid.UUID]) -> None:
        """Write down that these documents are gone."""
        await self._run("mark_documents_deleted", {"job_ids": list(job_ids)})

    async def reap_jobs(self, keep_seconds: float, limit: int) -> int:
        """Delete up to `limit` rows of ended jobs that have been kept for long enough; return how many."""
        return await self._run("reap_jobs", {"keep": timedelta(seconds=keep_seconds), "limit": limit})

    async def jobs_without_need(self, job_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
        """Return those of the ids whose document no job needs."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(self._queries["jobs_without_need"], {"job_ids": list(job_ids)})
            return {job_id for (job_id,) in await cursor.fetchall()}

    async def _jobs(self, name: str, values: Mapping[str, Any]) -> list[JobRow]:
        async with self._pool.connection() as connection, connection.cursor(row_factory=class_row(JobRow)) as cursor:
            await cursor.execute(self._queries[name], values)
            jobs: list[JobRow] = await cursor.fetchall()
        return jobs

    async def _row(self, row_type: type[Row], name: str, values: Mapping[str, Any]) -> Row | None:
        async with self._pool.connection() as connection, connection.cursor(row_factory=class_row(row_type)) as cursor:
            await cursor.execute(self._queries[name], values)
            row: Row | None = await cursor.fetchone()
        return row

    async def _one(self, name: str, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(self._queries[name], values)
            row: tuple[Any, ...] | None = await cursor.fetchone()
        return row

    async def _run(self, name: str, values: Mapping[str, Any]) -> int:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(self._queries[name], values)
            return int(cursor.rowcount)


def _has_done_nothing(error: BaseException) -> bool:
    """Whether the statement was never sent or is rolled back for certain.

    A lost connection says neither, nor does looking for the row: the server works on, and may commit after the look.
    Of the server's own words only ERROR is certain: FATAL can end a connection whose statement was just committed.
    """
    if isinstance(error, PoolTimeout):
        return True
    return isinstance(error, psycopg.Error) and error.diag.severity_nonlocalized == "ERROR"


def _lock_values(lock: Lock, lease_seconds: float) -> dict[str, Any]:
    return dataclasses.asdict(lock) | {"lease": timedelta(seconds=lease_seconds)}


def _fetch_values(job: JobRow) -> dict[str, Any]:
    return {"job_id": job.job_id, "fetch_attempts": job.fetch_attempts}
