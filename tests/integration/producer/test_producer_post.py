"""POST /classify: what is accepted, and each refusal of the contract."""

import asyncio
import io
import json
import re
from urllib.parse import urlencode, urlsplit

import pytest

from schemas import codec
from schemas.events import ClassificationRequested
from schemas.topics import JOBS
from tests.integration.producer.service import CATEGORIES, PDF, Answer, Client, Producer, events_of, job_id_of
from tests.waiting import eventually

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 50


async def test_accepted_job_is_durable_stored_and_published(client: Client) -> None:
    answer = await client.post(traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    job_id = job_id_of(answer)
    assert answer.body == {
        "job_id": job_id,
        "status": "processing",
        "message": "Classification started",
        "quota_remaining": 999,
    }
    assert answer.headers["Location"] == f"/classify/{job_id}"
    assert int(answer.headers["Retry-After"]) >= 1
    assert client.producer.object_bytes(job_id) == PDF
    job = client.producer.job(job_id)
    assert (job["status"], job["tenant_id"], job["size_bytes"]) == ("queued", client.tenant, len(PDF))
    [(event, headers, message)] = await events_of(client.producer.kafka, JOBS, job_id)
    assert isinstance(event, ClassificationRequested)
    assert event.object_name == f"jobs/{job_id}/document"
    assert event.categories == ("Invoice", "Letter")
    assert (event.media_type, event.size_bytes, event.attempt) == ("application/pdf", len(PDF), 1)
    assert codec.header(headers, "traceparent") == "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert codec.header(headers, "ce_source") == "/docfleet/producer_api"

    async def marked() -> bool:
        row = client.producer.job(job_id)
        return (row["published_partition"], row["published_offset"]) == (message.partition(), message.offset())

    await eventually(marked)


async def test_large_file_is_streamed_into_the_store_unchanged(client: Client) -> None:
    file = PDF + bytes(range(256)) * 10_000
    job_id = job_id_of(await client.post(file=file))
    assert client.producer.object_bytes(job_id) == file


async def test_fields_come_in_any_order_and_unknown_ones_are_ignored(client: Client) -> None:
    fields = [
        ("categories", CATEGORIES, {}),
        ("unknown", "x" * 100_000, {}),
        ("pdf_file", PDF, {"filename": "x.exe", "content_type": "text/plain"}),
        ("unknown", "again", {}),
    ]
    job_id_of(await client.post(fields=fields))
    job_id_of(await client.post(fields=fields[::-1]))


async def test_bearer_token_is_a_key_too(client: Client) -> None:
    answer = await client.send("GET", "/nothing", Authorization="Bearer x")
    assert answer.status == 404
    bearer = Client(client.producer, "", client.tenant)
    assert (await bearer.post(Authorization=f"Bearer {client.key}")).status == 202


@pytest.mark.parametrize("key", ["", "unknown"])
async def test_bad_key_is_401(client: Client, key: str) -> None:
    answer = await Client(client.producer, key, client.tenant).post()
    assert (answer.status, answer.error_code) == (401, "UNAUTHORIZED")
    assert answer.headers["WWW-Authenticate"]


async def test_revoked_key_stops_within_the_cache_time(client: Client) -> None:
    job_id_of(await client.post())
    client.producer.execute("update api_keys set revoked_at = now() where name = %s", client.tenant)

    async def refused() -> bool:
        return (await client.post()).status == 401

    await eventually(refused)


async def test_neither_file_nor_url_is_400(client: Client) -> None:
    answer = await client.post(file=None)
    assert (answer.status, answer.body["detail"]) == (400, "Either pdf_file or file_url must be provided")
    assert answer.error_code == "FILE_REQUIRED"
    assert answer.body["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize("url_first", [True, False])
async def test_both_file_and_url_is_400_and_leaves_nothing(producer: Producer, url_first: bool) -> None:
    client = producer.new_key()
    fields = [
        ("file_url", "http://example.com/x.pdf", {}),
        ("pdf_file", PDF + b"x" * 500_000, {"filename": "x.pdf"}),
    ]
    answer = await client.post(fields=[("categories", CATEGORIES, {}), *(fields if url_first else fields[::-1])])
    assert (answer.status, answer.error_code) == (400, "FILE_AMBIGUOUS")
    assert client.has_left_nothing()


async def test_empty_fields_of_a_browser_form_count_as_absent(client: Client) -> None:
    usual = [("pdf_file", PDF, {"filename": "x.pdf"}), ("categories", CATEGORIES, {})]
    job_id_of(await client.post(fields=[("file_url", "", {}), *usual]))
    no_file = [("pdf_file", b"", {"filename": ""}), ("categories", CATEGORIES, {})]
    assert (await client.post(fields=no_file)).error_code == "FILE_REQUIRED"


@pytest.mark.parametrize(
    ("file", "status", "code"),
    [
        (b"", 400, "EMPTY_FILE"),
        (b"hello", 415, "UNSUPPORTED_FORMAT"),
        (b"x" * 500_000, 415, "UNSUPPORTED_FORMAT"),
        (PDF + b"x" * 3_000_000, 413, "FILE_TOO_LARGE"),
    ],
)
async def test_bad_file_is_refused_and_leaves_nothing(producer: Producer, file: bytes, status: int, code: str) -> None:
    client = producer.new_key()
    answer = await client.post(file=file, Idempotency_Key="k")
    assert (answer.status, answer.error_code) == (status, code)
    assert client.has_left_nothing()


@pytest.mark.parametrize("file", [PNG, b"II*\x00" + b"\x00" * 9, b"RIFF\x00\x00\x00\x00WEBPVP8 ", b"\n" * 900 + PDF])
async def test_format_is_known_by_content(client: Client, file: bytes) -> None:
    job_id_of(await client.post(file=file))


@pytest.mark.parametrize("categories", [None, "", "[]", "{}", '["a", "A"]', '["a", ""]', '[""]', '[{"title": "a"}]'])
async def test_bad_categories_are_400_and_leave_nothing(producer: Producer, categories: str | None) -> None:
    client = producer.new_key()
    answer = await client.post(categories=categories)
    assert (answer.status, answer.error_code) == (400, "INVALID_CATEGORIES")
    assert client.has_left_nothing()


async def test_repeated_field_is_400_and_leaves_nothing(producer: Producer) -> None:
    client = producer.new_key()
    file = ("pdf_file", PDF, {"filename": "x.pdf"})
    answer = await client.post(fields=[file, ("categories", CATEGORIES, {}), file])
    assert (answer.status, answer.error_code) == (400, "REPEATED_FIELD")
    assert client.has_left_nothing()


async def test_used_up_quota_is_402_with_its_numbers(producer: Producer) -> None:
    client = producer.new_key(quota=1)
    assert (await client.post()).body["quota_remaining"] == 0
    answer = await client.post()
    assert answer.status == 402
    assert answer.body["detail"] == {
        "message": "Insufficient quota",
        "status": "QUOTA_EXCEEDED",
        "quota_data": {"current": 1, "limit": 1, "remaining": 0},
    }
    assert len(client.jobs()) == 1


async def test_last_unit_of_quota_is_given_once(producer: Producer) -> None:
    client = producer.new_key(quota=3)
    answers = await asyncio.gather(*(client.post() for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [202] * 3 + [402] * 5
    assert (client.quota_used(), len(client.jobs())) == (3, 3)
    objects = {name.split("/")[1] for name in producer.object_names()}
    assert {str(job["job_id"]) for job in client.jobs()} <= objects
    refused_objects = objects - {str(row["job_id"]) for row in producer.rows("select job_id from jobs")}
    assert not refused_objects


async def test_requests_over_the_rate_are_429_with_the_time_to_wait(producer: Producer) -> None:
    client = producer.new_key(rate=2)
    answers = [await client.post() for _ in range(3)]
    assert [answer.status for answer in answers] == [202, 202, 429]
    assert answers[2].error_code == "RATE_LIMITED"
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 30


async def test_another_content_type_is_415(client: Client) -> None:
    answer = await client.send("POST", "/classify", data=json.dumps({"file_url": "x"}), Content_Type="application/json")
    assert (answer.status, answer.error_code) == (415, "UNSUPPORTED_CONTENT_TYPE")


async def test_encoded_bodies_and_parts_are_refused(client: Client) -> None:
    head = "--b\r\nContent-Disposition: form-data; name=pdf_file; filename=a\r\nContent-Transfer-Encoding: base64"
    form = f"{head}\r\n\r\nJVBERi0=\r\n--b--\r\n"
    answer = await client.send("POST", "/classify", data=form, Content_Type="multipart/form-data; boundary=b")
    assert (answer.status, answer.error_code) == (400, "INVALID_REQUEST")
    answer = await client.send(
        "POST", "/classify", data=b"x", Content_Type="multipart/form-data; boundary=b", Content_Encoding="zstd"
    )
    assert answer.status in (400, 415)


@pytest.mark.parametrize("charset", ["UTF-8", "", "x" * 100])
async def test_charset_field_that_comes_first_is_ignored_like_any_unknown_one(client: Client, charset: str) -> None:
    boundary = "----WebKitFormBoundary7MA4YWxkTrZu0gW0"  # as long as browsers' are
    fields = [('"_charset_"', charset.encode()), ('"pdf_file"; filename="a.pdf"', PDF), ('"categories"', b'["a", "b"]')]
    parts = [f"--{boundary}\r\nContent-Disposition: form-data; name={n}\r\n\r\n".encode() + v for n, v in fields]
    answer = await _post_raw(client, b"\r\n".join(parts) + f"\r\n--{boundary}--\r\n".encode(), boundary)
    assert client.producer.object_bytes(job_id_of(answer)) == PDF


@pytest.mark.parametrize(
    ("rest", "status", "code"),
    [
        (b"\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERi0=", 400, "INVALID_REQUEST"),
        (b"\r\n\r\n" + b"x" * (17 * 1024 * 1024), 413, "FILE_TOO_LARGE"),
    ],
    ids=["encoded", "too long"],
)
async def test_refusal_that_repeats_a_name_of_odd_bytes_is_json(
    client: Client, rest: bytes, status: int, code: str
) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="na\xffme"' + rest + b"\r\n--b--\r\n"
    answer = await _post_raw(client, body, "b")
    assert (answer.status, answer.error_code) == (status, code)
    assert "na?me" in answer.body["detail"]
    assert answer.body["request_id"] == answer.headers["X-Request-Id"]


async def _post_raw(client: Client, body: bytes, boundary: str) -> Answer:
    return await client.send(
        "POST", "/classify", data=io.BytesIO(body), Content_Type=f"multipart/form-data; boundary={boundary}"
    )


@pytest.mark.parametrize(
    "body",
    ["", "no boundary", "--b\r\nContent-Disposition: form-data; name=pdf_file; filename=a\r\n\r\n%PDF-1.4 cut off"],
)
async def test_malformed_multipart_is_400_and_leaves_nothing(producer: Producer, body: str) -> None:
    client = producer.new_key()
    answer = await client.send("POST", "/classify", data=body, Content_Type="multipart/form-data; boundary=b")
    assert (answer.status, answer.error_code) == (400, "INVALID_REQUEST")
    assert client.has_left_nothing()


async def test_unknown_paths_and_methods_answer_json(client: Client) -> None:
    answer = await client.send("GET", "/classify")
    assert (answer.status, answer.error_code, answer.headers["Allow"]) == (405, "METHOD_NOT_ALLOWED", "POST")
    answer = await client.send("POST", "/nothing")
    assert (answer.status, answer.error_code) == (404, "NOT_FOUND")


async def test_client_that_goes_away_half_way_leaves_nothing(producer: Producer) -> None:
    client = producer.new_key()
    await _send_half(client, seconds_to_stay=0)
    await eventually(client.has_left_nothing)
    assert producer.process.poll() is None


async def test_stalled_upload_is_408_and_leaves_nothing(producer: Producer) -> None:
    client = producer.new_key()
    head = await _send_half(client, seconds_to_stay=10)
    assert head.startswith(b"HTTP/1.1 408"), head
    await eventually(client.has_left_nothing)


async def _send_half(client: Client, *, seconds_to_stay: float) -> bytes:
    """Send half of a large upload; return the answer that comes within the time, b"" when it is hung up before."""
    address = urlsplit(client.producer.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    part = b"--b\r\nContent-Disposition: form-data; name=pdf_file; filename=a\r\n\r\n" + PDF + b"x" * 1_500_000
    head = (
        f"POST /classify HTTP/1.1\r\nHost: x\r\napi-key: {client.key}\r\nIdempotency-Key: k\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {2 * len(part)}\r\n\r\n"
    )
    writer.write(head.encode() + part)
    await writer.drain()
    answer = b""
    if seconds_to_stay:
        answer = await asyncio.wait_for(reader.read(200), seconds_to_stay)
    else:
        await eventually(client.idempotency_rows)
    writer.close()
    return answer


async def test_urlencoded_form_with_file_url_is_accepted(client: Client) -> None:
    body = urlencode({"file_url": "http://example.invalid/x.pdf", "categories": CATEGORIES})
    answer = await client.send("POST", "/classify", data=body, Content_Type="application/x-www-form-urlencoded")
    assert client.producer.job(job_id_of(answer))["file_url"] == "http://example.invalid/x.pdf"


async def test_contract_is_served(client: Client) -> None:
    answer = await client.send("GET", "/openapi.json")
    assert answer.body["openapi"].startswith("3.1")
    page = await client.send("GET", "/docs")
    assert "POST /classify" in page.text
    assert not re.search(r"(src|href)=.?https?:", page.text)
