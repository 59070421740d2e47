"""Idempotency-Key: one job for one key and body, whatever happens to the requests."""

import asyncio
from urllib.parse import urlsplit

from tests.integration.producer.conftest import Start
from tests.integration.producer.service import PDF, Client, Producer, job_id_of
from tests.waiting import eventually


async def test_same_key_and_body_is_the_same_job_once_paid(producer: Producer) -> None:
    client = producer.new_key(quota=1)
    first = await client.post(Idempotency_Key='"a-key"')
    again = await client.post(Idempotency_Key="a-key")
    assert (first.status, again.status) == (202, 202)
    assert again.text == first.text  # also now that the quota is used up
    assert again.headers["Location"] == first.headers["Location"]
    assert (client.quota_used(), len(client.jobs())) == (1, 1)


async def test_another_body_or_category_is_422(client: Client) -> None:
    job_id_of(await client.post(Idempotency_Key="k"))
    other_file = await client.post(file=PDF + b"!", Idempotency_Key="k")
    other_categories = await client.post(categories='["Invoice"]', Idempotency_Key="k")
    for answer in (other_file, other_categories):
        assert (answer.status, answer.error_code) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert len(client.jobs()) == 1


async def test_order_of_fields_and_descriptions_make_no_other_body(client: Client) -> None:
    first = await client.post(Idempotency_Key="k")
    fields = [
        ("categories", '[" Invoice ", {"name": "Letter", "description": "a letter"}]', {}),
        ("pdf_file", PDF, {"filename": "other.pdf"}),
    ]
    assert (await client.post(fields=fields, Idempotency_Key="k")).text == first.text


async def test_keys_of_two_tenants_are_two_keys(producer: Producer) -> None:
    one, other = producer.new_key(), producer.new_key()
    assert job_id_of(await one.post(Idempotency_Key="k")) != job_id_of(await other.post(Idempotency_Key="k"))


async def test_refused_post_burns_no_key(client: Client) -> None:
    assert (await client.post(file=b"hello", Idempotency_Key="k")).status == 415
    job_id_of(await client.post(Idempotency_Key="k"))


async def test_second_request_while_the_first_runs_is_409_at_once(client: Client) -> None:
    writer = await begin_upload(client, idempotency_key="k")
    try:
        answer = await client.post(Idempotency_Key="k")
        assert (answer.status, answer.error_code) == (409, "IDEMPOTENCY_IN_PROGRESS")
        assert int(answer.headers["Retry-After"]) >= 1
    finally:
        writer.close()
    await eventually(lambda: not client.idempotency_rows())
    job_id_of(await client.post(Idempotency_Key="k"))


async def test_many_at_once_make_one_job(client: Client) -> None:
    answers = await asyncio.gather(*(client.post(Idempotency_Key="k") for _ in range(10)))
    assert {answer.status for answer in answers} <= {202, 409}
    assert len({job_id_of(answer) for answer in answers if answer.status == 202}) == 1
    assert len(client.jobs()) == client.quota_used() == 1


async def test_request_that_died_with_its_process_frees_the_key_after_its_lease(start: Start) -> None:
    with start(idempotency_lease_seconds=1.0, upload_idle_seconds=60) as doomed:
        client = doomed.new_key()
        writer = await begin_upload(client, idempotency_key="k")
        doomed.process.kill()
        doomed.process.wait()
        writer.close()
    with start(idempotency_lease_seconds=1.0) as heir:
        survivor = Client(heir, client.key, client.tenant)

        async def accepted() -> bool:
            return (await survivor.post(Idempotency_Key="k")).status == 202

        await eventually(accepted)


async def test_lock_of_a_long_upload_is_renewed(start: Start) -> None:
    with start(idempotency_lease_seconds=0.3, upload_idle_seconds=60) as producer:
        client = producer.new_key()
        writer = await begin_upload(client, idempotency_key="k")
        (before,) = client.idempotency_rows()
        await eventually(lambda: client.idempotency_rows()[0]["locked_until"] > before["locked_until"])
        assert (await client.post(Idempotency_Key="k")).status == 409
        writer.close()


async def test_bad_idempotency_key_is_400(client: Client) -> None:
    for key in ("x" * 256, '"unfinished', '""', "ümlaut"):
        answer = await client.post(Idempotency_Key=key)
        assert (answer.status, answer.error_code) == (400, "INVALID_IDEMPOTENCY_KEY"), key


async def begin_upload(client: Client, *, idempotency_key: str) -> asyncio.StreamWriter:
    """Send the beginning of a POST and return when the service holds its key."""
    address = urlsplit(client.producer.url)
    _reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(
        f"POST /classify HTTP/1.1\r\nHost: x\r\napi-key: {client.key}\r\nIdempotency-Key: {idempotency_key}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n--b\r\n".encode()
    )
    await writer.drain()
    await eventually(client.idempotency_rows)
    return writer
