"""Neighbours that are slow, silent, full or lost half way: a clear answer in time, and nothing half done."""

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest

from docfleet.stack import gcs_server
from docfleet.stack.ports import free_port
from docfleet.stack.processes import spawn, stop
from tests import servers
from tests.integration.producer import service
from tests.integration.producer.conftest import Start
from tests.integration.producer.service import PDF, Client, job_id_of
from tests.proxy import Proxy, proxy
from tests.waiting import PATIENCE_SECONDS, eventually

#: What a request may take whose neighbour never answers: a test fails after it.
ANSWERED_WITHIN = 30
ADMISSION = b"quota_used = quota_used + 1"
UPLOAD = b"POST /upload/"


@dataclass
class Cut:
    """A producer_api that reaches its database and its store through relays."""

    producer: service.Producer
    postgres: Proxy
    store: Proxy

    def leftovers(self, client: Client) -> tuple[int, int, int, set[str]]:
        """Return the client's jobs, quota and Idempotency-Keys, and documents that belong to no job."""
        known = {str(row["job_id"]) for row in self.producer.rows("select job_id from jobs")}
        orphans = {name for name in self.producer.object_names() if name.split("/")[1] not in known}
        return len(client.jobs()), client.quota_used(), len(client.idempotency_rows()), orphans


@pytest.fixture(scope="module")
def behind_proxies(
    kafka: str, topics: None, postgres_server_dsn: str, gcs_endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cut]:
    dsn = servers.new_database(postgres_server_dsn)
    bucket = f"cut-{uuid4().hex[:12]}"
    gcs_server.create_bucket(gcs_endpoint, bucket, within_seconds=10)
    database, store = urlsplit(dsn), urlsplit(gcs_endpoint)
    with (
        proxy(str(database.hostname), int(database.port or 0)) as to_postgres,
        proxy(str(store.hostname), int(store.port or 0)) as to_store,
    ):
        place = f"{database.username}:{database.password}@127.0.0.1:{to_postgres.port}"
        with service.running(
            kafka=kafka,
            dsn=urlunsplit(database._replace(netloc=place)),
            gcs=servers.Gcs(f"http://127.0.0.1:{to_store.port}", bucket),
            folder=tmp_path_factory.mktemp("cut"),
            object_timeout_seconds=2,
            database_timeout_seconds=2,
            key_cache_seconds=0.2,
        ) as running:
            running.dsn, running.gcs = dsn, servers.Gcs(gcs_endpoint, bucket)  # the test itself sees what is there
            yield Cut(running, to_postgres, to_store)
            to_postgres.heal()
            to_store.heal()
    servers.drop_database(postgres_server_dsn, dsn)


@pytest.fixture
def cut(behind_proxies: Cut) -> Iterator[Cut]:
    yield behind_proxies
    behind_proxies.postgres.heal()
    behind_proxies.store.heal()


async def refused(client: Client, **options: str) -> None:
    """Post, and see it refused in time with the way to try again."""
    async with asyncio.timeout(ANSWERED_WITHIN):
        answer = await client.post(**options)
    assert (answer.status, answer.error_code) == (503, "SERVICE_UNAVAILABLE")
    assert int(answer.headers["Retry-After"]) >= 1


@contextmanager
def blocked_admission(client: Client) -> Iterator[int]:
    """Hold a lock that the transaction of the client's posts needs, and nothing before it; give the holder's pid."""
    with psycopg.connect(client.producer.dsn) as connection:
        connection.execute("select from api_keys where name = %s for no key update", (client.tenant,))
        yield connection.info.backend_pid


async def test_store_that_says_503_for_a_moment_is_tried_again_within_the_request(cut: Cut) -> None:
    client = cut.producer.new_key()
    cut.store.refuse(2)
    job_id = job_id_of(await client.post())
    assert cut.store.refused == 2
    assert cut.producer.object_bytes(job_id) == PDF
    assert client.quota_used() == 1


async def test_store_that_says_503_for_good_is_503_and_spends_nothing(cut: Cut) -> None:
    client = cut.producer.new_key()
    before = cut.leftovers(client)
    cut.store.refuse(1_000_000)
    await refused(client, Idempotency_Key="k")
    assert cut.store.refused > 1
    assert cut.leftovers(client) == before
    cut.store.heal()
    job_id_of(await client.post(Idempotency_Key="k"))


async def test_store_that_never_answers_is_503_in_time_and_spends_nothing(cut: Cut) -> None:
    client = cut.producer.new_key()
    cut.store.stall()
    await refused(client, Idempotency_Key="k")
    assert cut.leftovers(client)[:3] == (0, 0, 0)  # a document may be held up on its way: the reaper's


