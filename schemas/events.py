"""Everything that is said about a job over Kafka: one frozen dataclass per event, in the past tense.

The .avsc files in `avro/` are the source of truth for the bytes; a test holds these classes to them.
Every event carries `tenant_id` and `accepted_at`, so that the table of jobs can be rebuilt from the
topics alone.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Final

#: Namespace of the deterministic event ids (RFC 9562, version 5).
_NAMESPACE: Final = uuid.UUID("6f1c3f5e-2a52-5d0b-9a0e-0d0cf1ee7000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event says. Times are aware and in UTC."""

    job_id: uuid.UUID
    tenant_id: str  #: whose job it is: the name that the API key was made under
    attempt: int  #: 1 for the first; a redelivery of the same attempt keeps its number
    accepted_at: datetime  #: when the client's request became durable
    occurred_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationRequested(Event):
    """A client's document is in the object store and waits for a worker."""

    object_name: str
    media_type: str
    size_bytes: int
    categories: tuple[str, ...]  #: 1 to 500 names in the client's order
    reader_deaths: int = 0  #: reader processes that this document has killed so far
    none_of_these: float | None = None  #: from this probability on the answer is that no category fits; None: not asked
    evidence: bool = False  #: whether the result says what decided


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationStarted(Event):
    """A worker has the job, perhaps for the second time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationProgressed(Event):
    """A sign of life between started and the end; may be lost or late without harm."""

    progress: str  #: a sentence for people, such as "Processing page 2 of 4"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationCompleted(Event):
    """The job ended with a result."""

    result: str  #: the `result` object of the HTTP contract as JSON text, whose key order counts


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationFailed(Event):
    """The job ended without a result."""

    error_code: str  #: an ErrorCode
    error: str  #: a sentence that says why


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationCancelled(Event):
    """The client withdrew the job before any result."""


EVENT_TYPES: Final[tuple[type[Event], ...]] = (
    ClassificationRequested,
    ClassificationStarted,
    ClassificationProgressed,
    ClassificationCompleted,
    ClassificationFailed,
    ClassificationCancelled,
)

#: A job ends once, so its terminal events share one id whatever their kind or attempt.
_TERMINAL: Final = (ClassificationCompleted, ClassificationFailed, ClassificationCancelled)


def event_id(event: Event) -> uuid.UUID:
    """Return the id by which consumers drop repeats: the same event said again has the same id.

    The id derives from job, kind and attempt; from the job alone for a terminal event, and from
    the sentence too for a sign of progress, of which one attempt has several.
    """
    if isinstance(event, _TERMINAL):
        return uuid.uuid5(_NAMESPACE, f"{event.job_id}/end")
    said = f"/{event.progress}" if isinstance(event, ClassificationProgressed) else ""
    return uuid.uuid5(_NAMESPACE, f"{event.job_id}/{type(event).__name__}/{event.attempt}{said}")
