"""`docfleet dlq` on a real broker and a real table of jobs. Other tests leave dead letters in the same topic."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition

from docfleet import cli
from docfleet.kafka import Publisher
from docfleet.settings import KafkaSettings
from docfleet.stack.ports import free_port
from docfleet.stopping import Deadline
from schemas import codec, events, topics
from tests import foreign_client
from tests.events import EPOCH, requested
from tests.waiting import eventually_sync

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def publisher(kafka: str, topics: None) -> Iterator[Publisher]:
    publisher = Publisher(KafkaSettings(kafka_bootstrap_servers=kafka), source="classifier_worker")
    yield publisher
    publisher.close(Deadline(5))


@pytest.fixture(autouse=True)
def servers_of_the_environment(kafka: str, postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka)
    monkeypatch.setenv("DATABASE_URL", postgres)


def bury(
    publisher: Publisher, value: bytes | None, job_id: uuid.UUID, *, error_code: str = "ATTEMPTS_EXHAUSTED"
) -> str:
    """Put a message into the dead letter topic as a worker does, and return its address."""
    told = {
        topics.DLQ_ERROR_CODE_HEADER: error_code,
        topics.DLQ_ERROR_HEADER: "The store did not answer.",
        topics.DLQ_TOPIC_HEADER: topics.JOBS.name,
        topics.DLQ_PARTITION_HEADER: "3",
        topics.DLQ_OFFSET_HEADER: "120",
        "traceparent": TRACEPARENT,
    }
    headers = [(name, text.encode()) for name, text in told.items()]
    delivered = publisher.forward(topics.DLQ, str(job_id).encode(), value, headers).result(20)
    return f"{delivered.partition}:{delivered.offset}"


def row_of(dsn: str, job_id: uuid.UUID, status: str, *, attempt: int) -> None:
    ended = {"failed": ("now()", "'X'"), "queued": ("null", "null"), "processing": ("null", "null")}[status]
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "insert into jobs (job_id, tenant_id, status, progress, attempt, created_at, last_seen_at, finished_at,"
            f" error_code, error) values (%s, 'acme', %s, 'x', %s, now(), now(), {ended[0]}, {ended[1]}, {ended[1]})",
            (job_id, status, attempt),
        )


def everything_is_projected(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "insert into consumer_offsets (consumer_group, topic, partition, next_offset)"
            " select %s, %s, number, 1000000 from generate_series(0, %s) as number",
            (topics.STATUS_GROUP, topics.EVENTS.name, topics.EVENTS.partitions - 1),
        )


def listed(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, dict[str, Any]]:
    assert cli.main(["dlq", "list", "--json", *options]) == 0
    return {line["message"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}


def published(kafka: str, *job_ids: uuid.UUID) -> list[Any]:
    """Return the messages of these jobs in docfleet.jobs, all that are there now."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "tests", "enable.auto.commit": False})
    found: list[Any] = []
    ends = {}
    for number in range(topics.JOBS.partitions):
        ends[number] = consumer.get_watermark_offsets(TopicPartition(topics.JOBS.name, number), timeout=10)[1]
    consumer.assign([TopicPartition(topics.JOBS.name, number, 0) for number, end in ends.items() if end])

    def is_read() -> bool:
        for message in consumer.consume(500, timeout=0.2):
            if message.key() in {str(job_id).encode() for job_id in job_ids}:
                found.append(message)
        places = consumer.position(consumer.assignment())
        return all(place.offset >= ends[place.partition] for place in places)

    eventually_sync(is_read)
    consumer.close()
    return found