async def test_upload_whose_answer_is_lost_is_recognized_and_makes_one_job(cut: Cut) -> None:
    client = cut.producer.new_key()
    cut.store.cut_answer_to(UPLOAD)
    job_id = job_id_of(await client.post())
    assert cut.producer.object_bytes(job_id) == PDF
    assert (len(client.jobs()), client.quota_used()) == (1, 1)


async def test_postgres_that_never_answers_is_503_in_time_and_everything_works_when_it_does_again(cut: Cut) -> None:
    client = cut.producer.new_key()
    job_id_of(await client.post())  # connections are there and are held up
    cut.postgres.stall()
    await refused(client)
    health = await client.send("GET", "/healthz/ready")
    assert (health.status, list(health.body["faults"])) == (503, ["postgres"])
    cut.postgres.heal()

    async def accepted() -> bool:
        return (await client.post()).status == 202

    await eventually(accepted)
    assert client.quota_used() == len(client.jobs()) == 2


async def test_postgres_that_stops_in_the_middle_of_the_transaction_keeps_nobody_waiting(cut: Cut) -> None:
    """Nobody knows whether the job is durable, so its document stays: for the job, or for the reaper."""
    client = cut.producer.new_key()
    cut.postgres.stall_at(ADMISSION)
    await refused(client)
    cut.postgres.heal()
    await eventually(lambda: client.quota_used() == len(client.jobs()))
    documents = {name.split("/")[1] for name in cut.producer.object_names()}
    assert {str(job["job_id"]) for job in client.jobs()} <= documents


async def test_transaction_that_did_not_get_through_leaves_its_document_to_the_reaper_and_no_job(cut: Cut) -> None:
    client = cut.producer.new_key()
    *nothing, before = cut.leftovers(client)
    cut.postgres.cut_at(ADMISSION)
    await refused(client, Idempotency_Key="k")
    *left, after = cut.leftovers(client)
    assert left == nothing
    assert len(after - before) == 1
    job_id_of(await client.post(Idempotency_Key="k"))
    assert client.quota_used() == 1


async def test_transaction_that_commits_after_its_post_was_given_up_is_one_job_with_its_document(cut: Cut) -> None:
    client = cut.producer.new_key()
    with blocked_admission(client):
        await refused(client, Idempotency_Key="k")
        assert not client.jobs()
    await eventually(client.jobs)
    (job,) = client.jobs()
    assert cut.producer.object_bytes(str(job["job_id"])) == PDF
    assert job_id_of(await client.post(Idempotency_Key="k")) == str(job["job_id"])
    assert (len(client.jobs()), client.quota_used()) == (1, 1)


async def test_transaction_that_postgres_rolled_back_leaves_nothing(cut: Cut) -> None:
    client = cut.producer.new_key()
    before = cut.leftovers(client)
    cancel = "select pg_cancel_backend(pid) from pg_stat_activity where %s = any (pg_blocking_pids(pid))"
    with blocked_admission(client) as blocking_pid:
        refusal = asyncio.create_task(refused(client, Idempotency_Key="k"))
        await eventually(lambda: cut.producer.rows(cancel, blocking_pid))
        await refusal
        assert cut.leftovers(client) == before
    job_id_of(await client.post(Idempotency_Key="k"))
    assert client.quota_used() == 1


async def test_transaction_that_got_through_unheard_of_is_one_job_with_its_document(cut: Cut) -> None:
    client = cut.producer.new_key()
    cut.postgres.cut_answer_to(ADMISSION)
    first = await client.post(Idempotency_Key="k")
    assert first.status in {202, 503}
    (job,) = client.jobs()
    assert cut.producer.object_bytes(str(job["job_id"])) == PDF
    assert job_id_of(await client.post(Idempotency_Key="k")) == str(job["job_id"])
    assert (len(client.jobs()), client.quota_used()) == (1, 1)
    cut.producer.execute(
        "update jobs set publish_claimed_until = now() where published_at is null"
    )  # the lease is over
    await eventually(lambda: cut.producer.job(str(job["job_id"]))["published_at"])


async def test_store_whose_disk_is_full_is_503_and_spends_nothing(start: Start, tmp_path: Path) -> None:
    large = PDF + b" " * 300_000
    port = free_port()
    program = gcs_server.prepare(tmp_path / "objects", port)
    server = spawn(program, tmp_path / "gcs.log")
    try:
        endpoint = gcs_server.endpoint_of(port)
        gcs_server.create_bucket(endpoint, "full", within_seconds=PATIENCE_SECONDS)
        with start(
            gcs=servers.Gcs(endpoint, "full"), object_timeout_seconds=1, upload_memory_bytes=100_000
        ) as producer:
            client = producer.new_key()
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
            await refused(client, file=large, Idempotency_Key="k")  # type: ignore[arg-type]
            assert client.has_left_nothing()
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            job_id_of(await client.post(file=large, Idempotency_Key="k"))
    finally:
        stop(server, program.stop_signal, within_seconds=10)
