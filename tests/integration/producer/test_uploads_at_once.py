"""Only so many documents are streamed at a time, so that uploads that stall do not fill the memory."""

import asyncio
import re
from contextlib import suppress
from urllib.parse import urlsplit

from tests.integration.producer.conftest import Start
from tests.integration.producer.service import CATEGORIES, PDF, Client, job_id_of
from tests.waiting import eventually

LARGE = PDF + b"x" * 2_000_000
SETTINGS = {"uploads_max": 1, "upload_memory_bytes": 100_000, "upload_max_bytes": 5_000_000}


async def test_one_upload_too_many_is_503_before_anything_is_stored_and_small_ones_go_on(start: Start) -> None:
    with start(**SETTINGS, upload_idle_seconds=600) as producer:
        client = producer.new_key()
        held = await _begin(client)
        answer = await client.post(file=LARGE, Idempotency_Key="k")
        assert (answer.status, answer.error_code) == (503, "SERVICE_UNAVAILABLE")
        assert "large documents" in answer.body["detail"]
        assert int(answer.headers["Retry-After"]) >= 1
        assert client.has_left_nothing()
        assert await _metric(client, 'jobs_refused_total{error_code="SERVICE_UNAVAILABLE"}') == 1
        job_id_of(await client.post())

        await _hang_up(held)

        async def accepted() -> bool:
            return (await client.post(file=LARGE, Idempotency_Key="k")).status == 202

        await eventually(accepted)


async def test_every_end_of_an_upload_makes_room_for_the_next(start: Start) -> None:
    with start(**SETTINGS, upload_idle_seconds=1) as producer:
        client = producer.new_key()
        for file, categories, status in [
            (LARGE, CATEGORIES, 202),
            (LARGE, CATEGORIES, 202),  # the first answer again
            (LARGE + b"!", CATEGORIES, 422),
            (LARGE, "[]", 400),
            (LARGE * 3, CATEGORIES, 413),
            (b"x" * 500_000, CATEGORIES, 415),
        ]:
            answer = await client.post(file=file, categories=categories, Idempotency_Key="k")
            assert answer.status == status, answer.text
        held = await _begin(client)  # and stall
        job_id = await eventually(lambda: _accepted(client))
        await _hang_up(held)
        assert producer.object_bytes(job_id) == LARGE


async def _accepted(client: Client) -> str | None:
    answer = await client.post(file=LARGE)
    return job_id_of(answer) if answer.status != 503 else None


async def _begin(client: Client) -> asyncio.StreamWriter:
    """Send half of a large document, and return when the service has it."""
    before = await _metric(client, "upload_bytes_total")
    address = urlsplit(client.producer.url)
    _reader, writer = await asyncio.open_connection(address.hostname, address.port)
    half = LARGE[: len(LARGE) // 2]
    head = (
        f"POST /classify HTTP/1.1\r\nHost: x\r\napi-key: {client.key}\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(LARGE)}\r\n\r\n"
        "--b\r\nContent-Disposition: form-data; name=pdf_file; filename=a\r\n\r\n"
    )
    writer.write(head.encode() + half)
    await writer.drain()

    async def is_streamed() -> bool:
        return await _metric(client, "upload_bytes_total") - before > SETTINGS["upload_memory_bytes"]

    await eventually(is_streamed)
    return writer


async def _hang_up(held: asyncio.StreamWriter) -> None:
    held.close()
    with suppress(ConnectionError):
        await held.wait_closed()


async def _metric(client: Client, name: str) -> float:
    text = (await client.send("GET", "/metrics")).text
    found = re.search(rf"^docfleet_{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, name
    return float(found[1])
