"""`GET /classify/{job_id}` over HTTP: who may read what, in which shape."""

import json
import uuid

import aiohttp
import psycopg
import pytest

from docfleet.api_keys import hash_of
from tests.events import EPOCH, at, cancelled, completed, failed, progressed, requested, started
from tests.integration.status.serving import KEY, Service, add_key
from tests.waiting import eventually


async def test_job_in_each_state_has_the_contracts_shape(service: Service, client: aiohttp.ClientSession):
    jobs = [uuid.uuid4() for _ in range(5)]
    service.project(
        requested(jobs[0]),
        *(started(jobs[1]), progressed(jobs[1], progress="Processing page 2 of 4")),
        *(started(jobs[2]), completed(jobs[2])),
        *(started(jobs[3]), failed(jobs[3])),
        cancelled(jobs[4]),
    )
    created, begun, ended = "2026-03-01T12:00:00Z", "2026-03-01T12:00:01Z", "2026-03-01T12:00:09Z"
    expected = [
        ("queued", "Waiting for a worker", None, None, None, None),
        ("processing", "Processing page 2 of 4", None, None, begun, None),
        ("completed", "Classification completed", None, None, begun, ended),
        ("failed", "Classification failed", "The document could not be read.", "UNREADABLE_DOCUMENT", begun, ended),
        ("cancelled", "Classification cancelled", None, None, None, ended),
    ]
    for job_id, (status, progress, error, code, started_at, finished_at) in zip(jobs, expected, strict=True):
        async with client.get(f"/classify/{job_id}") as answer:
            assert answer.status == 200
            assert answer.content_type == "application/json"
            assert answer.headers["Cache-Control"] == "no-store"
            assert ("Retry-After" in answer.headers) == (finished_at is None)
            body = await answer.json()
        result = body.pop("result")
        assert (result is not None) == (status == "completed")
        assert body == {
            "job_id": str(job_id),
            "status": status,
            "progress": progress,
            "error": error,
            "error_code": code,
            "created_at": created,
            "started_at": started_at,
            "finished_at": finished_at,
        }


async def test_result_is_the_very_text_of_the_event(service: Service, client: aiohttp.ClientSession):
    result = '{"success": true, "scores": {"z": 0.500000, "a": 0.3, "Größe": 0.2}, "confidence": 5e-1, "n": "\\u0000"}'
    event = completed(result=result)
    service.project(event)
    async with client.get(f"/classify/{event.job_id}") as answer:
        text = await answer.text()
    assert f'"result": {result}, ' in text
    assert list(json.loads(text)["result"]["scores"]) == ["z", "a", "Größe"]


@pytest.mark.parametrize(
    "headers",
    [{}, {"api-key": ""}, {"api-key": "wrong"}, {"api-key": "x" * 5000}, {"Authorization": f"Basic {KEY}"}],
)
async def test_without_a_valid_key_the_answer_is_401(service: Service, headers: dict[str, str]):
    event = completed()
    service.project(event)
    async with (
        aiohttp.ClientSession(service.url) as session,
        session.get(f"/classify/{event.job_id}", headers=headers) as answer,
    ):
        assert answer.status == 401
        body = await answer.json()
    assert (body["error_code"], sorted(body)) == ("UNAUTHORIZED", ["detail", "error_code", "request_id"])


async def test_bearer_token_is_a_key_too(service: Service):
    event = completed()
    service.project(event)
    async with (
        aiohttp.ClientSession(service.url) as session,
        session.get(f"/classify/{event.job_id}", headers={"Authorization": f"bearer {KEY}"}) as answer,
    ):
        assert answer.status == 200


async def test_revoked_key_stops_working_and_a_new_one_works_at_once(service: Service, client: aiohttp.ClientSession):
    path = f"/classify/{uuid.uuid4()}"

    async def status(key: str) -> int:
        async with client.get(path, headers={"api-key": key}) as answer:
            return answer.status

    assert await status("new-key") == 401
    add_key(service.dsn, "new-key", "acme")
    assert await status("new-key") == 404
    with psycopg.connect(service.dsn) as connection:
        connection.execute("update api_keys set revoked_at = now() where key_hash = %s", (hash_of("new-key"),))

    async def is_refused() -> bool:
        return await status("new-key") == 401

    await eventually(is_refused)
    assert await status(KEY) == 404


async def test_anothers_job_an_unknown_one_and_no_uuid_are_all_not_found(
    service: Service, client: aiohttp.ClientSession
):
    event = completed(tenant_id="globex")
    service.project(event)
    other = str(event.job_id)
    for path in (
        other,
        f"{other}?wait=1",
        str(uuid.uuid4()),
        "nonsense",
        f"{{{other}}}",
        other.replace("-", ""),
        "%00",
    ):
        async with client.get(f"/classify/{path}", headers={"X-Request-Id": "abc-1"}) as answer:
            assert answer.status == 404, path
            assert await answer.json() == {
                "detail": "Job not found",
                "error_code": "JOB_NOT_FOUND",
                "request_id": "abc-1",
            }
            assert answer.headers["X-Request-Id"] == "abc-1"


async def test_unknown_paths_and_methods_answer_json(service: Service, client: aiohttp.ClientSession):
    async with client.get("/nowhere") as answer:
        assert (answer.status, (await answer.json())["error_code"]) == (404, "NOT_FOUND")
    async with client.delete(f"/classify/{uuid.uuid4()}") as answer:
        assert (answer.status, (await answer.json())["error_code"]) == (405, "METHOD_NOT_ALLOWED")
        assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD"}


async def test_head_answers_as_get_without_a_body(service: Service, client: aiohttp.ClientSession):
    event = completed()
    service.project(event)
    async with client.get(f"/classify/{event.job_id}") as full:
        length = full.headers["Content-Length"]
    async with client.head(f"/classify/{event.job_id}") as answer:
        assert (answer.status, answer.headers["Content-Length"], await answer.read()) == (200, length, b"")


async def test_times_keep_their_fractions_and_are_in_utc(service: Service, client: aiohttp.ClientSession):
    event = completed(seconds=9.25)
    service.project(event)
    with psycopg.connect(service.dsn) as connection:
        name = connection.info.dbname
        connection.execute(f"alter database \"{name}\" set timezone to 'Asia/Kolkata'".encode())
    async with client.get(f"/classify/{event.job_id}") as answer:
        body = await answer.json()
    assert body["created_at"] == EPOCH.isoformat().replace("+00:00", "Z")
    assert body["finished_at"] == at(9.25).isoformat().replace("+00:00", "Z")


async def test_requests_are_counted_by_route_and_never_by_job(service: Service, client: aiohttp.ClientSession):
    job_id = uuid.uuid4()
    await (await client.get(f"/classify/{job_id}")).read()
    async with client.get("/metrics") as answer:
        text = await answer.text()
    assert 'docfleet_http_requests_total{method="GET",route="/classify/{job_id}",status="404"}' in text
    assert str(job_id) not in text
