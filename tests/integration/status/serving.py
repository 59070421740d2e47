"""The HTTP side of status_service in this process, over a real database; events are projected by hand."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
from aiohttp import web

from docfleet import http
from docfleet.api_keys import ApiKeys, hash_of
from docfleet.postgres import open_pool
from docfleet.telemetry import Health
from schemas import events
from status_service import folding
from status_service.folding import Said
from status_service.jobs import JobRow, Jobs
from status_service.notify import Changes
from status_service.routes import Lookup, add_routes
from status_service.store import ProjectionStore

KEY = "key-of-acme"
POOL_SIZE = 4


class CountedJobs(Jobs):
    """Says how many reads have been answered: a waiter with none has not seen its job's status yet."""

    answered = 0

    async def find(self, job_id: uuid.UUID, tenant_id: str) -> JobRow | None:
        job = await super().find(job_id, tenant_id)
        self.answered += 1
        return job


@dataclass(frozen=True)
class Service:
    url: str
    dsn: str
    jobs: CountedJobs
    changes: Changes
    runner: web.AppRunner

    def project(self, *said: events.Event) -> None:
        """Write what these events come to, as the projector would."""
        store = ProjectionStore(self.dsn, "tests")
        store.write(folding.fold([Said(event, 0, 0, None) for event in said]), {})
        store.close()


def add_key(dsn: str, key: str, tenant: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "insert into api_keys (name, key_hash, prefix, quota_limit) values (%s, %s, %s, 10)",
            (tenant, hash_of(key), key[:4]),
        )


@asynccontextmanager
async def service(dsn: str, *, ttl_seconds: float = 0.2) -> AsyncIterator[Service]:
    add_key(dsn, KEY, "acme")
    pool = open_pool(dsn, max_size=POOL_SIZE)
    await pool.open()
    jobs = CountedJobs(pool)
    changes = Changes(dsn)
    listening = asyncio.create_task(changes.listen())
    app = http.application("status_service", Health())
    add_routes(app, Lookup(ApiKeys(pool, ttl_seconds=ttl_seconds), jobs, changes))
    runner, port = await http.listen(app, "127.0.0.1", 0)
    try:
        yield Service(f"http://127.0.0.1:{port}", dsn, jobs, changes, runner)
    finally:
        changes.release()
        await runner.cleanup()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await pool.close()
