"""Counts the jobs that have not ended, for the metrics: how many by state, and how old the oldest is.

Every replica counts, and all say the same; a query takes the highest. While Postgres is away the last count stands, and
its timestamp says how old it is: a count of 0 would make an autoscaler stop workers that are busy.
"""

import asyncio
import logging
import time
from typing import Any, Final

import psycopg
from psycopg_pool import AsyncConnectionPool

from docfleet import metrics
from docfleet.postgres import load_queries
from schemas.lifecycle import TERMINAL, JobState

logger = logging.getLogger(__name__)

_SQL: Final = {name: text.encode() for name, text in load_queries("status_service").items()}
_LEAST_PAUSE_SECONDS: Final = 5.0
#: A count costs time that grows with the backlog; this share of the time it may take.
_MOST_SHARE: Final = 0.05
_UNFINISHED: Final = frozenset(JobState) - TERMINAL


class Census:
    """Counts again and again."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            began = time.monotonic()
            try:
                await self.count()
            except psycopg.Error as error:  # away, or not migrated yet
                logger.warning("jobs are not counted: %s", error, extra={"action": "count_failed"})
            took_seconds = time.monotonic() - began
            await asyncio.sleep(max(_LEAST_PAUSE_SECONDS, took_seconds / _MOST_SHARE))

    async def count(self) -> None:
        """Count once and tell it."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_SQL["count_unfinished"])
            found = {status: (count, age_seconds) for status, count, age_seconds in await cursor.fetchall()}
        for state in _UNFINISHED:
            metrics.JOBS.labels(state).set(found.get(state, (0, 0.0))[0])
        metrics.OLDEST_UNFINISHED.set(max((age_seconds for _, age_seconds in found.values()), default=0.0))
        metrics.JOBS_COUNTED_AT.set_to_current_time()
        metrics.reveal(metrics.OLDEST_UNFINISHED)
        metrics.reveal(metrics.JOBS_COUNTED_AT)
