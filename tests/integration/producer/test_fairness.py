"""One tenant's backlog waits in Postgres, not in Kafka in front of everybody."""

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row

from docfleet.postgres import load_queries
from schemas.channels import JOBS_CHANNEL
from schemas.topics import JOBS
from tests.integration.producer import file_server
from tests.integration.producer.conftest import Start
from tests.integration.producer.service import CATEGORIES, Client, Producer, events_of, job_id_of
from tests.waiting import eventually

CAP = 20


def in_kafka(client: Client) -> list[dict[str, Any]]:
    return [job for job in client.jobs() if job["published_at"] and job["status"] != "failed"]


def unpublished(client: Client) -> int:
    return sum(job["published_at"] is None for job in client.jobs())


def end(producer: Producer, jobs: list[dict[str, Any]]) -> None:
    """Say what the projector says when jobs have ended."""
    with psycopg.connect(producer.dsn) as connection:
        connection.execute(
            "update jobs set status = 'failed', error = 'x', error_code = 'INTERNAL_ERROR', finished_at = now()"
            " where job_id = any(%s)",
            [[job["job_id"] for job in jobs]],
        )
        connection.execute("select pg_notify(%s, '')", [JOBS_CHANNEL])


async def post(client: Client, count: int) -> None:
    for _ in range(0, count, 10):
        for answer in await asyncio.gather(*(client.post() for _ in range(10))):
            job_id_of(answer)


async def test_one_tenants_backlog_does_not_delay_anothers_job_and_all_of_it_gets_out(start: Start) -> None:
    # looks are rare: what goes out at once goes directly, and the rest when a job has ended
    with start(tenant_jobs_in_flight=CAP, relay_interval_seconds=2.0) as producer:
        greedy, modest = producer.new_key(), producer.new_key()
        await post(greedy, 300)
        await eventually(lambda: len(in_kafka(greedy)) >= CAP)
        assert len(in_kafka(greedy)) <= CAP + 10, "posts that run at once may each see the same room"
        single = job_id_of(await modest.post())
        await events_of(producer.kafka, JOBS, single)
        assert unpublished(greedy) >= 300 - CAP - 10
        most = 0
        while unpublished(greedy):
            end(producer, in_kafka(greedy))
            await eventually(lambda: in_kafka(greedy) or not unpublished(greedy))
            most = max(most, len(in_kafka(greedy)))
        assert most <= CAP, "the relay keeps to the limit"
        assert producer.rows("select count(*) as n from jobs where published_at is null") == [{"n": 0}]


async def test_jobs_of_a_tenant_keep_their_order_when_one_is_held_back(start: Start) -> None:
    with start(tenant_jobs_in_flight=1, relay_interval_seconds=30.0) as producer:
        client = producer.new_key()
        first, second, third = [job_id_of(await client.post()) for _ in range(3)]
        await eventually(lambda: producer.job(first)["published_at"])
        end(producer, [producer.job(first)])
        await eventually(lambda: producer.job(second)["published_at"])
        assert producer.job(third)["published_at"] is None
        end(producer, [producer.job(second)])
        await eventually(lambda: producer.job(third)["published_at"])


async def test_tenants_take_turns_when_what_was_held_back_gets_out(start: Start) -> None:
    with start(tenant_jobs_in_flight=0, relay_interval_seconds=0.2) as producer:
        clients = [producer.new_key() for _ in range(2)]
        for client, count in zip(clients, (40, 10), strict=True):
            await post(client, count)
        await eventually(lambda: not any(unpublished(client) for client in clients))
    producer.execute("update jobs set published_at = null, publish_claimed_until = null where status = %s", "queued")
    values = {"limit": 20, "lease": timedelta(minutes=1), "tenant_jobs_max": 0}
    tenants = [row["tenant_id"] for row in claimed(producer, "claim_unpublished", values)]
    assert [tenants.count(client.tenant) for client in clients] == [10, 10]


async def test_a_crashed_publishers_claim_is_taken_up_although_the_tenant_has_no_room(start: Start) -> None:
    with start(tenant_jobs_in_flight=1, relay_interval_seconds=0.2) as producer:
        client = producer.new_key()
        first, second = job_id_of(await client.post()), job_id_of(await client.post())
        await eventually(lambda: producer.job(first)["published_at"])
        producer.execute(
            "update jobs set published_at = null, publish_claimed_until = now() - interval '1 s' where job_id = %s",
            first,
        )
        await eventually(lambda: producer.job(first)["published_at"])
        assert producer.job(second)["published_at"] is None


async def test_what_is_held_back_is_not_swept(start: Start) -> None:
    with start(tenant_jobs_in_flight=1) as producer:
        client = producer.new_key()
        waiting, held = job_id_of(await client.post()), job_id_of(await client.post())
        await eventually(lambda: producer.job(waiting)["published_at"])
        everything = list(range(JOBS.partitions))
        worked_off = [10**9 for _ in everything]
        positions = {"partitions": everything, "committed": worked_off, "low": worked_off, "high": worked_off}
        swept = claimed(producer, "sweep", positions | {"silence": timedelta(0), "limit": 100})
        assert [str(row["job_id"]) for row in swept] == [waiting]
        assert producer.job(held)["attempt"] == 1


async def test_a_fetched_document_keeps_to_its_tenants_limit(start: Start) -> None:
    async with file_server.running() as files:
        with start(tenant_jobs_in_flight=1, file_url_allow="127.0.0.1") as producer:
            client = producer.new_key()
            fields = [("file_url", f"{files.url}/ok.pdf", {}), ("categories", CATEGORIES, {})]
            jobs = [job_id_of(await client.post(fields=fields)) for _ in range(2)]
            await eventually(lambda: all(producer.job(job)["fetched_at"] for job in jobs) and in_kafka(client))
            assert len(in_kafka(client)) == 1
            end(producer, in_kafka(client))
            await eventually(lambda: not unpublished(client))


async def test_fetches_are_shared_among_tenants(start: Start) -> None:
    with start(fetch_concurrency=1, file_url_allow="127.0.0.1") as producer:
        clients = [producer.new_key() for _ in range(2)]
        fields = [("file_url", "http://127.0.0.1:9/nobody-listens", {}), ("categories", CATEGORIES, {})]
        for client, count in zip(clients, (20, 2), strict=True):
            for _ in range(count):
                job_id_of(await client.post(fields=fields))
    producer.execute("update jobs set fetch_claimed_until = null, fetch_not_before = null where status = %s", "queued")
    chosen = claimed(producer, "claim_fetches", {"limit": 4, "lease": timedelta(minutes=1)})
    assert [sum(row["tenant_id"] == client.tenant for row in chosen) for client in clients] == [2, 2]


def claimed(producer: Producer, statement: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    with psycopg.connect(producer.dsn, row_factory=dict_row) as connection:
        return connection.execute(load_queries("producer_api")[statement].encode(), values).fetchall()
