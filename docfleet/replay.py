"""Which dead letters may be published again, and as what.

A job's terminal state never changes, and one terminal event is all that consumers of docfleet.events ever get. A worker
cannot know that a job has ended: it would do the work again and tell another end. So the message of an ended job is
never replayed, nor that of a job nobody knows, which ended so long ago that its row is gone. What remains are jobs
whose message could not be understood, before the sweeper has used their attempts up.
"""

import dataclasses
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import psycopg

from docfleet.dead_letters import DeadLetter
from docfleet.offsets import is_read
from docfleet.postgres import load_queries
from schemas.events import ClassificationRequested
from schemas.lifecycle import TERMINAL, JobState
from schemas.topics import STATUS_GROUP, Topic


@dataclass(frozen=True, slots=True)
class JobNow:
    """What the table of jobs says."""

    status: JobState
    attempt: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a message is not published again; `has_ended` where that is so because its job has."""

    why: str
    has_ended: bool = False


def decide(letter: DeadLetter, job: JobNow | None, *, now: datetime) -> ClassificationRequested | Refused:
    """Return the event to publish, as one more attempt of its job, or why there is none. Pure."""
    if not isinstance(letter.event, ClassificationRequested):
        what = f"it is a {type(letter.event).__name__}" if letter.event else f"it is no event: {letter.fault}"
        return Refused(f"{what}; its job, if there is one, is published again from its row")
    if job is None:
        return Refused("no such job: it ended and its row is gone, or it is another system's", has_ended=True)
    if job.status in TERMINAL:
        return Refused(
            f"its job has ended as {job.status}, which never changes; post the document again", has_ended=True
        )
    attempt = max(letter.event.attempt, job.attempt) + 1
    return dataclasses.replace(letter.event, attempt=attempt, occurred_at=now)


def jobs_now(dsn: str, job_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, JobNow]:
    """Return what the table says of these jobs; those that it does not have are left out."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(_query("job_states"), {"job_ids": list(job_ids)}).fetchall()
    return {job_id: JobNow(JobState(status), attempt) for job_id, status, attempt in rows}


def is_up_to_date(dsn: str, topic: Topic, ends: Mapping[int, int]) -> bool:
    """Whether the table says everything that stands below these offsets of a topic."""
    values = {"consumer_group": STATUS_GROUP, "topic": topic.name}
    with psycopg.connect(dsn) as connection:
        offsets: dict[int, int] = dict(connection.execute(_query("projector_offsets"), values).fetchall())
    return is_read(offsets, ends)


def _query(name: str) -> bytes:
    return load_queries("docfleet")[name].encode()
