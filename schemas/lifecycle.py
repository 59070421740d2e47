"""The life of a job: which event leads to which state, and which state wins.

Kafka delivers at least once, and a retry can overtake its predecessor, so a late or repeated
event is normal and changes nothing. `RANK` is also the guard in status_service/queries.sql;
tests/unit/test_lifecycle.py holds the two together. ClassificationProgressed is not here: it
changes the words of a state, never the state.
"""

from enum import StrEnum
from typing import Final

from schemas import events


class JobState(StrEnum):
    """What `GET /classify/{job_id}` calls `status`."""

    QUEUED = "queued"  #: durable; no worker has it yet
    PROCESSING = "processing"  #: a worker has it, perhaps for the second time
    COMPLETED = "completed"  #: the result is stored
    FAILED = "failed"  #: `error_code` and a sentence say why
    CANCELLED = "cancelled"  #: by the client, before any result


TERMINAL: Final = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})

#: A job only climbs. Terminal states share a rank, so the first of them stays.
RANK: Final = {JobState.QUEUED: 0, JobState.PROCESSING: 1} | dict.fromkeys(TERMINAL, 2)

LEADS_TO: Final[dict[type[events.Event], JobState]] = {
    events.ClassificationRequested: JobState.QUEUED,
    events.ClassificationStarted: JobState.PROCESSING,
    events.ClassificationCompleted: JobState.COMPLETED,
    events.ClassificationFailed: JobState.FAILED,
    events.ClassificationCancelled: JobState.CANCELLED,
}


def advance(state: JobState, event: events.Event) -> JobState:
    """Return the state after `event`; `state` itself when the event comes too late to matter."""
    target = LEADS_TO.get(type(event), state)
    return target if RANK[target] > RANK[state] else state
