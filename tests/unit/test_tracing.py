"""The current trace and job, and what counts as a W3C trace context."""

import asyncio
import json
import logging
import sys
import threading
import uuid

import pytest

from classifier_worker.reader.slot import child_environment
from docfleet import telemetry, tracing
from docfleet.stack import services

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
JOB_ID = uuid.UUID(int=7)


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        (TRACEPARENT, TRACEPARENT),
        (f" {TRACEPARENT}\t", TRACEPARENT),
        (TRACEPARENT.replace("00-", "cc-", 1) + "-what-will-be", TRACEPARENT),
        (TRACEPARENT.removesuffix("01") + "00", TRACEPARENT.removesuffix("01") + "00"),
        (None, None),
        ("", None),
        (TRACEPARENT + "-00", None),
        (TRACEPARENT.replace("00-", "ff-", 1), None),
        (TRACEPARENT.upper(), None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE_ID}-{'0' * 16}-01", None),
        (f"00-{TRACE_ID}-00f067aa0ba902b7", None),
    ],
)
def test_only_what_w3c_allows_is_a_trace_context(given, understood):
    assert tracing.valid(given) == understood


def test_new_traces_are_valid_and_different():
    first, second = tracing.new_trace(), tracing.new_trace()
    assert tracing.valid(first) == first
    assert first[3:35] != second[3:35]


def test_trace_and_job_are_known_inside_and_forgotten_outside():
    with tracing.about(TRACEPARENT, JOB_ID):
        assert (tracing.current_trace_id(), tracing.current_job_id()) == (TRACE_ID, JOB_ID)
        with tracing.about(None):
            assert (tracing.current_trace_id(), tracing.current_job_id()) == (None, JOB_ID)
        with tracing.about("nonsense"):
            assert tracing.current_traceparent() is None
        assert tracing.current_traceparent() == TRACEPARENT
    assert (tracing.current_trace_id(), tracing.current_job_id()) == (None, None)


async def test_threads_and_tasks_have_their_own():
    async def other() -> str | None:
        with tracing.about(tracing.new_trace()):
            await asyncio.sleep(0)
            return tracing.current_trace_id()

    with tracing.about(TRACEPARENT, JOB_ID):
        others = await asyncio.gather(other(), other())
        assert len({TRACE_ID, *others}) == 3
        assert await asyncio.to_thread(tracing.current_trace_id) == TRACE_ID
        seen = []
        thread = threading.Thread(target=lambda: seen.append(tracing.current_trace_id()))
        thread.start()
        thread.join()
        assert seen == [None]


def test_spans_that_nobody_records_hand_their_parent_on():
    assert not tracing.is_on()
    with tracing.span("work", parent=TRACEPARENT, job_id=JOB_ID) as span:
        assert (span.traceparent, tracing.current_traceparent()) == (TRACEPARENT, TRACEPARENT)
        with tracing.span("part of it") as part:
            assert part.traceparent == TRACEPARENT
            assert tracing.current_job_id() == JOB_ID
    begun = tracing.begin("work", parent="nonsense")
    assert tracing.valid(begun.traceparent) == begun.traceparent


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"}, None),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "no traces: OTLP is spoken as http/protobuf, not as grpc",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
            "no traces: OTEL_EXPORTER_OTLP_ENDPOINT is set, but opentelemetry is not installed; "
            "run: pip install 'docfleet[otel]'",
        ),
    ],
)
def test_a_service_runs_without_traces_and_says_why_when_they_are_wanted(environment, said, monkeypatch, caplog):
    for variable, text in environment.items():
        monkeypatch.setenv(variable, text)
    for module in [name for name in sys.modules if name.startswith("opentelemetry.") or name == "docfleet.otel"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)  # as if it were not installed
    with caplog.at_level(logging.INFO):
        tracing.start("tests")
    assert not tracing.is_on()
    assert [record.getMessage() for record in caplog.records] == ([] if said is None else [said])


def test_log_records_say_what_they_are_about():
    line = telemetry._JsonFormatter("tests").format
    with tracing.about(TRACEPARENT, JOB_ID):
        told = json.loads(line(logging.makeLogRecord({"msg": "done"})))
        other = json.loads(line(logging.makeLogRecord({"msg": "done", "job_id": "another"})))
    assert (told["trace_id"], told["job_id"]) == (TRACE_ID, str(JOB_ID))
    assert other["job_id"] == "another", "a record knows better than its surroundings"
    assert not {"trace_id", "job_id"} & json.loads(line(logging.makeLogRecord({"msg": "done"}))).keys()


def test_services_of_the_local_stack_get_opentelemetrys_variables_and_readers_do_not(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "key=secret")
    neighbours = services.Neighbours("127.0.0.1:9092", "postgresql://", None, "docfleet")
    for name in ("producer_api", "status_service", "classifier_worker-0"):
        assert services.program(name, 8080, neighbours).environment["OTEL_EXPORTER_OTLP_HEADERS"] == "key=secret"
    assert not [name for name in child_environment() if name.startswith("OTEL_")]
