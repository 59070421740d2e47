"""What one fetcher does with the jobs it claims, on real servers, when something unforeseen or untimely happens."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from docfleet.kafka import Publisher
from docfleet.objects import ObjectStore, document_name
from docfleet.postgres import open_pool
from docfleet.settings import KafkaSettings, ObjectSettings
from docfleet.stopping import Deadline, end_tasks
from producer_api.addresses import Allowed
from producer_api.document import Storage
from producer_api.fetch import FetchLimits, NoAnswer
from producer_api.fetcher import Fetcher, FetchRules
from producer_api.outbox import Outbox
from producer_api.store import JobRow, Store
from schemas.events import ClassificationFailed
from schemas.topics import EVENTS
from tests.integration.producer.service import events_of
from tests.servers import Gcs
from tests.waiting import eventually

ATTEMPTS = 2


@dataclass
class Fetching:
    """A fetcher that tries twice, and jobs whose file_url nobody fetches otherwise."""

    fetcher: Fetcher
    store: Store
    objects: ObjectStore
    dsn: str

    def job(self, *, fetch_attempts: int = 0) -> str:
        job_id = uuid.uuid4()
        with psycopg.connect(self.dsn) as connection:
            connection.execute(
                "insert into jobs (job_id, tenant_id, status, progress, created_at, last_seen_at, object_name,"
                " categories, file_url, fetch_attempts) values (%s, 'acme', 'queued', 'x', now(), now(), %s, '{a}',"
                " %s, %s)",
                (job_id, document_name(job_id), "http://127.0.0.1:1/x.pdf", fetch_attempts),
            )
        return str(job_id)

    def is_claimed_elsewhere(self, job_id: str) -> None:
        with psycopg.connect(self.dsn) as connection:
            connection.execute(
                "update jobs set fetch_attempts = fetch_attempts + 1, fetch_claimed_until = now() + interval '1 hour'"
                " where job_id = %s",
                (job_id,),
            )

    def row(self, job_id: str) -> Any:
        """Return how often the job was fetched, and whether its end was told."""
        with psycopg.connect(self.dsn) as connection:
            query = "select fetch_attempts, published_at is not null from jobs where job_id = %s"
            return connection.execute(query, (job_id,)).fetchone()


@pytest.fixture
async def fetching(kafka: str, topics: None, postgres: str, gcs: Gcs) -> AsyncIterator[Fetching]:
    pool = open_pool(postgres, max_size=4)
    await pool.open()
    store = Store(pool)
    objects = ObjectStore(ObjectSettings(STORAGE_EMULATOR_HOST=gcs.endpoint, bucket=gcs.bucket))
    publisher = Publisher(KafkaSettings(kafka_bootstrap_servers=kafka), source="producer_api")
    rules = FetchRules(
        limits=FetchLimits(total_seconds=30.0, idle_seconds=30.0, max_redirects=5, max_bytes=10_000),
        allowed=Allowed.parse("127.0.0.1"),
        attempts=ATTEMPTS,
        backoff_seconds=0.1,
        concurrency=4,
        look_seconds=0.1,
        progress="x",
    )
    with ThreadPoolExecutor(4) as threads:
        storage = Storage(objects, threads, 10_000, 10_000)
        fetcher = Fetcher(store, storage, Outbox(publisher, store), rules, wake_relay=lambda: None)
        yield Fetching(fetcher, store, objects, postgres)
    await asyncio.to_thread(publisher.close, Deadline(5))
    await pool.close()
    objects.close()


async def test_fetch_that_fails_in_an_unforeseen_way_ends_the_job_after_its_tries(
    fetching: Fetching, kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_arguments: Any) -> None:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr("producer_api.fetcher.fetch", broken)
    job_id = fetching.job()
    running = asyncio.create_task(fetching.fetcher.run())
    await eventually(lambda: fetching.row(job_id) == (ATTEMPTS, True))
    [(failure, _headers, _message)] = await events_of(kafka, EVENTS, job_id)
    assert isinstance(failure, ClassificationFailed)
    assert failure.error_code == "INTERNAL_ERROR"
    assert "nobody" not in failure.error
    await end_tasks([running])


async def test_end_of_a_fetch_is_told_by_none_but_the_holder_of_its_claim(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that stood still for longer than its lease: its last try fails when another replica has the job."""
    job_id = fetching.job(fetch_attempts=ATTEMPTS - 1)

    async def overtaken(*_arguments: Any) -> None:
        fetching.is_claimed_elsewhere(job_id)
        raise NoAnswer("too late")

    monkeypatch.setattr("producer_api.fetcher.fetch", overtaken)
    caplog.set_level(logging.INFO)
    running = asyncio.create_task(fetching.fetcher.run())
    await eventually(lambda: "the job is no longer ours" in caplog.text)
    assert fetching.row(job_id) == (ATTEMPTS + 1, False)
    await end_tasks([running])


async def test_document_of_another_replica_is_not_deleted_by_a_claim_that_has_lapsed(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that stands still between its claim and what it does first."""
    job_id = fetching.job(fetch_attempts=1)
    claim = fetching.store.claim_fetches

    async def claim_and_stand_still(limit: int, lease_seconds: float) -> list[JobRow]:
        jobs = await claim(limit, lease_seconds)
        if jobs:
            fetching.is_claimed_elsewhere(job_id)
        return jobs

    monkeypatch.setattr(fetching.store, "claim_fetches", claim_and_stand_still)
    name = document_name(uuid.UUID(job_id))
    fetching.objects.put(name, b"%PDF-1.7", media_type="application/pdf")
    caplog.set_level(logging.INFO)
    running = asyncio.create_task(fetching.fetcher.run())
    await eventually(lambda: "the job is no longer ours" in caplog.text)
    assert [one.name for one in fetching.objects.listed("")[0]] == [name]
    await end_tasks([running])
