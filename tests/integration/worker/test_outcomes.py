"""Jobs through one real worker process: what comes out for what goes in."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer
from PIL import Image

from schemas import codec, events, topics
from schemas.errors import ErrorCode
from tests import documents, foreign_client
from tests.integration.worker import running
from tests.servers import Gcs
from tests.waiting import eventually_sync


@pytest.fixture(scope="module")
def bench(kafka: str, topics: None, gcs_endpoint: str) -> Iterator[running.Bench]:
    from docfleet.stack import gcs_server

    gcs_server.create_bucket(gcs_endpoint, "outcomes", within_seconds=10)
    with running.bench(kafka, Gcs(gcs_endpoint, "outcomes")) as opened:
        yield opened


@pytest.fixture(scope="module")
def worker(bench: running.Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[running.WorkerProcess]:
    log_path = tmp_path_factory.mktemp("worker") / "worker.log"
    quick = {"max_attempts": "2", "retry_base_seconds": "0.2", "reader_memory_bytes": str(700 << 20)}
    with running.worker(bench, log_path, **quick) as process:
        yield process


def completed(bench: running.Bench, document: bytes, **changes: object) -> dict[str, Any]:
    job = bench.post(document, **changes)
    return json.loads(bench.log.until(job.job_id, events.ClassificationCompleted).result)  # type: ignore[no-any-return]


def test_pdf_becomes_a_result_of_the_contracts_shape(bench: running.Bench, worker: running.WorkerProcess) -> None:
    result = completed(bench, documents.pdf(pages=6))
    assert list(result) == [
        *("success", "classification", "confidence", "total_pages", "processed_pages"),
        *("page_results", "scores", "model"),
    ]
    assert result["success"] is True
    assert (result["total_pages"], result["processed_pages"]) == (6, 4)
    assert result["model"] == "default@2"
    scores = result["scores"]
    assert sum(scores.values()) == pytest.approx(1, abs=1e-4)
    assert list(scores) == sorted(scores, key=lambda name: (-scores[name], name))
    assert result["classification"] == next(iter(scores)) == "invoice"
    assert result["confidence"] == scores["invoice"]
    pages = result["page_results"]
    assert [page["page"] for page in pages] == [1, 2, 3, 4]
    assert list(pages[0]) == ["page", "success", "classification", "raw_result", "confidence", "scores"]


def test_picture_has_raw_result_and_no_page_results(bench: running.Bench, worker: running.WorkerProcess) -> None:
    picture = documents.encoded(Image.new("RGB", (300, 400), "white"), "PNG")
    result = completed(bench, picture, media_type="image/png")
    assert "page_results" not in result
    assert result["raw_result"] == result["classification"]
    assert (result["total_pages"], result["processed_pages"]) == (1, 1)


def test_none_of_these_and_evidence_are_told_where_they_were_asked_for(
    bench: running.Bench, worker: running.WorkerProcess
) -> None:
    result = completed(bench, documents.pdf(pages=2), none_of_these=1.0, evidence=True)
    pages = result["page_results"]
    for told in (result, *pages):
        assert set(told["scores"]) == {*running.CATEGORIES, "none_of_these"}
        assert sum(told["scores"].values()) == pytest.approx(1, abs=1e-4)
        assert isinstance(told["review"], bool)
        assert told["classification"] == "invoice"  # none of these is never quite certain
        assert told["confidence"] == told["scores"]["invoice"]
    assert "evidence" not in result
    for page in pages:
        assert set(page["evidence"]) == {"channels", "phrases"}
    from_0_on = completed(bench, documents.pdf(pages=1), none_of_these=0.0)
    assert from_0_on["classification"] == "none_of_these"
    assert from_0_on["page_results"][0]["raw_result"] == "invoice"
    assert "evidence" not in from_0_on["page_results"][0]


def test_picture_has_its_evidence_at_the_top(bench: running.Bench, worker: running.WorkerProcess) -> None:
    picture = documents.encoded(Image.new("RGB", (300, 400), "white"), "PNG")
    result = completed(bench, picture, media_type="image/png", evidence=True)
    assert set(result["evidence"]) == {"channels", "phrases"}
    assert "review" not in result


def test_single_name_is_not_certain_by_construction(bench: running.Bench, worker: running.WorkerProcess) -> None:
    result = completed(bench, documents.pdf(pages=1), categories=("invoice",))
    assert set(result["scores"]) == {"invoice", "none_of_these"}
    assert result["classification"] == "invoice"
    assert result["confidence"] == result["scores"]["invoice"]


def test_started_and_progress_come_before_the_end_under_one_trace(
    bench: running.Bench, worker: running.WorkerProcess
) -> None:
    job = bench.post(documents.pdf(pages=2))
    bench.log.until(job.job_id, events.ClassificationCompleted)
    wanted = ["Processing page 1 of 2", "Processing page 2 of 2"]

    def told() -> list[str]:
        return [e.progress for e in bench.log.of(job.job_id) if isinstance(e, events.ClassificationProgressed)]

    eventually_sync(lambda: told() == wanted)
    said = [m for m in bench.log.messages if m.key() == str(job.job_id).encode() and m.topic() == topics.EVENTS.name]
    assert [codec.header(m.headers(), "ce_type") for m in said] == [
        "docfleet.v1.ClassificationStarted",
        "docfleet.v1.ClassificationCompleted",
    ]
    assert {codec.header(m.headers(), "traceparent") for m in said} == {running.TRACEPARENT}
    assert {codec.header(m.headers(), "ce_source") for m in said} == {"/docfleet/classifier_worker"}


def test_five_hundred_long_names_fit_into_the_events(bench: running.Bench, worker: running.WorkerProcess) -> None:
    names = tuple(f"{number:04d}" + "ა" * 196 for number in range(500))  # three bytes each, and few tokens
    result = completed(bench, documents.pdf(pages=4), categories=names)
    assert len(result["scores"]) == 500


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"%PDF-1.7\nnothing more", ErrorCode.UNREADABLE_DOCUMENT),
        (documents.encrypted_pdf(), ErrorCode.PASSWORD_REQUIRED),
        (documents.pdf(pages=0), ErrorCode.NO_PAGES),
    ],
)
def test_permanent_failure_ends_the_job_at_its_first_attempt(
    bench: running.Bench, worker: running.WorkerProcess, document: bytes, code: ErrorCode
) -> None:
    job = bench.post(document)
    failed = bench.log.until(job.job_id, events.ClassificationFailed)
    assert (failed.error_code, failed.attempt) == (code, 1)
    assert failed.error


def test_missing_object_fails_at_once(bench: running.Bench, worker: running.WorkerProcess) -> None:
    job = running.request(size_bytes=100)
    bench.publish(job)
    assert bench.log.until(job.job_id, events.ClassificationFailed).error_code == ErrorCode.OBJECT_MISSING


def test_message_that_is_no_job_goes_to_the_dead_letters_as_it_is(
    bench: running.Bench, worker: running.WorkerProcess
) -> None:
    bench.publisher.forward(topics.JOBS, b"odd", b"{not avro}", [("mine", b"kept")]).result(10)
    job = bench.post(documents.pdf(pages=1))  # the next job runs as if nothing had happened
    bench.log.until(job.job_id, events.ClassificationCompleted)

    letter = bench.log.dead_letter(lambda message: message.key() == b"odd")
    assert letter.value() == b"{not avro}"
    headers = dict(letter.headers())
    assert headers["mine"] == b"kept"
    assert headers[topics.DLQ_TOPIC_HEADER] == topics.JOBS.name.encode()
    assert b"unknown framing" in headers[topics.DLQ_ERROR_HEADER]


def test_header_whose_name_is_no_text_stops_nobody(bench: running.Bench, worker: running.WorkerProcess) -> None:
    foreign_client.produce(bench.kafka, topics.JOBS.name, b"odd header", b"\xff\xfe")
    letter = bench.log.dead_letter(lambda message: message.value() == b"odd header")
    assert dict(letter.headers())[topics.DLQ_TOPIC_HEADER] == topics.JOBS.name.encode()


def test_message_too_large_to_be_sent_on_is_told_among_the_dead_letters_and_holds_nothing_back(
    bench: running.Bench, worker: running.WorkerProcess
) -> None:
    """A broker measures what is compressed, so another client can write what our producer refuses."""
    other_limits = {"message.max.bytes": 2 * topics.MESSAGE_BYTES_MAX, "compression.type": "gzip"}
    client = Producer({"bootstrap.servers": bench.kafka} | other_limits)
    written: list[Any] = []
    value = bytes(topics.MESSAGE_BYTES_MAX + 1)
    client.produce(topics.JOBS.name, key=b"large", value=value, on_delivery=lambda *report: written.append(report))
    assert client.flush(20) == 0
    [(error, message)] = written
    assert error is None
    place = (topics.JOBS.name.encode(), str(message.partition()).encode(), str(message.offset()).encode())

    def place_of(letter: Any) -> tuple[bytes | None, ...]:
        told = dict(letter.headers())
        named = (topics.DLQ_TOPIC_HEADER, topics.DLQ_PARTITION_HEADER, topics.DLQ_OFFSET_HEADER)
        return tuple(told.get(name) for name in named)

    letter = bench.log.dead_letter(lambda message: place_of(message) == place)
    assert letter.value() is None
    assert b"too large to be kept" in dict(letter.headers())[topics.DLQ_ERROR_HEADER]
    eventually_sync(lambda: running.committed(bench.kafka, message.partition()) > message.offset())


def test_document_that_kills_its_reader_twice_fails(bench: running.Bench, worker: running.WorkerProcess) -> None:
    job = bench.post(documents.pdf(pages=1), reader_deaths=1)
    bench.log.until(job.job_id, events.ClassificationCompleted)  # one earlier death does not fail a good document
