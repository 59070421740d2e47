"""A job only climbs, and its first terminal event stays."""

from hypothesis import given
from hypothesis import strategies as st

from schemas import events, lifecycle
from schemas.lifecycle import RANK, TERMINAL, JobState, advance
from tests.events import cancelled, completed, failed, progressed, requested, started

ANY_EVENTS = st.lists(
    st.sampled_from([build() for build in (requested, started, progressed, completed, failed, cancelled)])
)


def states_of(said: list[events.Event]) -> list[JobState]:
    states = [JobState.QUEUED]
    for event in said:
        states.append(advance(states[-1], event))
    return states


@given(ANY_EVENTS)
def test_last_state_is_that_of_the_first_terminal_event(said: list[events.Event]):
    ends = [lifecycle.LEADS_TO[type(event)] for event in said if lifecycle.LEADS_TO.get(type(event)) in TERMINAL]
    has_started = any(isinstance(event, events.ClassificationStarted) for event in said)
    alive = JobState.PROCESSING if has_started else JobState.QUEUED
    assert states_of(said)[-1] is (ends[0] if ends else alive)


@given(ANY_EVENTS)
def test_rank_never_falls(said: list[events.Event]):
    ranks = [RANK[state] for state in states_of(said)]
    assert ranks == sorted(ranks)


@given(ANY_EVENTS, st.integers(0, 10))
def test_repeats_and_replays_change_nothing(said: list[events.Event], replayed: int):
    assert states_of([*said, *said[-replayed:]])[-1] is states_of(said)[-1]


def test_every_event_but_progress_leads_to_a_state_and_every_state_has_a_rank():
    assert set(lifecycle.LEADS_TO) == set(events.EVENT_TYPES) - {events.ClassificationProgressed}
    assert set(lifecycle.LEADS_TO.values()) == set(JobState) == set(RANK)
