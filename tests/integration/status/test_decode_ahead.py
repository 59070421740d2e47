"""Behind, the next batch is decoded while Postgres writes the one before: what becomes of it when that goes wrong.

A row that is locked holds the first write up; batches are of one message, so that the next is there at once.
"""

import signal
import threading
import uuid
from collections.abc import Collection, Iterator

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from docfleet.kafka import Publisher
from docfleet.settings import KafkaSettings
from docfleet.stopping import Deadline
from schemas.topics import EVENTS, STATUS_GROUP
from status_service import projector
from tests import servers
from tests.events import completed, failed, life, started
from tests.integration.status.place import Place, is_projector_waiting, row_held
from tests.integration.status.test_process import process
from tests.waiting import eventually_sync


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batches are of one message; the list grows by the number of messages of each batch that was decoded."""
    sizes: list[int] = []
    prepare = projector.prepare

    def recording(messages, schema_ids):
        sizes.append(len(messages))
        return prepare(messages, schema_ids)

    monkeypatch.setattr(projector, "_BATCH_MESSAGES", 1)
    monkeypatch.setattr(projector, "prepare", recording)
    return sizes


def is_one_ahead(place: Place, prepared: list[int]) -> bool:
    return len(prepared) == 2 and is_projector_waiting(place.dsn)


def test_batch_decoded_ahead_of_a_failed_write_is_written_after_it(place: Place, prepared: list[int]):
    job_id = place.queued()
    place.say([started(job_id), completed(job_id), failed(job_id)])
    with place.projecting():
        with row_held(place.dsn, job_id):
            eventually_sync(lambda: is_one_ahead(place, prepared))
            assert {offset for offset, _ in place.offsets().values()} == {0}
            terminate_projector(place)
            eventually_sync(lambda: len(prepared) > 2)
        eventually_sync(place.is_caught_up)
    row = place.row(job_id)
    assert (row["status"], row["error"]) == ("completed", None)  # in their order: the end that came first
    assert prepared[:3] == [1, 1, 2]  # what was decoded ahead was thrown away, and its message kept


def terminate_projector(place: Place) -> None:
    query = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'docfleet-projector'"
    with psycopg.connect(place.dsn) as connection:
        connection.execute(f"{query} and datname = current_database()")


def test_batch_decoded_ahead_is_not_written_when_another_has_claimed_its_partition(
    place: Place, prepared: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(projector, "_LAST_RETRY_SECONDS", 600.0)  # before it claims again
    job_id = place.queued()
    place.say([started(job_id), completed(job_id)])
    with place.projecting() as running:
        with row_held(place.dsn, job_id):
            eventually_sync(lambda: is_one_ahead(place, prepared))
            claiming = threading.Thread(target=claim_all, args=(place,))
            claiming.start()
            eventually_sync(lambda: is_waiting(place, "update consumer_offsets set owner_epoch%"))
        claiming.join(20)
        assert running.fault() is None
    assert place.row(job_id)["status"] == "processing"
    assert sorted(offset for offset, _ in place.offsets().values())[-2:] == [0, 1]
    with place.projecting():
        eventually_sync(place.is_caught_up)
    assert place.row(job_id)["status"] == "completed"


def claim_all(place: Place) -> None:
    with psycopg.connect(place.dsn) as connection:
        connection.execute("update consumer_offsets set owner_epoch = owner_epoch + 1")


def is_waiting(place: Place, statement: str) -> bool:
    query = (
        "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like %s"
    )
    with psycopg.connect(place.dsn) as connection:
        return bool(connection.execute(query, (statement,)).fetchall())


@pytest.mark.usefixtures("prepared")
def test_partitions_that_go_in_the_middle_of_a_backlog_are_handed_over_after_their_write(place: Place):
    held = place.queued()
    place.say([started(held), *(event for _ in range(30) for event in life())])
    with place.projecting():
        with row_held(place.dsn, held):
            eventually_sync(lambda: is_projector_waiting(place.dsn))
            other = place.projector()
            other.start()
            eventually_sync(lambda: members(place) == 2)
        eventually_sync(lambda: max(epoch for _, epoch in place.offsets().values()) > 1, within=40)
        eventually_sync(place.is_caught_up)
        # nothing more comes: whoever wrote a partition's last message must have told Kafka, also when it then went
        eventually_sync(lambda: committed(place) == place.ends())
        assert other.stop(Deadline(20))
    assert sorted(row["status"] for row in place.rows()) == ["completed"] * 30 + ["processing"]


def members(place: Place) -> int:
    admin = AdminClient({"bootstrap.servers": place.settings.kafka_bootstrap_servers})
    described = admin.describe_consumer_groups([place.group])[place.group].result(10)
    return len(described.members)


def committed(place: Place) -> dict[tuple[str, int], int]:
    consumer = Consumer({"bootstrap.servers": place.settings.kafka_bootstrap_servers, "group.id": place.group})
    offsets = consumer.committed([TopicPartition(*partition) for partition in place.ends()], timeout=10)
    consumer.close()
    return {(tp.topic, tp.partition): tp.offset for tp in offsets}


@pytest.fixture
def emptied_events(kafka: str, topics: None) -> Iterator[None]:
    """Empty docfleet.events after the test: the new status database of any later one would read it all."""
    yield
    servers.empty_topic(kafka, EVENTS)


BACKLOG = 9000  # more than two batches


@pytest.mark.usefixtures("emptied_events")
def test_crash_between_two_batches_leaves_rows_and_offsets_that_belong_together(kafka: str, postgres: str):
    """It dies with a batch in an open transaction and the next one decoded; a new process goes on from the offsets."""
    environment = {"KAFKA_BOOTSTRAP_SERVERS": kafka, "DATABASE_URL": postgres}
    publisher = Publisher(KafkaSettings.from_mapping(environment), source="tests")
    said = [started() for _ in range(BACKLOG)]
    places = {event.job_id: publisher.publish(EVENTS, event) for event in said}
    assert publisher.close(Deadline(60)) == 0
    with process(environment | {"DOCFLEET_FAULT_AT": "before_projection_commit:2"}) as (dying, _):
        assert dying.wait(60) == -signal.SIGKILL
    with psycopg.connect(postgres) as connection:
        offsets = dict(connection.execute(OFFSETS, (STATUS_GROUP, EVENTS.name)).fetchall())
    below = {job for job, place in places.items() if (at := place.result()).offset < offsets.get(at.partition, 0)}
    assert stored(postgres, places.keys()) == below
    assert len(below) < BACKLOG
    with process(environment):
        eventually_sync(lambda: stored(postgres, places.keys()) == places.keys(), within=60)


OFFSETS = "select partition, next_offset from consumer_offsets where consumer_group = %s and topic = %s"


def stored(dsn: str, jobs: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Return which of the jobs have a row."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("select job_id from jobs where job_id = any(%s)", (list(jobs),)).fetchall()
    return {job_id for (job_id,) in rows}
