"""Unfinished jobs are counted by state, with the age of the oldest, from an index that holds nothing else."""

import re

import aiohttp
import psycopg

from docfleet.postgres import load_queries, open_pool
from status_service.census import Census
from tests.integration.status.serving import Service


def insert(dsn: str, status: str, count: int, *, age_seconds: int = 0) -> None:
    ended = status in {"completed", "failed", "cancelled"}
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "insert into jobs (job_id, tenant_id, status, progress, created_at, last_seen_at, finished_at, result)"
            " select gen_random_uuid(), 'acme', %s, 'x', now() - make_interval(secs => %s::int), now(),"
            " %s::timestamptz, %s::json from generate_series(1, %s)",
            (status, age_seconds, "now" if ended else None, "{}" if ended else None, count),
        )


def told(text: str) -> dict[str, float]:
    found = re.findall(r"^docfleet_(jobs\{\S+\}|oldest_unfinished_job_seconds) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


async def test_unfinished_jobs_are_counted_and_ended_ones_are_not(
    service: Service, client: aiohttp.ClientSession
) -> None:
    async def counted() -> dict[str, float]:
        async with open_pool(service.dsn, max_size=1) as pool:
            await Census(pool).count()
        async with client.get("/metrics") as answer:
            return told(await answer.text())

    assert await counted() == {
        'jobs{state="queued"}': 0,
        'jobs{state="processing"}': 0,
        "oldest_unfinished_job_seconds": 0,
    }
    insert(service.dsn, "queued", 3, age_seconds=50)
    insert(service.dsn, "processing", 2, age_seconds=7000)
    insert(service.dsn, "completed", 5, age_seconds=90_000)
    found = await counted()
    assert (found['jobs{state="queued"}'], found['jobs{state="processing"}']) == (3, 2)
    assert 7000 <= found["oldest_unfinished_job_seconds"] < 7100


def test_ended_jobs_cost_a_count_nothing(postgres: str) -> None:
    insert(postgres, "completed", 20_000)
    insert(postgres, "queued", 1000)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("vacuum analyze jobs")
        query = "explain (analyze, format json) " + load_queries("status_service")["count_unfinished"]
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    nodes = str(row[0])
    assert "Seq Scan" not in nodes
    assert max(int(float(rows)) for rows in re.findall(r"'Actual Rows': ([\d.]+)", nodes)) == 1000
