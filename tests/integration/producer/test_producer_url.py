"""file_url: refused at the POST, fetched in the background, or failed with a reason."""

from collections.abc import AsyncIterator
from urllib.parse import quote, urlsplit

import pytest

from docfleet.stack import gcs_server
from schemas.events import ClassificationFailed
from schemas.topics import EVENTS, JOBS
from tests import servers
from tests.integration.producer import file_server
from tests.integration.producer.conftest import Start
from tests.integration.producer.file_server import FileServer
from tests.integration.producer.service import CATEGORIES, PDF, Answer, Client, Producer, events_of, job_id_of
from tests.waiting import PATIENCE_SECONDS, eventually


@pytest.fixture
async def files() -> AsyncIterator[FileServer]:
    async with file_server.running() as server:
        yield server


async def post_url(client: Client, url: str, **headers: str) -> Answer:
    return await client.post(fields=[("file_url", url, {}), ("categories", CATEGORIES, {})], **headers)


async def failure_of(producer: Producer, job_id: str) -> ClassificationFailed:
    [(event, _headers, _message)] = await events_of(producer.kafka, EVENTS, job_id)
    assert isinstance(event, ClassificationFailed)
    return event


async def test_document_is_fetched_stored_and_published(client: Client, files: FileServer) -> None:
    job_id = job_id_of(await post_url(client, f"{files.url}/ok.pdf"))
    [(event, _headers, _message)] = await events_of(client.producer.kafka, JOBS, job_id)
    assert (event.media_type, event.size_bytes) == ("application/pdf", len(PDF))
    assert client.producer.object_bytes(job_id) == PDF
    assert client.quota_used() == 1


async def test_redirect_is_followed(client: Client, files: FileServer) -> None:
    job_id = job_id_of(await post_url(client, f"{files.url}/redirect?to=/ok.pdf"))
    await events_of(client.producer.kafka, JOBS, job_id)


async def test_server_that_fails_at_first_is_tried_again(client: Client, files: FileServer) -> None:
    files.failures = 2
    job_id = job_id_of(await post_url(client, f"{files.url}/flaky"))
    await events_of(client.producer.kafka, JOBS, job_id)
    assert client.producer.job(job_id)["fetch_attempts"] == 3


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/x",
        "http://0xa9fea9fe/x",
        "ftp://example.com/x",
        "http://a:b@example.com",
        "http://exa\u200bmple.com/x",
    ],
)
async def test_forbidden_url_is_refused_at_the_post(producer: Producer, url: str) -> None:
    client = producer.new_key()
    answer = await post_url(client, url)
    assert (answer.status, answer.error_code) == (400, "URL_NOT_ALLOWED")
    assert client.has_left_nothing()


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        ("/missing", "URL_UNREACHABLE", "404 Not Found"),
        ("/redirect", "URL_UNREACHABLE", "redirects more than 5 times"),
        ("/redirect?to=" + quote("http://169.254.169.254/latest/meta-data"), "URL_NOT_ALLOWED", "metadata"),
        ("/redirect?to=" + quote("http://127.0.0.2:1/x"), "URL_NOT_ALLOWED", "loopback"),
        ("/redirect?to=" + quote("file:///etc/passwd"), "URL_NOT_ALLOWED", "only http and https"),
        ("/redirect-in-latin-1", "URL_NOT_ALLOWED", r"m\udcfcnchen.example is no valid address"),
        ("/redirect?to=" + quote("http://exa\u200bmple.com/"), "URL_NOT_ALLOWED", "no valid URL"),
        ("/empty", "EMPTY_FILE", "empty"),
        ("/text", "UNSUPPORTED_FORMAT", "none of PDF"),
        ("/large", "URL_TOO_LARGE", "3000000"),
        ("/endless", "URL_TOO_LARGE", "3000000"),
        ("/gzip", "URL_UNREACHABLE", "compresses"),
        ("/silent", "URL_UNREACHABLE", "did not answer in time"),
    ],
)
async def test_failed_fetch_ends_the_job_with_its_reason(
    client: Client, files: FileServer, path: str, code: str, reason: str
) -> None:
    job_id = job_id_of(await post_url(client, files.url + path))

    async def told() -> bool:
        return client.producer.job(job_id)["published_at"] is not None

    await eventually(told)
    failure = await failure_of(client.producer, job_id)
    assert failure.error_code == code
    assert reason in failure.error
    assert not any(job_id in name for name in client.producer.object_names())


