"""Rows and offsets in one transaction: the guards of queries.sql, on a real database."""

import itertools
import random
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from schemas import events
from schemas.channels import JOBS_CHANNEL
from schemas.lifecycle import JobState, advance
from status_service import folding
from status_service.folding import Batch, Said
from status_service.store import Advance, Claim, Fenced, ProjectionStore, jobs_of
from tests.events import cancelled, completed, failed, progressed, requested, started

PARTITION = ("docfleet.events", 0)
LEADING = {
    JobState.QUEUED: requested,
    JobState.PROCESSING: started,
    JobState.COMPLETED: completed,
    JobState.FAILED: failed,
    JobState.CANCELLED: cancelled,
}
BUILDERS = (requested, started, progressed, completed, failed, cancelled)


@pytest.fixture
def store(postgres: str):
    store = ProjectionStore(postgres, "tests")
    yield store
    store.close()


def batch_of(*said: events.Event) -> Batch:
    return folding.fold([Said(event, 0, 7, None) for event in said])


def row_of(dsn: str, job_id: uuid.UUID) -> dict[str, Any] | None:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        return connection.execute("select *, result::text as result from jobs where job_id = %s", (job_id,)).fetchone()


def test_sql_ranks_are_those_of_the_lifecycle(store: ProjectionStore, postgres: str):
    for state, build in itertools.product(JobState, BUILDERS):
        job_id = uuid.uuid4()
        store.write(batch_of(LEADING[state](job_id)), {})
        event = build(job_id, 30)
        store.write(batch_of(event), {})
        row = row_of(postgres, job_id)
        assert row is not None
        assert row["status"] == advance(state, event), (state, event)


SAID = st.lists(
    st.tuples(st.sampled_from(BUILDERS[1:]), st.integers(1, 9), st.integers(1, 3), st.booleans()),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=SAID)
def test_batches_of_any_size_lead_to_the_same_row(store: ProjectionStore, postgres: str, said: Sequence[Any]):
    """Words under way and signs of life are not compared: they come over another topic and may be late."""
    together, alone = uuid.uuid4(), uuid.uuid4()
    rows = []
    for job_id, is_split in ((together, False), (alone, True)):
        store.write(batch_of(requested(job_id)), {})
        group: list[events.Event] = []
        for build, seconds, attempt, ends_batch in said:
            group.append(build(job_id, seconds, attempt=attempt))
            if ends_batch or is_split:
                store.write(batch_of(*group), {})
                group = []
        store.write(batch_of(*group), {})
        row = row_of(postgres, job_id)
        assert row is not None
        for name in ("job_id", "object_name", "last_seen_at", *(() if row["finished_at"] else ("progress",))):
            row.pop(name)
        rows.append(row)
    assert rows[0] == rows[1]


def test_options_fill_a_row_that_was_begun_by_a_later_event(store: ProjectionStore, postgres: str):
    event = started()
    store.write(batch_of(event), {})
    before = row_of(postgres, event.job_id)
    store.write(batch_of(requested(event.job_id, none_of_these=0.7, evidence=True)), {})
    store.write(batch_of(completed(event.job_id)), {})
    row = row_of(postgres, event.job_id)
    assert [(one["none_of_these"], one["evidence"]) for one in (before, row)] == [(None, False), (0.7, True)]  # type: ignore[index]


def test_claim_goes_on_at_the_stored_offset_and_raises_the_epoch(store: ProjectionStore):
    assert store.claim([PARTITION]) == {PARTITION: Claim(1, 0)}
    store.write(batch_of(started()), {PARTITION: Advance(Claim(1, 0), 5)})
    assert store.claim([PARTITION]) == {PARTITION: Claim(2, 5)}


def test_zombie_writes_neither_rows_nor_offsets(store: ProjectionStore, postgres: str):
    other = ("docfleet.events", 1)
    zombie = store.claim([PARTITION, other])
    heir = ProjectionStore(postgres, "tests")
    heir.claim([PARTITION])
    event = started()
    with pytest.raises(Fenced) as fenced:
        store.write(batch_of(event), {name: Advance(claim, 3) for name, claim in zombie.items()})
    assert fenced.value.partitions == {PARTITION}
    assert row_of(postgres, event.job_id) is None
    assert heir.claim([PARTITION, other]) == {PARTITION: Claim(3, 0), other: Claim(2, 0)}
    heir.close()


