"""The whole system as a user runs it: `docfleet up`, a document in, an answer out, whatever dies meanwhile."""

import json
import os
import shutil
import signal
import stat
import subprocess
from typing import Any

import aiohttp
import pytest
from unsiloed_sdk import AsyncUnsiloedClient, UnsiloedClient

from tests import documents
from tests.e2e.running import RunningStack, command, is_alive
from tests.waiting import eventually

CATEGORIES = ["invoice", "letter", "menu"]
SERVICES = ["producer_api", "status_service", "classifier_worker-0"]
NAMES = ["kafka", "postgres", "gcs", *SERVICES, *(["prometheus"] if shutil.which("prometheus") else [])]
ANSWER_SECONDS = 180.0  # a worker that starts anew loads its model first


async def post(client: aiohttp.ClientSession, document: bytes) -> str:
    form = aiohttp.FormData({"categories": json.dumps(CATEGORIES)})
    form.add_field("pdf_file", document, filename="document")
    async with client.post("/classify", data=form) as answer:
        body = await answer.json()
        assert answer.status == 202, body
        return str(body["job_id"])


async def read(client: aiohttp.ClientSession, job_id: str) -> dict[str, Any]:
    async with client.get(f"/classify/{job_id}") as answer:
        assert answer.status == 200, await answer.text()
        job: dict[str, Any] = await answer.json()
        return job


async def ended(client: aiohttp.ClientSession, job_id: str) -> dict[str, Any] | None:
    job = await read(client, job_id)
    return job if job["status"] in {"completed", "failed"} else None


async def completed(client: aiohttp.ClientSession, job_id: str) -> dict[str, Any]:
    job = await eventually(lambda: ended(client, job_id), within=ANSWER_SECONDS, poll_seconds=0.1)
    assert job is not None
    assert job["status"] == "completed", job
    return job


def test_ready_line_and_stack_json_say_the_same(stack: RunningStack) -> None:
    described = stack.description
    assert (described["url"], described["api_key"]) == (stack.url, stack.api_key)
    assert [process["name"] for process in described["processes"]] == NAMES
    assert all(is_alive(process["pid"]) for process in described["processes"])
    assert set(described) == {
        *("url", "api_key", "kafka_bootstrap_servers", "postgres_dsn", "gcs_endpoint", "gcs_bucket", "processes")
    }


def test_secrets_of_the_data_dir_are_its_owners_alone(stack: RunningStack) -> None:
    assert stat.S_IMODE(stack.data_dir.stat().st_mode) == 0o700
    for name in ("api-key", "stack.json"):
        assert stat.S_IMODE((stack.data_dir / name).stat().st_mode) == 0o600, name


async def test_every_service_has_metrics_where_stack_json_says(
    stack: RunningStack, client: aiohttp.ClientSession
) -> None:
    urls = {process["name"]: process["metrics_url"] for process in stack.description["processes"]}
    assert set(SERVICES) <= {name for name, url in urls.items() if url}
    for url in (urls[name] for name in SERVICES):
        async with client.get(url) as answer:
            assert answer.status == 200
            assert "docfleet_" in await answer.text()


async def test_pdf_is_classified_page_by_page(client: aiohttp.ClientSession) -> None:
    job = await completed(client, await post(client, documents.pdf(pages=2)))
    result = job["result"]
    assert result["classification"] == "invoice"
    assert result["total_pages"] == result["processed_pages"] == len(result["page_results"]) == 2
    assert set(result["scores"]) == set(CATEGORIES)


async def test_wrong_methods_are_refused_by_the_service_that_owns_the_path(client: aiohttp.ClientSession) -> None:
    for path, allowed in (("/classify", "POST"), ("/classify/7c9e6679-7425-40de-944b-e07fc1f90ae7", "GET")):
        async with client.put(path) as answer:
            assert answer.status == 405
            assert allowed in answer.headers["Allow"]


def test_vendor_sdk_works_with_its_base_url_changed(stack: RunningStack) -> None:
    client = UnsiloedClient(api_key=stack.api_key, base_url=stack.url)
    answer = client.classify_and_wait(file=documents.pdf(pages=1), categories=CATEGORIES, poll_interval=0.2)
    assert answer.status == "completed"
    assert answer.result is not None
    assert answer.result["classification"] == "invoice"
    client.close()