async def test_fetch_waits_for_a_bucket_that_is_missing(
    start: Start, files: FileServer, gcs_endpoint: str, unique: str
) -> None:
    missing = servers.Gcs(gcs_endpoint, f"missing-{unique}")
    with start(gcs=missing, file_url_allow="127.0.0.1", fetch_attempts=1, fetch_backoff_seconds=0.1) as producer:
        job_id = job_id_of(await post_url(producer.new_key(), f"{files.url}/ok.pdf"))
        await eventually(lambda: producer.job(job_id)["fetch_attempts"] > 1)
        gcs_server.create_bucket(gcs_endpoint, missing.bucket, within_seconds=PATIENCE_SECONDS)
        await events_of(producer.kafka, JOBS, job_id)


async def test_nobody_listening_fails_after_the_tries(client: Client) -> None:
    job_id = job_id_of(await post_url(client, "http://127.0.0.1:1/x.pdf"))
    await eventually(lambda: client.producer.job(job_id)["published_at"])
    failure = await failure_of(client.producer, job_id)
    assert (failure.error_code, client.producer.job(job_id)["fetch_attempts"]) == ("URL_UNREACHABLE", 4)
    assert "does not take a connection" in failure.error


async def test_name_that_leads_to_a_private_address_is_not_connected_to_nor_told_which(
    start: Start, files: FileServer
) -> None:
    with start() as producer:
        client = producer.new_key()
        port = urlsplit(files.url).port
        job_id = job_id_of(await post_url(client, f"http://localhost:{port}/ok.pdf"))
        await eventually(lambda: producer.job(job_id)["published_at"])
        failure = await failure_of(producer, job_id)
        assert failure.error_code == "URL_NOT_ALLOWED"
        assert "localhost leads to an address that is not public" in failure.error
        assert not any(said in failure.error for said in ("127.0.0.1", "::1", "loopback"))  # the operator's to know
        assert "loopback" in producer.log_path.read_text()
    assert not files.asked


async def test_operator_may_allow_a_host_by_name(start: Start, files: FileServer) -> None:
    with start(file_url_allow="localhost") as producer:
        client = producer.new_key()
        job_id = job_id_of(await post_url(client, f"http://localhost:{urlsplit(files.url).port}/ok.pdf"))
        await events_of(producer.kafka, JOBS, job_id)


async def test_fetch_of_a_killed_process_is_taken_over(start: Start, files: FileServer) -> None:
    with start(file_url_allow="127.0.0.1", fetch_idle_seconds=60) as doomed:
        client = doomed.new_key()
        job_id = job_id_of(await post_url(client, f"{files.url}/silent"))
        await eventually(lambda: files.asked["/silent"] == 1)
        doomed.process.kill()
        doomed.process.wait()
        doomed.execute("update jobs set file_url = %s where job_id = %s", f"{files.url}/ok.pdf", job_id)
    with start(file_url_allow="127.0.0.1") as heir:
        await events_of(heir.kafka, JOBS, job_id)
        assert heir.job(job_id)["fetch_attempts"] == 2


async def test_same_url_with_the_same_key_is_the_same_job(client: Client, files: FileServer) -> None:
    first = await post_url(client, f"{files.url}/ok.pdf", Idempotency_Key="k")
    assert (await post_url(client, f"{files.url}/ok.pdf", Idempotency_Key="k")).text == first.text
    assert (await post_url(client, f"{files.url}/flaky", Idempotency_Key="k")).status == 422
