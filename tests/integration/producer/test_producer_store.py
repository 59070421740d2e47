"""What the store says of a transaction whose end it did not see, over a real database."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg_pool import PoolTimeout

from docfleet import keys
from docfleet.api_keys import ApiKey
from docfleet.postgres import Pool, open_pool
from producer_api.store import NewJob, Store, Undecided
from tests.waiting import eventually

LEASE_SECONDS = 10.0


@pytest.fixture
async def pool(postgres: str) -> AsyncIterator[Pool]:
    async with open_pool(postgres, max_size=1, timeout_seconds=0.5) as pool:
        yield pool


@pytest.fixture
def key(postgres: str) -> ApiKey:
    keys.add(postgres, keys.new_key(), name="acme", quota_limit=10, rate_per_minute=None)
    with psycopg.connect(postgres) as connection:
        row = connection.execute("select key_id from api_keys").fetchone()
    assert row is not None
    return ApiKey(row[0], "acme")


def new_job() -> NewJob:
    return NewJob(
        job_id=uuid.uuid4(),
        object_name="jobs/x/document",
        media_type="application/pdf",
        size_bytes=1,
        categories=("a",),
        none_of_these=None,
        evidence=False,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        file_url=None,
        fingerprint=b"",
        progress="x",
    )


async def test_admission_that_is_cancelled_while_postgres_works_on_it_is_undecided(
    postgres: str, pool: Pool, key: ApiKey
):
    waiting = "select from pg_stat_activity where %s = any (pg_blocking_pids(pid))"
    with psycopg.connect(postgres) as blocking, psycopg.connect(postgres, autocommit=True) as looking:
        blocking.execute("select from api_keys for no key update")
        admitting = asyncio.create_task(Store(pool).admit(key, new_job(), None, LEASE_SECONDS))
        await eventually(lambda: looking.execute(waiting, (blocking.info.backend_pid,)).fetchall())
        admitting.cancel()
        with pytest.raises(Undecided):
            await admitting


async def test_admission_without_a_connection_is_decided(pool: Pool, key: ApiKey):
    async with pool.held():
        with pytest.raises(PoolTimeout):
            await Store(pool).admit(key, new_job(), None, LEASE_SECONDS)
