"""When Kafka, Postgres or the store is away, and when a worker goes silent."""

import asyncio
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack

import aiohttp
import pytest

from docfleet.stack import gcs_server
from docfleet.stack.ports import free_port
from schemas.events import ClassificationFailed, ClassificationRequested
from schemas.topics import EVENTS, JOBS
from tests import servers
from tests.integration.producer.conftest import Start
from tests.integration.producer.service import PDF, Client, Producer, events_of, job_id_of
from tests.waiting import PATIENCE_SECONDS, eventually


async def test_job_is_accepted_without_kafka_and_published_when_it_is_back(start: Start, kafka: str) -> None:
    with start(kafka=f"127.0.0.1:{free_port()}", publish_timeout_seconds=1.0, stop_deadline_seconds=2) as cut_off:
        client = cut_off.new_key()
        job_id = job_id_of(await client.post(options={"none_of_these": "0.7", "evidence": "true"}))
        ready = await client.send("GET", "/healthz/ready")
        assert ready.status == 200
        assert "kafka" in ready.body["degraded"]
        assert cut_off.job(job_id)["published_at"] is None
    with start(publish_timeout_seconds=1.0) as connected:
        [(event, _headers, _message)] = await events_of(kafka, JOBS, job_id)
        assert isinstance(event, ClassificationRequested)
        assert (event.none_of_these, event.evidence) == (0.7, True)
        await eventually(lambda: connected.job(job_id)["published_at"])


async def test_postgres_away_is_503_and_leaves_no_object(start: Start, gcs: servers.Gcs) -> None:
    with start(dsn=f"postgresql://nobody@127.0.0.1:{free_port()}/nothing") as producer:
        client = Client(producer, "some-key", "nobody")
        answer = await client.post()
        assert (answer.status, answer.error_code) == (503, "SERVICE_UNAVAILABLE")
        assert int(answer.headers["Retry-After"]) >= 1
        ready = await client.send("GET", "/healthz/ready")
        assert ready.status == 503
        assert "postgres" in ready.body["faults"]
        assert not producer.object_names()


async def test_store_away_is_503_and_spends_nothing(start: Start) -> None:
    away = servers.Gcs(f"http://127.0.0.1:{free_port()}", "nothing")
    with start(gcs=away, object_timeout_seconds=1.0) as producer:
        client = producer.new_key()
        answer = await client.post(Idempotency_Key="k")
        assert (answer.status, answer.error_code) == (503, "SERVICE_UNAVAILABLE")
        assert not client.jobs()
        assert client.quota_used() == 0
        assert not client.idempotency_rows()


async def test_bucket_that_is_missing_is_503_not_ready_and_spends_nothing(
    start: Start, gcs_endpoint: str, unique: str
) -> None:
    missing = servers.Gcs(gcs_endpoint, f"missing-{unique}")
    with start(gcs=missing, upload_memory_bytes=100_000) as producer:
        client = producer.new_key()
        for file in (PDF, PDF + b" " * 300_000):
            answer = await client.post(file=file, Idempotency_Key="k")
            assert (answer.status, answer.error_code) == (503, "SERVICE_UNAVAILABLE")
            assert int(answer.headers["Retry-After"]) >= 1
        assert (client.jobs(), client.quota_used(), client.idempotency_rows()) == ([], 0, [])
        ready = await client.send("GET", "/healthz/ready")
        assert (ready.status, list(ready.body["faults"])) == (503, ["object_store"])
        gcs_server.create_bucket(gcs_endpoint, missing.bucket, within_seconds=PATIENCE_SECONDS)
        job_id_of(await client.post(Idempotency_Key="k"))
        assert (await client.send("GET", "/healthz/ready")).status == 200


async def test_database_that_is_read_only_is_503_and_not_ready_until_it_can_be_written(start: Start) -> None:
    with start() as producer:
        client = producer.new_key()
        servers.let_write(producer.dsn, is_allowed=False)
        answer = await client.post(Idempotency_Key="k")
        assert (answer.status, answer.error_code) == (503, "SERVICE_UNAVAILABLE")
        assert int(answer.headers["Retry-After"]) >= 1
        ready = await client.send("GET", "/healthz/ready")
        assert (ready.status, list(ready.body["faults"])) == (503, ["postgres"])
        assert "read-only" in ready.body["faults"]["postgres"]
        await eventually(lambda: "in a read-only transaction" in producer.log_path.read_text())  # the loops have met it
        assert (await client.send("GET", "/healthz/live")).status == 200
        servers.let_write(producer.dsn, is_allowed=True)
        job_id_of(await client.post(Idempotency_Key="k"))
        assert (await client.send("GET", "/healthz/ready")).status == 200


async def test_silent_job_is_published_again_and_fails_after_its_attempts(start: Start) -> None:
    with start(sweep_after_seconds=1.0, sweep_interval_seconds=0.3, max_attempts=2) as producer:
        client = producer.new_key()
        job_id = job_id_of(await client.post(options={"none_of_these": "0.7", "evidence": "true"}))
        await eventually(lambda: producer.job(job_id)["published_at"])
        _everything_is_projected(producer)
        _a_worker_starts(producer, job_id)
        messages = await events_of(producer.kafka, JOBS, job_id, count=2)
        assert [event.attempt for event, _headers, _message in messages] == [1, 2]
        assert {(event.none_of_these, event.evidence) for event, _headers, _message in messages} == {(0.7, True)}
        await eventually(lambda: producer.job(job_id)["published_at"] == producer.job(job_id)["last_seen_at"])
        _a_worker_starts(producer, job_id)
        [(failure, _headers, _message)] = await events_of(producer.kafka, EVENTS, job_id)
        assert isinstance(failure, ClassificationFailed)
        assert failure.error_code == "ATTEMPTS_EXHAUSTED"


