"""The sweep of silent jobs when their events do not get out, on a real database and a real broker."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest
from confluent_kafka import KafkaException

from docfleet.kafka import Publisher
from docfleet.postgres import open_pool
from docfleet.settings import KafkaSettings
from docfleet.stack.ports import free_port
from docfleet.stopping import Deadline, end_tasks
from producer_api.outbox import Outbox
from producer_api.store import Store
from producer_api.sweeper import Offsets, Sweeper
from schemas.topics import EVENTS
from tests.waiting import eventually

MAX_ATTEMPTS = 3


@dataclass
class Swept:
    """A sweeper that hears of Kafka's offsets, and whose events do not get out; jobs that are silent for hours."""

    sweeper: Sweeper
    outbox: Outbox
    dsn: str

    def silent(self, *, attempt: int, hours: int = 1) -> uuid.UUID:
        job_id = uuid.uuid4()
        with psycopg.connect(self.dsn) as connection:
            connection.execute(
                "insert into jobs (job_id, tenant_id, status, progress, attempt, created_at, last_seen_at, object_name,"
                " media_type, size_bytes, categories) values (%s, 'acme', 'processing', 'x', %s, now(),"
                " now() - %s * interval '1 hour', 'x', 'application/pdf', 1, '{a}')",
                (job_id, attempt, hours),
            )
        return job_id

    def execute(self, statement: str, job_id: uuid.UUID) -> None:
        with psycopg.connect(self.dsn) as connection:
            connection.execute(statement.encode(), (job_id,))

    def attempts(self) -> dict[uuid.UUID, int]:
        with psycopg.connect(self.dsn) as connection:
            return dict(connection.execute("select job_id, attempt from jobs").fetchall())


@pytest.fixture(params=["no broker", "no registry"])
async def swept(kafka: str, topics: None, postgres: str, request: pytest.FixtureRequest) -> AsyncIterator[Swept]:
    pool = open_pool(postgres, max_size=4)
    await pool.open()
    store, offsets = Store(pool), Offsets(KafkaSettings(kafka_bootstrap_servers=kafka))
    nowhere: dict[str, Any] = {
        "no broker": {"kafka_bootstrap_servers": f"127.0.0.1:{free_port()}"},
        "no registry": {
            "kafka_bootstrap_servers": kafka,
            "schema_registry_url": f"http://127.0.0.1:{free_port()}",
        },
    }[request.param]
    publisher = Publisher(KafkaSettings(**nowhere), source="producer_api", message_timeout_seconds=1.0)
    outbox = Outbox(publisher, store)
    yield Swept(Sweeper(store, outbox, offsets, interval_seconds=60, silence_seconds=60), outbox, postgres)
    await asyncio.to_thread(publisher.close, Deadline(5))
    await asyncio.to_thread(offsets.close)
    await pool.close()


async def test_no_attempt_is_spent_on_an_event_that_did_not_get_out(swept: Swept) -> None:
    exhausted, silent = swept.silent(attempt=MAX_ATTEMPTS, hours=2), swept.silent(attempt=1)
    ended, swept_again = swept.silent(attempt=1), swept.silent(attempt=1)
    with psycopg.connect(swept.dsn) as connection:
        connection.execute(
            "insert into consumer_offsets (consumer_group, topic, partition, next_offset)"
            " select 'docfleet.status-service', %s, number, 1000000 from generate_series(0, %s) as number",
            (EVENTS.name, EVENTS.partitions - 1),
        )
    await swept.sweeper._look(MAX_ATTEMPTS)  # which only remembers how far Kafka's topics reach
    await swept.sweeper._look(MAX_ATTEMPTS)
    assert swept.attempts() == {exhausted: MAX_ATTEMPTS, silent: 2, ended: 2, swept_again: 2}
    swept.execute(
        "update jobs set status = 'failed', error_code = 'E', error = 'e', finished_at = now() where job_id = %s", ended
    )
    swept.execute("update jobs set attempt = 3 where job_id = %s", swept_again)
    publishing = asyncio.create_task(swept.outbox.run())
    await eventually(lambda: swept.outbox.waiting == 0)
    assert swept.attempts() == {exhausted: MAX_ATTEMPTS, silent: 1, ended: 2, swept_again: 3}
    await end_tasks([publishing])


async def test_topic_that_kafka_knows_nothing_of_does_not_count_as_empty(kafka: str, unique: str) -> None:
    offsets = Offsets(KafkaSettings(kafka_bootstrap_servers=kafka))
    with pytest.raises(KafkaException, match="UNKNOWN_TOPIC"):
        offsets.ends_of(replace(EVENTS, name=unique))
    offsets.close()