async def test_vendor_async_sdk_works_with_its_base_url_changed(stack: RunningStack) -> None:
    async with AsyncUnsiloedClient(api_key=stack.api_key, base_url=stack.url) as client:
        answer = await client.classify_and_wait(file=documents.pdf(pages=1), categories=CATEGORIES, poll_interval=0.2)
    assert answer.status == "completed"
    assert answer.result is not None
    assert answer.result["classification"] == "invoice"


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")
async def test_kcat_reads_the_events_and_their_headers(stack: RunningStack, client: aiohttp.ClientSession) -> None:
    job_id = await post(client, documents.pdf(pages=1))
    await completed(client, job_id)
    consume = ["kcat", "-C", "-b", stack.description["kafka_bootstrap_servers"], "-t", "docfleet.events", "-e", "-q"]

    def read_events() -> list[str]:
        shown = subprocess.run([*consume, "-f", "%k %h\n"], capture_output=True, text=True, timeout=30, check=True)
        return [line for line in shown.stdout.splitlines() if line.startswith(job_id)]

    started, ended_ = read_events()
    assert "ce_type=docfleet.v1.ClassificationStarted" in started
    assert "ce_type=docfleet.v1.ClassificationCompleted" in ended_
    for header in ("ce_specversion=1.0", "ce_id=", "ce_time=", "traceparent=00-", "content-type=application/avro"):
        assert header in ended_


async def test_jobs_of_a_killed_worker_are_still_completed(stack: RunningStack, client: aiohttp.ClientSession) -> None:
    killed = stack.pid_of("classifier_worker-0")
    job_ids = [await post(client, documents.pdf(pages=4)) for _ in range(8)]

    async def started() -> bool:
        return any([(await read(client, job_id))["status"] == "processing" for job_id in job_ids])

    await eventually(started, within=ANSWER_SECONDS, poll_seconds=0.01)
    os.kill(killed, signal.SIGKILL)
    assert not all([await ended(client, job_id) for job_id in job_ids]), "the worker was faster than the kill"
    for job_id in job_ids:
        assert (await completed(client, job_id))["result"]["classification"] == "invoice"
    await eventually(lambda: stack.pid_of("classifier_worker-0") != killed)
    assert not is_alive(killed)


async def test_stack_starts_after_its_predecessor_was_killed_and_knows_its_jobs(
    stack: RunningStack, client: aiohttp.ClientSession
) -> None:
    job = await completed(client, await post(client, documents.pdf(pages=1)))
    api_key, tree = stack.api_key, stack.process_tree()
    servers = [stack.pid_of(name) for name in ("kafka", "postgres", "gcs")]
    stack.kill()
    await eventually(lambda: not any(is_alive(pid) for pid in servers))

    stack.start()
    assert not [pid for pid in tree if is_alive(pid)]
    assert stack.api_key == api_key
    async with aiohttp.ClientSession(stack.url, headers={"api-key": api_key}) as session:
        assert await read(session, job["job_id"]) == job


def test_second_stack_on_a_data_dir_is_refused_in_one_sentence(stack: RunningStack) -> None:
    refused = run_up("--port", "0", "--data-dir", str(stack.data_dir))
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr.count("\n") == 1
    assert f"already running on the data dir {stack.data_dir}" in refused.stderr


def test_port_in_use_is_told_in_one_sentence(stack: RunningStack) -> None:
    port = stack.url.rpartition(":")[2]
    refused = run_up("--port", port, "--data-dir", str(stack.data_dir.parent / "other"))
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert f"port {port} cannot be used" in refused.stderr


def test_stopped_stack_leaves_nothing_behind(stack: RunningStack) -> None:
    tree = stack.process_tree()
    assert {stack.pid_of(name) for name in NAMES} < tree
    assert stack.stop() == 0
    assert not [pid for pid in tree if is_alive(pid)]
    assert stack.description["processes"] == []


def run_up(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command(), "up", *options], capture_output=True, text=True, timeout=60, check=False)