def test_batch_whose_commit_was_not_heard_of_can_be_written_again(store: ProjectionStore, postgres: str):
    claim = store.claim([PARTITION])[PARTITION]
    event = completed()
    for _ in range(2):
        store.write(batch_of(event), {PARTITION: Advance(claim, 3)})
    assert row_of(postgres, event.job_id)["status"] == "completed"  # type: ignore[index]


def test_offsets_that_postgres_forgot_are_not_passed_over(store: ProjectionStore, postgres: str):
    """It came back with an older state: what lies between is written again, by whoever claims the partition next."""
    claim = store.claim([PARTITION])[PARTITION]
    store.write(batch_of(), {PARTITION: Advance(claim, 480)})
    event = completed()
    with pytest.raises(Fenced):
        store.write(batch_of(event), {PARTITION: Advance(Claim(claim.owner_epoch, 500), 510)})
    assert row_of(postgres, event.job_id) is None
    assert store.claim([PARTITION])[PARTITION].next_offset == 480


def test_topic_that_was_made_anew_begins_at_its_beginning(store: ProjectionStore):
    claim = store.claim([PARTITION])[PARTITION]
    store.write(batch_of(), {PARTITION: Advance(claim, 480)})
    store.write(batch_of(), {PARTITION: Advance(Claim(claim.owner_epoch, 480), 3)})
    assert store.claim([PARTITION])[PARTITION].next_offset == 3


def test_row_that_postgres_refuses_does_not_keep_the_others_out(store: ProjectionStore, postgres: str):
    good, bad = completed(), completed(result="no JSON at all")
    too_large = completed(tenant_id=random.Random(7).randbytes(2000).hex())  # for an index, even compressed
    claim = store.claim([PARTITION])[PARTITION]
    for batch in (batch_of(too_large, started(good.job_id)), batch_of(bad, too_large, good)):
        store.write(batch, {PARTITION: Advance(claim, 2)})
    assert (row_of(postgres, bad.job_id), row_of(postgres, too_large.job_id)) == (None, None)
    assert row_of(postgres, good.job_id)["status"] == "completed"  # type: ignore[index]
    assert store.claim([PARTITION])[PARTITION].next_offset == 2


def test_batches_with_crossed_jobs_do_not_wait_for_each_other(postgres: str):
    """What is a change for one replica is a sign of life for the other."""
    jobs = [uuid.uuid4(), uuid.uuid4()]

    def write_often(changed: uuid.UUID, alive: uuid.UUID) -> None:
        with closing(ProjectionStore(postgres, "tests")) as store:
            for seconds in range(300):
                store.write(batch_of(started(changed, attempt=seconds + 1), progressed(alive, seconds)), {})

    with closing(ProjectionStore(postgres, "tests")) as store:
        store.write(batch_of(*map(started, jobs)), {})
    with ThreadPoolExecutor(2) as threads:
        for writing in [threads.submit(write_often, *jobs), threads.submit(write_often, *reversed(jobs))]:
            writing.result()


def test_listeners_hear_of_new_states_only(store: ProjectionStore, postgres: str):
    jobs = [uuid.uuid4() for _ in range(450)]  # more than one payload takes
    with psycopg.connect(postgres, autocommit=True) as listener:
        listener.execute(f"listen {JOBS_CHANNEL}")
        store.write(batch_of(*map(started, jobs)), {})
        store.write(batch_of(*map(started, jobs)), {})
        store.write(batch_of(progressed(jobs[0])), {})
        store.write(batch_of(failed(jobs[0]), completed(jobs[1])), {})
        store.write(batch_of(cancelled(jobs[0], 20)), {})
        heard = [job for said in listener.notifies(timeout=0.5) for job in jobs_of(said.payload)]
    assert sorted(heard) == sorted([*jobs, *jobs[:2]])
