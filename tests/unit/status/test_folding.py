"""A batch of events, folded to one change a job."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import lifecycle
from schemas.codec import UndecodableMessage
from schemas.events import Event
from schemas.lifecycle import JobState
from status_service.folding import PROGRESS, Said, fold, storable
from tests.events import at, cancelled, completed, failed, progressed, requested, started

JOB = uuid.uuid4()
BUILDERS = (requested, started, completed, failed, cancelled)


def folded(*said: Event):
    return fold([Said(event, 3, number, None) for number, event in enumerate(said)])


@given(st.lists(st.sampled_from(BUILDERS), min_size=1))
def test_status_of_a_change_is_where_the_lifecycle_leads(builders: list):
    state = JobState.QUEUED
    for build in builders:
        state = lifecycle.advance(state, build(JOB))
    change = folded(*(build(JOB) for build in builders)).changes[JOB]
    assert change.status is state
    assert (change.finished_at is not None) == (state in lifecycle.TERMINAL)
    assert (change.result is not None) == (state is JobState.COMPLETED)
    assert (change.error_code is not None) == (state is JobState.FAILED)
    assert change.progress == PROGRESS[state] != ""


def test_start_is_the_first_attempts_and_attempt_the_last():
    change = folded(started(JOB, 5, attempt=2), started(JOB, 1), progressed(JOB, 6)).changes[JOB]
    assert (change.started_at, change.attempt, change.last_seen_at) == (at(1), 2, at(5))


def test_only_the_newest_sign_of_life_is_kept_and_none_of_an_ended_job():
    ended = uuid.uuid4()
    batch = folded(progressed(JOB, 3, progress="newer"), progressed(JOB, 2), progressed(ended), failed(ended))
    assert {job_id: sign.progress for job_id, sign in batch.signs.items()} == {JOB: "newer"}


def test_blank_progress_is_no_word_for_people():
    assert not folded(progressed(JOB, progress=" ")).signs


def test_request_says_where_it_was_published():
    change = folded(started(JOB), requested(JOB, categories=('a"b', "c\\d", "{e,f}"))).changes[JOB]
    assert (change.published_partition, change.published_offset) == (3, 1)
    assert change.categories == r'{"a\"b","c\\d","{e,f}"}'


@pytest.mark.parametrize("result", ["", "nonsense", "[]", "null", '"x"', '{"a": NaN}', '{"a": "\x00"}', '{"a":' * 9999])
def test_result_that_is_no_json_object_is_no_event(result: str):
    with pytest.raises(UndecodableMessage):
        storable(completed(result=result))


def test_nul_becomes_the_replacement_character_and_nothing_else_changes():
    event = requested(JOB, tenant_id="a\x00", categories=("x", "\x00y"))
    assert storable(event) == requested(JOB, tenant_id="a\ufffd", categories=("x", "\ufffdy"))
    assert storable(started(JOB)) == started(JOB)
