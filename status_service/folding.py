"""What a batch of events says about jobs: one change a job, however many events it has in the batch. Pure.

A change is what the upsert in queries.sql merges into a row. Folding a batch and merging the change
gives the row that merging event by event would give; tests hold the two together.
"""

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NoReturn

from schemas import events, lifecycle
from schemas.codec import UndecodableMessage
from schemas.lifecycle import TERMINAL, JobState

#: What `progress` says when nobody said anything better; it is never empty.
PROGRESS: Final = {
    JobState.QUEUED: "Waiting for a worker",
    JobState.PROCESSING: "Starting classification...",
    JobState.COMPLETED: "Classification completed",
    JobState.FAILED: "Classification failed",
    JobState.CANCELLED: "Classification cancelled",
}


@dataclass(frozen=True, slots=True)
class Said:
    """An event, and what the message says besides it."""

    event: events.Event
    partition: int
    offset: int
    traceparent: str | None


@dataclass(slots=True)
class Change:
    """What becomes of one row; the fields are its columns, and texts can be stored as they are.

    `status` is queued when no event leads further, which changes nothing in a row that is there.
    """

    job_id: uuid.UUID
    tenant_id: str
    created_at: datetime
    last_seen_at: datetime
    attempt: int = 1
    status: JobState = JobState.QUEUED
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error_code: str | None = None
    error: str | None = None
    result: str | None = None
    object_name: str | None = None
    media_type: str | None = None
    size_bytes: int | None = None
    categories: str | None = None  #: as a Postgres array literal: unnest() cannot take arrays of arrays
    none_of_these: float | None = None
    evidence: bool = False
    traceparent: str | None = None
    published_at: datetime | None = None
    published_partition: int | None = None
    published_offset: int | None = None

    @property
    def progress(self) -> str:
        """The words of the state."""
        return PROGRESS[self.status]


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of life: what to tell people while the job is processed, and when it was so."""

    job_id: uuid.UUID
    progress: str
    last_seen_at: datetime


@dataclass(slots=True)
class Batch:
    """Changes and signs of life by job; a job with a terminal change has no sign. The traces are for the log."""

    changes: dict[uuid.UUID, Change] = field(default_factory=dict)
    signs: dict[uuid.UUID, Sign] = field(default_factory=dict)
    traceparents: dict[uuid.UUID, str | None] = field(default_factory=dict)


def fold(said: Iterable[Said]) -> Batch:
    """Return what `storable` events, in the order of their topics, come to."""
    batch = Batch()
    for one in said:
        event = one.event
        batch.traceparents[event.job_id] = one.traceparent
        if isinstance(event, events.ClassificationProgressed):
            sign = batch.signs.get(event.job_id)
            if event.progress.strip() and (sign is None or sign.last_seen_at <= event.occurred_at):
                batch.signs[event.job_id] = Sign(event.job_id, event.progress, event.occurred_at)
            continue
        change = batch.changes.get(event.job_id)
        if change is None:
            change = Change(event.job_id, event.tenant_id, event.accepted_at, event.occurred_at)
            batch.changes[event.job_id] = change
        _apply(change, one)
    for job_id in [job_id for job_id, change in batch.changes.items() if change.status in TERMINAL]:
        batch.signs.pop(job_id, None)
    return batch


def _apply(change: Change, said: Said) -> None:
    event = said.event
    change.attempt = max(change.attempt, event.attempt)
    if isinstance(event, events.ClassificationRequested):
        _apply_request(change, event, said)
        return
    if change.status in TERMINAL:
        return
    is_news = change.status is JobState.QUEUED
    change.last_seen_at = event.occurred_at if is_news else max(change.last_seen_at, event.occurred_at)
    change.status = lifecycle.advance(change.status, event)
    if isinstance(event, events.ClassificationStarted):
        change.started_at = min(change.started_at or event.occurred_at, event.occurred_at)
    if change.status in TERMINAL:
        change.finished_at = event.occurred_at
    if isinstance(event, events.ClassificationCompleted):
        change.result = event.result
    elif isinstance(event, events.ClassificationFailed):
        change.error_code, change.error = event.error_code, event.error


def _apply_request(change: Change, event: events.ClassificationRequested, said: Said) -> None:
    if change.object_name is not None:  # said again: the first stays, as in the row
        return
    change.object_name = event.object_name
    change.media_type = event.media_type
    change.size_bytes = event.size_bytes
    change.categories = _array_literal(event.categories)
    change.none_of_these, change.evidence = event.none_of_these, event.evidence
    change.traceparent = said.traceparent
    change.published_at = event.occurred_at
    change.published_partition, change.published_offset = said.partition, said.offset


def storable(event: events.Event) -> events.Event:
    """Return the event with texts that Postgres can store: U+FFFD stands for NUL, which it cannot.

    Raises:
        UndecodableMessage: a result that is no JSON object.

    """
    if isinstance(event, events.ClassificationCompleted):
        _check_result(event.result)
    fields = event.__dataclass_fields__
    if not any(_has_nul(getattr(event, name)) for name in fields):
        return event
    return type(event)(**{name: _without_nul(getattr(event, name)) for name in fields})


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    return isinstance(value, tuple) and any(map(_has_nul, value))


def _without_nul(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_without_nul, value))
    return value.replace("\x00", "\ufffd") if isinstance(value, str) else value


def _check_result(text: str) -> None:
    try:
        result = _JSON.decode(text)
    except (ValueError, RecursionError) as error:
        raise UndecodableMessage(f"a result that is no JSON: {error}") from error
    if not isinstance(result, dict):
        raise UndecodableMessage(f"a result that is no JSON object but {type(result).__name__}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


#: Looks at the form only, so numbers stay texts, which is half the work.
_JSON: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=str, parse_int=str)


def _array_literal(texts: Iterable[str]) -> str:
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"
