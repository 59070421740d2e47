"""What is kept and for how long: documents, rows and orphans on a real database and a GCS-protocol server."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from docfleet.kafka import Publisher
from docfleet.objects import ObjectStore, document_name
from docfleet.postgres import open_pool
from docfleet.settings import InvalidSettings, KafkaSettings, ObjectSettings
from docfleet.stack.ports import free_port
from docfleet.stopping import Deadline
from producer_api.document import Storage
from producer_api.reaper import KeepFor, Reaper
from producer_api.settings import ProducerSettings
from producer_api.store import Store
from producer_api.sweeper import Offsets
from schemas import topics as catalogue
from schemas.errors import DocfleetError, ErrorCode
from tests.events import requested
from tests.integration.producer.conftest import Start
from tests.integration.producer.service import job_id_of
from tests.servers import Gcs
from tests.waiting import eventually

NOTHING = KeepFor(document_seconds=0, job_seconds=0, orphan_seconds=3600)
HOUR = 3600.0


@dataclass
class Kept:
    """A database and a bucket, and jobs whose end lies some hours back."""

    dsn: str
    objects: ObjectStore
    store: Store
    storage: Storage
    offsets: Offsets
    jobs: list[uuid.UUID] = field(default_factory=list)

    def reaper(self, keep: KeepFor, objects: ObjectStore | None = None) -> Reaper:
        storage = Storage(objects or self.objects, self.storage.threads, 1, 1)
        return Reaper(self.store, storage, self.offsets, keep)

    def job(
        self, status: str = "completed", *, hours_ago: float = 0.0, accepted_hours_ago: float | None = None
    ) -> uuid.UUID:
        """Make a job that ended so long ago, and was accepted then too unless it is said otherwise."""
        job_id = uuid.uuid4()
        result, error = {"completed": ("{}", None), "failed": (None, "E")}.get(status, (None, None))
        with psycopg.connect(self.dsn) as connection:
            connection.execute(
                "insert into jobs (job_id, tenant_id, status, progress, created_at, last_seen_at, object_name, result,"
                " error_code, error, finished_at) values (%s, 'acme', %s, 'x', now() - %s * interval '1 hour', now(),"
                " %s, %s, %s, %s, now() - %s * interval '1 hour')",
                (
                    job_id,
                    status,
                    hours_ago if accepted_hours_ago is None else accepted_hours_ago,
                    document_name(job_id),
                    result,
                    error,
                    error,
                    hours_ago if result or error else None,
                ),
            )
        self.put(job_id)
        return job_id

    def put(self, job_id: uuid.UUID) -> None:
        self.objects.put(document_name(job_id), b"%PDF-1.7", media_type="application/pdf")

    def documents(self) -> set[str]:
        return {one.name for one in self.objects.listed("")[0]}

    def rows(self) -> dict[uuid.UUID, bool]:
        """Return each job, and whether its document is marked as deleted."""
        with psycopg.connect(self.dsn) as connection:
            return dict(connection.execute("select job_id, document_deleted_at is not null from jobs").fetchall())


def everything_is_projected(dsn: str) -> None:
    """Say that the projector has read all that is in the topics, now and later."""
    with psycopg.connect(dsn) as connection:
        for topic in (catalogue.JOBS, catalogue.EVENTS):
            connection.execute(
                "insert into consumer_offsets (consumer_group, topic, partition, next_offset)"
                " select %s, %s, number, 1000000 from generate_series(0, %s) as number",
                (catalogue.STATUS_GROUP, topic.name, topic.partitions - 1),
            )


@pytest.fixture
def objects(gcs: Gcs) -> Iterator[ObjectStore]:
    store = ObjectStore(ObjectSettings(STORAGE_EMULATOR_HOST=gcs.endpoint, bucket=gcs.bucket, object_timeout_seconds=2))
    yield store
    store.close()


@pytest.fixture
async def kept(kafka: str, topics: None, postgres: str, objects: ObjectStore) -> AsyncIterator[Kept]:
    pool = open_pool(postgres, max_size=4)
    await pool.open()
    offsets = Offsets(KafkaSettings(kafka_bootstrap_servers=kafka))
    with ThreadPoolExecutor(4) as threads:
        yield Kept(postgres, objects, Store(pool), Storage(objects, threads, 1, 1), offsets)
    await pool.close()
    await asyncio.to_thread(offsets.close)


async def test_document_goes_its_time_after_the_end_and_never_before_it(kept: Kept):
    old = [kept.job("completed", hours_ago=3), kept.job("failed", hours_ago=3)]
    young, queued, running = kept.job(hours_ago=1), kept.job("queued"), kept.job("processing")
    everything_is_projected(kept.dsn)
    await kept.reaper(KeepFor(document_seconds=2 * HOUR, job_seconds=0, orphan_seconds=HOUR)).reap()
    assert kept.documents() == {document_name(job_id) for job_id in (young, queued, running)}
    assert kept.rows() == dict.fromkeys(old, True) | dict.fromkeys((young, queued, running), False)


async def test_row_goes_its_time_after_the_end_but_not_before_its_document(kept: Kept):
    old, young, running = kept.job(hours_ago=5), kept.job(hours_ago=3), kept.job("processing")
    await kept.reaper(KeepFor(document_seconds=0, job_seconds=4 * HOUR, orphan_seconds=HOUR)).reap()
    assert set(kept.rows()) == {old, young, running}
    await kept.reaper(KeepFor(document_seconds=2 * HOUR, job_seconds=4 * HOUR, orphan_seconds=HOUR)).reap()
    assert set(kept.rows()) == {young, running}
    assert kept.documents() == {document_name(running)}


async def test_end_by_a_clock_that_is_behind_counts_from_when_the_job_was_accepted(kept: Kept):
    told_behind = kept.job(hours_ago=5, accepted_hours_ago=1)
    keep = KeepFor(document_seconds=2 * HOUR, job_seconds=2 * HOUR, orphan_seconds=HOUR)
    await kept.reaper(keep).reap()
    assert kept.rows() == {told_behind: False}
    assert kept.documents() == {document_name(told_behind)}
    await kept.reaper(KeepFor(document_seconds=HOUR / 2, job_seconds=2 * HOUR, orphan_seconds=HOUR)).reap()
    assert kept.rows() == {told_behind: True}


async def test_zero_keeps_for_ever(kept: Kept):
    job_id = kept.job(hours_ago=100_000)
    await kept.reaper(NOTHING).reap()
    assert kept.rows() == {job_id: False}
    assert kept.documents() == {document_name(job_id)}


async def test_document_without_a_job_goes_when_it_is_old_enough_and_others_things_stay(kept: Kept):
    everything_is_projected(kept.dsn)
    orphan, deleted, queued = uuid.uuid4(), kept.job(hours_ago=2), kept.job("queued")
    kept.put(orphan)
    kept.objects.put("jobs/notes.txt", b"a person's", media_type="text/plain")
    with psycopg.connect(kept.dsn) as connection:  # a late upload brought the document back
        connection.execute("update jobs set document_deleted_at = now() where job_id = %s", (deleted,))
    others = {document_name(queued), "jobs/notes.txt"}
    await kept.reaper(NOTHING).reap()
    assert kept.documents() == {document_name(orphan), document_name(deleted)} | others
    await kept.reaper(KeepFor(document_seconds=0, job_seconds=0, orphan_seconds=0)).reap()
    assert kept.documents() == others


async def test_no_document_is_an_orphan_while_rows_may_come_back_from_the_topics(
    kept: Kept, kafka: str, monkeypatch: pytest.MonkeyPatch
):
    """A fresh table of jobs, that no projector has filled yet."""
    from producer_api import reaper

    monkeypatch.setattr(reaper, "_CATCH_UP_SECONDS", 0.2)
    publisher = Publisher(KafkaSettings(kafka_bootstrap_servers=kafka), source="tests")
    await publisher.publish_async(catalogue.JOBS, requested())
    await asyncio.to_thread(publisher.close, Deadline(5))
    lost = uuid.uuid4()
    kept.put(lost)
    await kept.reaper(KeepFor(document_seconds=0, job_seconds=0, orphan_seconds=0)).reap()
    assert document_name(lost) in kept.documents()


async def test_more_than_one_page_of_orphans_is_found(kept: Kept, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("docfleet.objects._PAGE_OBJECTS", 3)
    everything_is_projected(kept.dsn)
    for _ in range(8):
        kept.put(uuid.uuid4())
    await kept.reaper(KeepFor(document_seconds=0, job_seconds=0, orphan_seconds=0)).reap()
    assert kept.documents() == set()


async def test_store_that_is_away_leaves_rows_that_still_know_their_document(kept: Kept):
    job_id = kept.job(hours_ago=3)
    nowhere = f"http://127.0.0.1:{free_port()}"
    away = ObjectStore(ObjectSettings(STORAGE_EMULATOR_HOST=nowhere, object_timeout_seconds=0.5))
    with pytest.raises(DocfleetError) as fault:
        await kept.reaper(KeepFor(HOUR, HOUR, HOUR), away).reap()
    away.close()
    assert fault.value.code is ErrorCode.STORAGE_UNAVAILABLE
    assert kept.rows() == {job_id: False}


async def test_one_replica_at_a_time_reaps(kept: Kept):
    job_id = kept.job(hours_ago=3)
    reaper = kept.reaper(KeepFor(HOUR, HOUR, HOUR))
    async with kept.store.reaping() as is_ours:
        assert is_ours
        await reaper.reap()
        assert kept.rows() == {job_id: False}
    await reaper._reap_documents()
    await reaper._reap_jobs()
    assert kept.rows() == {}


async def test_answer_to_an_idempotency_key_goes_with_its_job(start: Start, postgres: str):
    everything_is_projected(postgres)
    with start(reap_interval_seconds=0.2, document_keep_seconds=2, job_keep_seconds=100_000) as producer:
        client = producer.new_key()
        job_id = job_id_of(await client.post(Idempotency_Key="k"))
        producer.execute(
            "update jobs set status = 'completed', result = '{}', finished_at = now() - interval '2 days',"
            " created_at = now() - interval '2 days' where job_id = %s",
            job_id,
        )
        await eventually(lambda: not client.jobs())
        assert not client.idempotency_rows()
        assert not producer.object_names()
        text = (await client.send("GET", "/metrics")).text
        assert 'docfleet_reaped_items_total{kind="document"} 1.0' in text
        assert 'docfleet_reaped_items_total{kind="job"} 1.0' in text


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"DOCFLEET_DOCUMENT_KEEP_SECONDS": "0"}, "DOCFLEET_DOCUMENT_KEEP_SECONDS"),
        ({"DOCFLEET_JOB_KEEP_SECONDS": "90000"}, "DOCFLEET_DOCUMENT_KEEP_SECONDS"),
        (
            {"DOCFLEET_JOB_KEEP_SECONDS": "5000", "DOCFLEET_DOCUMENT_KEEP_SECONDS": "5000"},
            "DOCFLEET_IDEMPOTENCY_KEEP_SECONDS",
        ),
    ],
)
def test_job_is_kept_no_shorter_than_what_belongs_to_it(settings: dict[str, str], named: str):
    required: dict[str, Any] = {"DATABASE_URL": "postgresql://x/y", "KAFKA_BOOTSTRAP_SERVERS": "x:1"}
    ProducerSettings.from_mapping(required | {"DOCFLEET_DOCUMENT_KEEP_SECONDS": "0", "DOCFLEET_JOB_KEEP_SECONDS": "0"})
    with pytest.raises(InvalidSettings, match=named):
        ProducerSettings.from_mapping(required | settings)
