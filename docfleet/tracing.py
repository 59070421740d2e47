"""Which trace and which job the running code is about, and spans of it where OpenTelemetry is on.

A trace context is its W3C `traceparent` text wherever it goes: in headers of HTTP and Kafka, in a job's row, in
arguments. What is current is a context variable, so a job thread, a request's task and `asyncio.to_thread` each have
their own; log records and exemplars take it from here.
"""

import re
import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from schemas.codec import new_traceparent

#: W3C Trace Context, level 1: version ff and ids of zeros are invalid; only versions after 00 may say more.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?P<ids>(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(?P<more>-.*)?"
)


@dataclass(frozen=True, slots=True)
class _Subject:
    traceparent: str | None = None
    job_id: uuid.UUID | None = None


_NOTHING: Final = _Subject()
_subject: Final = ContextVar("subject", default=_NOTHING)


@contextmanager
def about(traceparent: str | None, job_id: uuid.UUID | None = None) -> Iterator[None]:
    """Make this the current trace and job of the body; without a job id the one before stays."""
    token = _subject.set(_Subject(valid(traceparent), job_id or _subject.get().job_id))
    try:
        yield
    finally:
        _subject.reset(token)


def current_traceparent() -> str | None:
    """Return the W3C trace context of what is going on; None when it belongs to no trace."""
    return _subject.get().traceparent


def current_trace_id() -> str | None:
    """Return the current trace's id, 32 hexadecimal digits; None when what is going on belongs to no trace."""
    traceparent = _subject.get().traceparent
    return None if traceparent is None else traceparent[3:35]


def current_job_id() -> uuid.UUID | None:
    """Return the job that the running code is about, if it is about one."""
    return _subject.get().job_id


def valid(traceparent: str | None) -> str | None:
    """Return the trace context in version 00; None when it is none."""
    found = _TRACEPARENT.fullmatch(traceparent.strip()) if traceparent else None
    if found is None or (found["version"] == "00" and found["more"]):
        return None
    return f"00-{found['ids']}"


def new_trace() -> str:
    """Return the trace context of a trace that begins here."""
    return new_traceparent(uuid.uuid4(), secrets.token_bytes(8))