def test_list_says_whose_message_it_is_and_why_it_is_there(publisher: Publisher, capsys: pytest.CaptureFixture[str]):
    job, stranger = requested(attempt=5), uuid.uuid4()
    known = bury(publisher, codec.encode(job), job.job_id)
    odd = bury(publisher, b"{not avro}", stranger, error_code="INVALID_REQUEST")
    lines = listed(capsys)
    assert lines[known] | {"since": ""} == {
        "message": known,
        "partition": int(known.split(":")[0]),
        "offset": int(known.split(":")[1]),
        "since": "",
        "job_id": str(job.job_id),
        "tenant_id": "acme",
        "attempt": 5,
        "error_code": "ATTEMPTS_EXHAUSTED",
        "error": "The store did not answer.",
        "is_dropped": False,
    }
    assert (lines[odd]["job_id"], lines[odd]["tenant_id"]) == (str(stranger), None)  # its key is all that is known
    assert cli.main(["dlq", "list"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["MESSAGE", "SINCE", "ERROR"]
    (row,) = [row.split() for row in rows if row.split()[0] == known]
    assert row[3:] == ["ATTEMPTS_EXHAUSTED", "5", "acme", str(job.job_id)]


def test_message_with_a_header_whose_name_is_no_text_is_listed(kafka: str, capsys: pytest.CaptureFixture[str]):
    foreign_client.produce(kafka, topics.DLQ.name, b"odd header", b"\xff\xfe")
    assert None in [line["job_id"] for line in listed(capsys).values()]


def test_show_tells_all_of_a_message(publisher: Publisher, capsys: pytest.CaptureFixture[str]):
    job = requested(categories=("Rechnung\x1b[2J", "письмо"), none_of_these=0.7)
    assert cli.main(["dlq", "show", bury(publisher, codec.encode(job), job.job_id)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["headers"][topics.DLQ_TOPIC_HEADER] == topics.JOBS.name
    assert shown["headers"]["traceparent"] == TRACEPARENT
    assert shown["event_type"] == "docfleet.v1.ClassificationRequested"
    assert shown["event"]["categories"] == list(job.categories)
    assert (shown["event"]["none_of_these"], shown["event"]["accepted_at"]) == (0.7, codec.utc(EPOCH))
    assert cli.main(["dlq", "show", bury(publisher, b"\x00\x01", job.job_id)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["event"], shown["value_hex"]) == (None, "0001")
    assert "SCHEMA_REGISTRY_URL" in shown["fault"]


def test_replay_publishes_one_more_attempt_of_a_job_that_has_not_ended(
    publisher: Publisher, kafka: str, postgres: str, capsys: pytest.CaptureFixture[str]
):
    everything_is_projected(postgres)
    job = requested(attempt=1, reader_deaths=1)
    row_of(postgres, job.job_id, "queued", attempt=3)
    assert cli.main(["dlq", "replay", bury(publisher, codec.encode(job), job.job_id)]) == 0
    assert "published again as attempt 4" in capsys.readouterr().out
    (message,) = published(kafka, job.job_id)
    event = codec.decode(message.value())
    assert isinstance(event, events.ClassificationRequested)
    assert (event.attempt, event.reader_deaths, event.object_name) == (4, 1, job.object_name)
    assert event.accepted_at == job.accepted_at
    assert codec.header(message.headers(), "traceparent") == TRACEPARENT
    assert codec.header(message.headers(), "ce_id") == str(events.event_id(event))


def test_replay_never_touches_a_job_that_has_ended_or_that_nobody_knows(
    publisher: Publisher, kafka: str, postgres: str, capsys: pytest.CaptureFixture[str]
):
    everything_is_projected(postgres)
    ended, unknown, odd = requested(), requested(), uuid.uuid4()
    row_of(postgres, ended.job_id, "failed", attempt=5)
    row_of(postgres, odd, "queued", attempt=1)
    addresses = [
        bury(publisher, codec.encode(ended), ended.job_id),
        bury(publisher, codec.encode(unknown), unknown.job_id),
        bury(publisher, b"{not avro}", odd),
    ]
    for address, why in zip(addresses, ("ended as failed", "no such job", "no event"), strict=True):
        assert cli.main(["dlq", "replay", address]) == 1
        assert why in capsys.readouterr().out
    assert published(kafka, ended.job_id, unknown.job_id, odd) == []


def test_replay_waits_for_nobodys_guess_while_the_projector_is_behind(
    publisher: Publisher, kafka: str, postgres: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """The job's end may be among the events that the table of jobs has not heard of."""
    from docfleet.commands import dlq

    monkeypatch.setattr(dlq, "_CATCH_UP_SECONDS", 0.5)
    job = requested()
    row_of(postgres, job.job_id, "queued", attempt=1)
    publisher.publish(topics.EVENTS, events.ClassificationStarted(**_said_of(job))).result(20)
    assert cli.main(["dlq", "replay", bury(publisher, codec.encode(job), job.job_id)]) == 1
    assert "status_service is behind" in capsys.readouterr().err
    assert published(kafka, job.job_id) == []


def _said_of(job: events.Event) -> dict[str, Any]:
    return {name: getattr(job, name) for name in events.Event.__dataclass_fields__}


def test_replay_of_all_leaves_the_ended_ones_alone_and_that_is_no_failure(
    publisher: Publisher, kafka: str, postgres: str, capsys: pytest.CaptureFixture[str]
):
    everything_is_projected(postgres)
    assert cli.main(["dlq", "drop", "--all", "--yes"]) == 0  # what other tests have left
    ended, waiting = requested(), requested()
    row_of(postgres, ended.job_id, "failed", attempt=5)
    row_of(postgres, waiting.job_id, "processing", attempt=1)
    for job in (ended, waiting):
        bury(publisher, codec.encode(job), job.job_id)
    capsys.readouterr()
    assert cli.main(["dlq", "replay", "--all"]) == 0
    assert "1 published again, 1 left alone" in capsys.readouterr().out
    (message,) = published(kafka, ended.job_id, waiting.job_id)
    assert message.key() == str(waiting.job_id).encode()


def test_dropped_messages_leave_the_list_and_stay_in_the_topic(
    publisher: Publisher, capsys: pytest.CaptureFixture[str]
):
    job = requested()
    first, second, third = (bury(publisher, codec.encode(job), job.job_id) for _ in range(3))
    assert cli.main(["dlq", "drop", second, "--yes"]) == 0
    assert f"up to and with {second}" in capsys.readouterr().out
    lines = listed(capsys)
    assert (first in lines, second in lines, third in lines) == (False, False, True)
    everything = listed(capsys, "--all")
    assert [everything[address]["is_dropped"] for address in (first, second, third)] == [True, True, False]
    assert cli.main(["dlq", "show", first]) == 0
    assert cli.main(["dlq", "drop", first, "--yes"]) == 0  # it never comes back onto the list, and no other leaves it
    assert "nothing to drop" in capsys.readouterr().err
    assert third in listed(capsys)


def test_nothing_is_dropped_unless_somebody_says_yes(publisher: Publisher, capsys: pytest.CaptureFixture[str]):
    job = requested()
    address = bury(publisher, codec.encode(job), job.job_id)
    assert cli.main(["dlq", "drop", address]) == 2  # pytest's stdin is nobody
    assert "--yes" in capsys.readouterr().err
    assert address in listed(capsys)


@pytest.mark.parametrize("command", ["show", "replay", "drop"])
def test_message_that_is_not_there_is_told(publisher: Publisher, capsys: pytest.CaptureFixture[str], command: str):
    for address in ("0:99999999", "99:0"):
        assert cli.main(["dlq", command, address]) == 1
        assert f"has no message {address}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [("show", "17"), ("show",), ("replay",), ("drop",), ("drop", "--all", "1:2"), ("replay", "a:b")]
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]):
    with pytest.raises(SystemExit) as end:
        cli.main(["dlq", *arguments])
    assert end.value.code == 2


def test_without_a_broker_named_or_there_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
):
    monkeypatch.setattr("docfleet.dead_letters.ANSWER_SECONDS", 1.0)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    assert cli.main(["dlq", "list"]) == 1
    assert "Kafka does not answer" in capsys.readouterr().err
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["dlq", "list"]) == 2
    assert "KAFKA_BOOTSTRAP_SERVERS" in capsys.readouterr().err


def test_replay_without_a_table_of_jobs_is_refused(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    job = requested()
    address = bury(publisher, codec.encode(job), job.job_id)
    monkeypatch.delenv("DATABASE_URL")
    assert cli.main(["dlq", "replay", address]) == 2
    assert "DATABASE_URL" in capsys.readouterr().err
