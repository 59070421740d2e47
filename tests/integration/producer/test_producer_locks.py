"""Replicas that write the same rows at once lock them in one order, so that none waits for another for ever."""

import asyncio
import random
import uuid
from datetime import UTC, datetime

import psycopg

from docfleet.postgres import open_pool
from producer_api.store import Published, Store


async def test_events_that_two_replicas_delivered_in_different_orders_are_marked_by_both(postgres: str):
    now = datetime.now(UTC)
    jobs = [uuid.uuid4() for _ in range(200)]
    with psycopg.connect(postgres) as connection:
        connection.cursor().executemany(
            "insert into jobs (job_id, tenant_id, status, progress, created_at, last_seen_at)"
            " values (%s, 'acme', 'queued', 'Waiting for a worker', %s, %s)",
            [(job_id, now, now) for job_id in jobs],
        )

    async def mark_and_release(store: Store, chosen: random.Random) -> None:
        for _ in range(50):
            order = chosen.sample(jobs, len(jobs))
            await store.mark_published([Published(job_id, now, 0, 7) for job_id in order])
            await store.release_unpublished(order)

    async with open_pool(postgres, max_size=4) as pool:
        await asyncio.gather(*(mark_and_release(Store(pool), random.Random(number)) for number in range(4)))
    with psycopg.connect(postgres) as connection:
        rows = connection.execute("select published_at, published_offset from jobs").fetchall()
    assert rows == [(now, 7)] * 200
