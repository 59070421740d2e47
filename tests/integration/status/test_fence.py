"""A zombie: a process of status_service that slept while others took over changes nothing when it wakes."""

import re
import signal
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import requests
from psycopg.rows import dict_row

from docfleet.kafka import Publisher
from docfleet.settings import KafkaSettings
from docfleet.stopping import Deadline
from schemas import events, topics
from schemas.topics import EVENTS, STATUS_GROUP
from tests.events import completed, started
from tests.integration.status.place import is_projector_waiting, row_held
from tests.integration.status.test_process import process
from tests.waiting import eventually_sync

Offsets = dict[int, tuple[int, int]]


@pytest.fixture
def publisher(kafka: str, topics: None) -> Iterator[Publisher]:
    publisher = Publisher(KafkaSettings(kafka_bootstrap_servers=kafka), source="tests")
    yield publisher
    publisher.close(Deadline(5))


def say(publisher: Publisher, said: list[events.Event]) -> None:
    for future in [publisher.publish(topics.EVENTS, event) for event in said]:
        future.result(20)


def offsets_of(dsn: str) -> Offsets:
    """Return (next offset, epoch) of each partition of docfleet.events."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "select partition, next_offset, owner_epoch from consumer_offsets where consumer_group = %s and topic = %s",
            (STATUS_GROUP, EVENTS.name),
        ).fetchall()
    return {partition: (offset, epoch) for partition, offset, epoch in rows}


def rows_of(dsn: str) -> dict[uuid.UUID, dict[str, Any]]:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        rows = connection.execute("select *, result::text as result from jobs").fetchall()
    return {row["job_id"]: row for row in rows}


def partitions_assigned(url: str) -> float:
    text = requests.get(f"{url}/metrics", timeout=5).text
    found = re.search(r'^docfleet_rebalances_total\{kind="assigned"\} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_zombie_projector_holds_nobody_up_and_changes_nothing_when_it_wakes(
    kafka: str, postgres: str, publisher: Publisher
):
    """It falls asleep in the middle of a transaction, with the locks of its partitions in its hands."""
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka,
        "DATABASE_URL": postgres,
        "DOCFLEET_SESSION_TIMEOUT_SECONDS": "6",
        "DOCFLEET_STOP_DEADLINE_SECONDS": "10",
    }
    jobs = [uuid.uuid4() for _ in range(40)]
    with process(environment) as (zombie, url):
        say(publisher, [started(job) for job in jobs])
        eventually_sync(lambda: rows_of(postgres).keys() >= set(jobs))
        assigned = partitions_assigned(url)
        with row_held(postgres, jobs[0]):
            say(publisher, [started(job, 3, attempt=2) for job in jobs])
            eventually_sync(lambda: is_projector_waiting(postgres))
            zombie.send_signal(signal.SIGSTOP)
        before = offsets_of(postgres)
        with process(environment):
            eventually_sync(lambda: all(epoch > before[n][1] for n, (_, epoch) in offsets_of(postgres).items()))
            say(publisher, [completed(job) for job in jobs])
            eventually_sync(lambda: {rows_of(postgres)[job]["status"] for job in jobs} == {"completed"})
            rows, offsets = rows_of(postgres), offsets_of(postgres)
            zombie.send_signal(signal.SIGCONT)
            eventually_sync(lambda: partitions_assigned(url) > assigned)  # it knows by now what it has lost
            assert rows_of(postgres) == rows
            assert all(offset >= offsets[number][0] for number, (offset, _) in offsets_of(postgres).items())
            say(publisher, [completed(late := uuid.uuid4())])
            eventually_sync(lambda: rows_of(postgres).get(late))
    assert {rows[job]["attempt"] for job in jobs} == {2}
