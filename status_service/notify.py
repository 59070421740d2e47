"""Who waits for which job: one LISTEN connection for the whole process, however many requests wait.

A waiter holds no database connection. It is woken when a notification names its job, when the
connection was lost and is back (what was said meanwhile was missed), and when the process stops;
it then reads the row itself.
"""

import asyncio
import logging
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from docfleet import metrics
from schemas.channels import JOBS_CHANNEL
from status_service.store import jobs_of

logger = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 2.0


class Changes:
    """Wakes those who watch a job."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._watches: defaultdict[uuid.UUID, set[asyncio.Event]] = defaultdict(set)
        self.is_released = False

    @contextmanager
    def watch(self, job_id: uuid.UUID) -> Iterator[asyncio.Event]:
        """Return an event that is set when the job may have changed since this call; clear it before reading."""
        woken = asyncio.Event()
        self._watches[job_id].add(woken)
        metrics.WAITERS.inc()
        try:
            yield woken
        finally:
            metrics.WAITERS.dec()
            watches = self._watches[job_id]
            watches.discard(woken)
            if not watches:
                del self._watches[job_id]

    async def listen(self) -> None:
        """Listen until cancelled; connects again, for ever, when the connection is lost."""
        retry_seconds = 0.0
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._dsn, autocommit=True, connect_timeout=5, keepalives_idle=5, tcp_user_timeout=10_000
                ) as connection:
                    await connection.execute(sql.SQL("listen {}").format(sql.Identifier(JOBS_CHANNEL)))
                    retry_seconds = 0.0
                    self._wake_all()  # what was said before this LISTEN did not reach us
                    async for notification in connection.notifies():
                        for job_id in jobs_of(notification.payload):
                            self._wake(job_id)
            except psycopg.Error as error:
                retry_seconds = min(_LAST_RETRY_SECONDS, max(_FIRST_RETRY_SECONDS, 2 * retry_seconds))
                logger.warning("cannot listen: %s", error, extra={"action": "listen_failed"})
                await asyncio.sleep(retry_seconds)

    def release(self) -> None:
        """Wake everybody, and whoever comes from now on need not wait: the process stops."""
        self.is_released = True
        self._wake_all()

    def _wake(self, job_id: uuid.UUID) -> None:
        for woken in self._watches.get(job_id, ()):
            woken.set()

    def _wake_all(self) -> None:
        for job_id in self._watches:
            self._wake(job_id)