async def test_silent_worker_whose_clock_is_ahead_is_found_as_much_later(start: Start) -> None:
    with start(sweep_after_seconds=0.5, sweep_interval_seconds=0.2) as producer:
        client = producer.new_key()
        ahead, right, behind = [job_id_of(await client.post()) for _ in range(3)]
        await eventually(lambda: all(job["published_at"] for job in client.jobs()))
        _everything_is_projected(producer)
        _a_worker_starts(producer, ahead, clock_seconds=3600)
        _a_worker_starts(producer, right)
        _a_worker_starts(producer, behind, clock_seconds=-3600)
        await eventually(lambda: producer.job(right)["attempt"] >= 2 and producer.job(behind)["attempt"] >= 2)
        assert producer.job(ahead)["attempt"] == 1


async def test_job_that_waits_in_a_backlog_is_left_alone(start: Start) -> None:
    with start(sweep_after_seconds=0.5, sweep_interval_seconds=0.2) as producer:
        client = producer.new_key()
        waiting, silent = job_id_of(await client.post()), job_id_of(await client.post())
        await eventually(lambda: all(job["published_at"] for job in client.jobs()))
        _everything_is_projected(producer)
        _a_worker_starts(producer, silent)
        await eventually(lambda: producer.job(silent)["attempt"] >= 2)
        assert producer.job(waiting)["attempt"] == 1


async def test_nothing_is_swept_while_the_projector_is_behind(start: Start) -> None:
    with start(sweep_after_seconds=0.5, sweep_interval_seconds=0.2, max_attempts=1) as producer:
        client = producer.new_key()
        # an event that no projector has read
        refused = job_id_of(
            await client.post(fields=[("file_url", "http://localhost:1/", {}), ("categories", '["a"]', {})])
        )
        await events_of(producer.kafka, EVENTS, refused)
        job_id = job_id_of(await client.post())
        await eventually(lambda: producer.job(job_id)["published_at"])
        _a_worker_starts(producer, job_id)
        relayed = "no sweep while the projector is behind"
        await eventually(lambda: relayed in producer.log_path.read_text())
        assert producer.job(job_id)["attempt"] == 1


async def test_sigterm_finishes_requests_and_exits_0(start: Start) -> None:
    with start() as producer:
        client = producer.new_key()
        job_id = job_id_of(await client.post())
        producer.process.send_signal(signal.SIGTERM)
        assert producer.process.wait(15) == 0
        assert producer.job(job_id)["published_at"] is not None


@pytest.mark.parametrize("file", [PDF, PDF + b"x" * 9_000_000], ids=["in one request", "in parts"])
async def test_stop_keeps_to_its_deadline_while_the_store_hangs(start: Start, file: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as store:  # takes connections and never answers
        store.settimeout(PATIENCE_SECONDS)
        hangs = servers.Gcs(f"http://127.0.0.1:{store.getsockname()[1]}", "silent")
        with start(gcs=hangs, object_timeout_seconds=600, stop_deadline_seconds=3) as producer:
            posting = asyncio.create_task(producer.new_key().post(file=file))
            with ExitStack() as calls:
                await asyncio.to_thread(_wait_for_upload, store, calls)
                producer.process.send_signal(signal.SIGTERM)
                with pytest.raises(aiohttp.ClientError):
                    await posting
                assert await asyncio.to_thread(producer.process.wait, PATIENCE_SECONDS) == 1
            assert '"action": "stop_overdue"' in producer.log_path.read_text()


def _wait_for_upload(store: socket.socket, calls: ExitStack) -> None:
    """Return when a document is on its way to this store; its connections stay open until `calls` is closed."""
    head = b""
    while not head.startswith(b"POST /upload/"):
        call, _ = store.accept()
        calls.enter_context(call)
        head = call.recv(1000)


def test_wrong_settings_are_all_named_and_exit_2() -> None:
    environment = {"DOCFLEET_FILE_URL_ALLOW": "10.0.0.0/99", "DOCFLEET_UPLOAD_MAX_BYTE": "7", "DOCFLEET_HTTP_PORT": "x"}
    done = subprocess.run(
        [sys.executable, "-m", "producer_api"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 2
    for name in ("DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", *environment):
        assert name in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def _a_worker_starts(producer: Producer, job_id: str, *, clock_seconds: float = 0.0) -> None:
    """Do to the row what the projector does on ClassificationStarted of a worker whose clock is off by so much."""
    producer.execute(
        "update jobs set status = 'processing', started_at = coalesce(started_at, now()),"
        " last_seen_at = greatest(last_seen_at, now() + make_interval(secs => %s)) where job_id = %s",
        clock_seconds,
        job_id,
    )


def _everything_is_projected(producer: Producer) -> None:
    """Say that the projector has read all of docfleet.events, now and later."""
    for partition in range(EVENTS.partitions):
        producer.execute(
            "insert into consumer_offsets (consumer_group, topic, partition, next_offset)"
            " values ('docfleet.status-service', %s, %s, 1000000)",
            EVENTS.name,
            partition,
        )
