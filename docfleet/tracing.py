"""Which trace and which job the running code is about, and spans of it where OpenTelemetry is on.

A trace context is its W3C `traceparent` text wherever it goes: in headers of HTTP and Kafka, in a job's row, in
arguments. What is current is a context variable, so a job thread, a request's task and `asyncio.to_thread` each have
their own; log records and exemplars take it from here.

`start` turns spans on when the environment names an OTLP endpoint. Until then `begin` and `span` only hand their
parent's context on. What makes and sends spans is in `docfleet.otel`, the extra `otel`, and is not imported before.
"""

import logging
import os
import re
import secrets
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from docfleet.stopping import Deadline
from schemas.codec import new_traceparent

logger = logging.getLogger(__name__)

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | int | float | bool
Attributes = Mapping[str, Value]

#: W3C Trace Context, level 1: version ff and ids of zeros are invalid; only versions after 00 may say more.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?P<ids>(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(?P<more>-.*)?"
)
_PROTOCOL: Final = "http/protobuf"
#: Of a stop's time, what sending the last spans may take: they are worth no more.
_FLUSH_SECONDS: Final = 3.0


# --- what is current ---


@dataclass(frozen=True, slots=True)
class _Subject:
    traceparent: str | None = None
    job_id: uuid.UUID | None = None


_NOTHING: Final = _Subject()
_subject: Final = ContextVar("subject", default=_NOTHING)


@contextmanager
def about(traceparent: str | None, job_id: uuid.UUID | None = None) -> Iterator[None]:
    """Make this the current trace and job of the body; without a job id the one before stays."""
    with _about(valid(traceparent), job_id):
        yield


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


@contextmanager
def _about(valid_traceparent: str | None, job_id: uuid.UUID | None) -> Iterator[None]:
    token = _subject.set(_Subject(valid_traceparent, job_id or _subject.get().job_id))
    try:
        yield
    finally:
        _subject.reset(token)


def valid(traceparent: str | None) -> str | None:
    """Return the trace context in version 00; None when it is none."""
    found = _TRACEPARENT.fullmatch(traceparent.strip()) if traceparent else None
    if found is None or (found["version"] == "00" and found["more"]):
        return None
    return f"00-{found['ids']}"


def new_trace() -> str:
    """Return the trace context of a trace that begins here."""
    return new_traceparent(uuid.uuid4(), secrets.token_bytes(8))


# --- what messages are called, by OpenTelemetry's semantic conventions for Kafka ---


def messaging(operation: Literal["send", "process"], topic: str) -> dict[str, Value]:
    """Return the attributes of something done with a message of a topic."""
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
    }


def place(partition: int, offset: int) -> dict[str, Value]:
    """Return the attributes of where a message is."""
    return {"messaging.destination.partition.id": str(partition), "messaging.kafka.offset": offset}


# --- spans ---


class Span(Protocol):
    """Something that takes time; `end` it once. Safe to end on another thread."""

    @property
    def traceparent(self) -> str:
        """The context to hand on to what this leads to."""
        ...

    def set(self, attributes: Attributes) -> None:
        """Say more about it."""

    def fail(self, error_type: str, sentence: str = "") -> None:
        """Say that it went wrong."""

    def end(self, at_ns: int | None = None) -> None:
        """End it, now or at a time in nanoseconds since the epoch."""


class Tracer(Protocol):
    """What makes spans."""

    def begin(
        self, name: str, kind: Kind, parent: str | None, attributes: Attributes | None, at_ns: int | None
    ) -> Span:
        """Return a span that has begun; one of a new trace without a parent."""
        ...

    def close(self, seconds: float) -> bool:
        """Send what has ended; False when it took too long."""
        ...


class _Unrecorded:
    """The span of a process that records none: nothing but its parent's context."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent

    def set(self, attributes: Attributes) -> None: ...

    def fail(self, error_type: str, sentence: str = "") -> None: ...

    def end(self, at_ns: int | None = None) -> None: ...


_tracer: Tracer | None = None


def is_on() -> bool:
    """Whether this process makes spans."""
    return _tracer is not None


def begin(
    name: str,
    kind: Kind = "internal",
    *,
    parent: str | None,
    attributes: Attributes | None = None,
    at_ns: int | None = None,
) -> Span:
    """Return a span that has begun, now or at `at_ns`; the first of a new trace when `parent` is no trace context."""
    return _begin(name, kind, valid(parent), attributes, at_ns)


def _begin(
    name: str, kind: Kind, valid_parent: str | None, attributes: Attributes | None, at_ns: int | None = None
) -> Span:
    if _tracer is None:
        return _Unrecorded(valid_parent or new_trace())
    return _tracer.begin(name, kind, valid_parent, attributes, at_ns)


@contextmanager
def span(
    name: str,
    kind: Kind = "internal",
    *,
    parent: str | None = None,
    job_id: uuid.UUID | None = None,
    attributes: Attributes | None = None,
) -> Iterator[Span]:
    """Make the body a span, and that the current one; its parent is the current one where none is given."""
    made = _begin(name, kind, valid(parent) if parent else current_traceparent(), attributes)
    with _about(made.traceparent, job_id):
        try:
            yield made
        except BaseException as error:
            made.fail(type(error).__qualname__, str(error))
            raise
        finally:
            made.end()


def record(name: str, seconds: float, *, ago: float = 0.0, attributes: Attributes | None = None) -> None:
    """Make something that took `seconds`, and ended `ago` seconds ago, a child of the current span."""
    if _tracer is None:
        return
    ended_ns = time.time_ns() - round(ago * 1e9)
    began_ns = ended_ns - round(seconds * 1e9)
    begin(name, parent=current_traceparent(), attributes=attributes, at_ns=began_ns).end(ended_ns)


def start(service: str) -> None:
    """Record and send spans from now on, when an OTLP endpoint is set; a log line says why not when it is in vain."""
    global _tracer  # noqa: PLW0603  # one process, one tracer
    if not _is_wanted():
        return
    if (protocol := _setting("PROTOCOL") or _PROTOCOL) != _PROTOCOL:
        logger.error("no traces: OTLP is spoken as %s, not as %s", _PROTOCOL, protocol, extra={"action": "trace"})
        return
    try:
        from docfleet.otel import OtlpTracer  # noqa: PLC0415  # in the extra `otel`
    except ModuleNotFoundError as missing:
        logger.error(  # noqa: TRY400  # says it all
            "no traces: OTEL_EXPORTER_OTLP_ENDPOINT is set, but %s is not installed; run: pip install 'docfleet[otel]'",
            missing.name,
            extra={"action": "trace"},
        )
        return
    _tracer = OtlpTracer(service)
    logger.info("traces are exported", extra={"action": "trace", "endpoint": _setting("ENDPOINT")})


def stop(deadline: Deadline) -> None:
    """Send what has ended, as far as the deadline and three seconds allow. Blocks."""
    global _tracer  # noqa: PLW0603
    tracer, _tracer = _tracer, None
    if tracer is not None and not tracer.close(min(_FLUSH_SECONDS, deadline.remaining())):
        logger.warning("the last spans were not sent in time", extra={"action": "trace"})


def _is_wanted() -> bool:
    is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    is_otlp = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() in {"", "otlp"}
    return bool(_setting("ENDPOINT")) and is_otlp and not is_disabled


def _setting(name: str) -> str:
    """Return OpenTelemetry's setting of the exporter: that of traces, else that of all signals."""
    return os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}") or ""
