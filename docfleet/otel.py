"""Spans by the OpenTelemetry SDK, sent as OTLP over HTTP: what the extra `otel` is for.

Sampler, limits, batches, endpoint and headers are the SDK's own variables (OTEL_TRACES_SAMPLER, OTEL_BSP_*,
OTEL_EXPORTER_OTLP_*). A thread of the SDK sends; while the collector is away it tries again, its queue fills and the
oldest spans are dropped, and nobody else waits. The provider is ours and not the process's, so that libraries that
know OpenTelemetry add nothing of their own.
"""

import threading
import uuid
from typing import Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from docfleet.release import release
from docfleet.tracing import Attributes, Kind

_SERVICE_NAME: Final = "service.name"
_KINDS: Final = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}


class OtlpSpan:
    """A span of the SDK, recorded or not, as the sampler decided."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: trace.Span) -> None:
        context = span.get_span_context()
        self._span = span
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"

    def set(self, attributes: Attributes) -> None:
        """Say more about it."""
        self._span.set_attributes(attributes)

    def fail(self, error_type: str, sentence: str = "") -> None:
        """Say that it went wrong."""
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(Status(StatusCode.ERROR, sentence or None))

    def end(self, at_ns: int | None = None) -> None:
        """End it."""
        self._span.end(at_ns)


class OtlpTracer:
    """The tracer of one service, by the environment's variables."""

    def __init__(self, service: str) -> None:
        self._provider = TracerProvider(resource=_resource(service), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("docfleet", release())

    def begin(
        self, name: str, kind: Kind, parent: str | None, attributes: Attributes | None, at_ns: int | None
    ) -> OtlpSpan:
        """Return a span that has begun."""
        context = None
        if parent is not None:
            is_remote = kind in {"server", "consumer"}
            context = trace.set_span_in_context(NonRecordingSpan(_context_of(parent, is_remote=is_remote)))
        return OtlpSpan(
            self._tracer.start_span(name, context, kind=_KINDS[kind], attributes=attributes, start_time=at_ns)
        )

    def close(self, seconds: float) -> bool:
        """Send what has ended; False when it took longer than `seconds`."""
        # The SDK's own shutdown waits for half a minute, and a collector that does not answer must not delay a stop.
        sending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        sending.start()
        sending.join(seconds)
        return not sending.is_alive()


def _context_of(traceparent: str, *, is_remote: bool) -> SpanContext:
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote, TraceFlags(int(flags, 16)))


def _resource(service: str) -> Resource:
    """Return what this process is; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word."""
    told = Resource.create()
    ours = {
        _SERVICE_NAME: service,
        "service.namespace": "docfleet",
        "service.version": release(),
        "service.instance.id": str(uuid.uuid4()),
    }
    unknown = str(told.attributes.get(_SERVICE_NAME, "")).startswith("unknown_service")
    known = {name for name in told.attributes if not (name == _SERVICE_NAME and unknown)}
    return told.merge(Resource({name: text for name, text in ours.items() if name not in known}))
