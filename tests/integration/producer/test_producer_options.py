"""none_of_these and evidence: from the form to the row and the event, and each refusal."""

from urllib.parse import urlencode

import pytest

from schemas.topics import JOBS
from tests.integration.producer import file_server
from tests.integration.producer.service import CATEGORIES, PDF, Client, Producer, events_of, job_id_of


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, (None, False)),
        ({"none_of_these": "true", "evidence": "true"}, (0.5, True)),
        ({"none_of_these": "0.8"}, (0.8, False)),
        ({"none_of_these": "0"}, (0.0, False)),
        ({"none_of_these": "false", "evidence": "false"}, (None, False)),
    ],
)
async def test_options_are_in_the_row_and_in_the_event(
    client: Client, options: dict[str, str], asked: tuple[float | None, bool]
) -> None:
    job_id = job_id_of(await client.post(options=options))
    job = client.producer.job(job_id)
    assert (job["none_of_these"], job["evidence"]) == asked
    [(event, _headers, _message)] = await events_of(client.producer.kafka, JOBS, job_id)
    assert (event.none_of_these, event.evidence) == asked


async def test_options_of_an_urlencoded_form_outlive_the_fetch(client: Client) -> None:
    async with file_server.running() as files:
        asked = {"none_of_these": "0.25", "evidence": "true"}
        body = urlencode({"file_url": f"{files.url}/ok.pdf", "categories": CATEGORIES} | asked)
        answer = await client.send("POST", "/classify", data=body, Content_Type="application/x-www-form-urlencoded")
        [(event, _headers, _message)] = await events_of(client.producer.kafka, JOBS, job_id_of(answer))
    assert (event.none_of_these, event.evidence) == (0.25, True)


@pytest.mark.parametrize("name", ["none_of_these", "evidence"])
async def test_wrong_option_is_400_says_what_is_allowed_and_leaves_nothing(producer: Producer, name: str) -> None:
    client = producer.new_key()
    answer = await client.post(options={name: "perhaps"}, Idempotency_Key="k")
    assert (answer.status, answer.error_code) == (400, "INVALID_OPTION")
    assert answer.body["detail"].startswith(f"{name} must be true")
    assert "false" in answer.body["detail"]
    assert client.has_left_nothing()


async def test_repeated_option_is_400(client: Client) -> None:
    usual = [("pdf_file", PDF, {"filename": "x.pdf"}), ("categories", CATEGORIES, {})]
    answer = await client.post(fields=[("evidence", "true", {}), *usual, ("evidence", "true", {})])
    assert (answer.status, answer.error_code) == (400, "REPEATED_FIELD")


async def test_category_named_like_the_option_is_400_only_together_with_it(producer: Producer) -> None:
    client = producer.new_key()
    categories = '["Invoice", "None of these"]'
    for options in ({"none_of_these": "true"}, {"none_of_these": "0"}):
        answer = await client.post(categories=categories, options=options)
        assert (answer.status, answer.error_code) == (400, "INVALID_CATEGORIES")
    assert client.has_left_nothing()
    job_id_of(await client.post(categories=categories, options={"none_of_these": "false"}))


async def test_other_options_are_another_body_for_the_idempotency_key(client: Client) -> None:
    first = await client.post(options={"none_of_these": "true"}, Idempotency_Key="k")
    same = await client.post(options={"none_of_these": "0.5", "evidence": "false"}, Idempotency_Key="k")
    assert same.text == first.text
    for options in ({}, {"none_of_these": "0.6"}, {"none_of_these": "true", "evidence": "true"}):
        answer = await client.post(options=options, Idempotency_Key="k")
        assert (answer.status, answer.error_code) == (422, "IDEMPOTENCY_KEY_REUSED"), options
