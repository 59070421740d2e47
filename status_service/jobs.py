"""The readers' side of the database: jobs by id, many requests in one statement.

A job that ends can wake thousands of waiters at once, more than any pool has connections for. So
requests do not read one by one: whoever asks while a statement is under way is part of the next
one. Statements are in queries.sql.
"""

import asyncio
import uuid
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from docfleet.postgres import load_queries
from schemas.lifecycle import JobState

_SQL: Final = {name: text.encode() for name, text in load_queries("status_service").items()}
_JOBS_PER_STATEMENT: Final = 200
#: Statements at a time; more would only make each of them smaller.
_MOST_READERS: Final = 4


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as its tenant may see it; `result` is the stored JSON text."""

    job_id: uuid.UUID
    tenant_id: str
    status: JobState
    progress: str
    error_code: str | None
    error: str | None
    result: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", JobState(self.status))


class Jobs:
    """Finds jobs; a row is never older than the question."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool
        self._asked: dict[uuid.UUID, asyncio.Future[JobRow | None]] = {}
        self._readers = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def find(self, job_id: uuid.UUID, tenant_id: str) -> JobRow | None:
        """Return the tenant's job; None when there is none or it is another tenant's.

        Raises:
            psycopg.OperationalError: Postgres is away.

        """
        answer = self._asked.get(job_id)
        if answer is None:
            answer = self._asked[job_id] = asyncio.get_running_loop().create_future()
            if self._readers < _MOST_READERS:
                self._readers += 1
                task = asyncio.create_task(self._read())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        job = await asyncio.shield(answer)  # others may wait for it when this request is gone
        return job if job is not None and job.tenant_id == tenant_id else None

    async def _read(self) -> None:
        while self._asked:
            asked = {job_id: self._asked.pop(job_id) for job_id in list(islice(self._asked, _JOBS_PER_STATEMENT))}
            try:
                rows = await self._rows(list(asked))
            except Exception as error:
                for answer in asked.values():
                    answer.set_exception(error)
                    answer.exception()  # seen here, in case that everybody who asked has left
            else:
                for job_id, answer in asked.items():
                    answer.set_result(rows.get(job_id))
        self._readers -= 1  # nothing runs between this and the look at what is asked, so no question is left behind

    async def _rows(self, job_ids: list[uuid.UUID]) -> dict[uuid.UUID, JobRow]:
        async with self._pool.connection() as connection, connection.cursor(row_factory=class_row(JobRow)) as cursor:
            await cursor.execute(_SQL["find_jobs"], {"job_ids": job_ids})
            return {job.job_id: job async for job in cursor}
