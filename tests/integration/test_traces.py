"""One trace a job: what three services export about it to an OTLP receiver, what Kafka carries, what logs say."""

import json
import secrets
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from docfleet import tracing
from docfleet.stack.ports import free_port
from docfleet.stopping import Deadline
from schemas import codec, events, topics
from schemas.topics import EVENTS
from tests import otlp, servers
from tests.chaos.scene import Scene, Service, scene
from tests.integration.worker.running import EventLog
from tests.waiting import eventually_sync

#: Nothing is sent before the stop, so whatever arrives was flushed by it.
LATE = {"OTEL_BSP_SCHEDULE_DELAY": "600000"}
STOP_SECONDS = 8
#: A busy machine must not look like a broken one, which would do a job twice.
STEADY = {
    "stop_deadline_seconds": str(STOP_SECONDS),
    "session_timeout_seconds": "30",
    "publish_timeout_seconds": "30",
}
CLIENT_SPAN = "00f067aa0ba902b7"

Open = Callable[[dict[str, str]], AbstractContextManager[Scene]]


@pytest.fixture
def collector() -> Iterator[otlp.Receiver]:
    with otlp.receiver() as receiver:
        yield receiver


@pytest.fixture
def open_scene(kafka: str, topics: None, postgres: str, gcs: servers.Gcs, tmp_path: Path) -> Open:
    servers.empty_topic(kafka, EVENTS)  # the new database's projector would tell spans of all that tests before said
    return lambda environment: scene(kafka, postgres, gcs, tmp_path, environment)


def start_all(scene: Scene, **settings: str) -> dict[str, Service]:
    names = ("producer_api", "status_service", "classifier_worker")
    services = {name: scene.start(name, **STEADY | settings) for name in names}
    eventually_sync(lambda: all(service.is_ready for service in services.values()), within=90)
    return services


def stop_all(services: dict[str, Service]) -> None:
    for service in services.values():
        service.process.send_signal(signal.SIGTERM)
    for service in services.values():
        assert service.process.wait(STOP_SECONDS + 10) == 0, service.log_path.read_text()[-3000:]


def post(scene: Scene, services: dict[str, Service], *, flags: str = "01") -> tuple[str, str]:
    """Post a document in a trace of the client's, wait for the job's end, and return the ids of both."""
    trace_id = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace_id}-{CLIENT_SPAN}-{flags}"}
    job_id = scene.post(services["producer_api"], secrets.token_hex(8), **headers)
    assert job_id is not None
    scene.ended({job_id})
    return job_id, trace_id


def records(services: dict[str, Service]) -> list[dict[str, Any]]:
    """Return what all services have logged."""
    lines = [line for service in services.values() for line in service.log_path.read_text().splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


def tree(spans: list[otlp.Received]) -> dict[str, list[str]]:
    """Return whose child each span is, as `service: name`."""
    names = {span.span_id: f"{span.service}: {span.name}" for span in spans} | {CLIENT_SPAN: "the client"}
    children: dict[str, list[str]] = {}
    for span in spans:
        children.setdefault(names[span.parent_id], []).append(names[span.span_id])
    return {parent: sorted(found) for parent, found in children.items()}


def contexts(scene: Scene, job_id: str) -> dict[str, str]:
    """Return the trace contexts that the job's messages carry, by the kind of event."""
    log = EventLog(scene.kafka, topics.JOBS.name, topics.EVENTS.name, topics.PROGRESS.name)
    log.until(uuid.UUID(job_id), events.ClassificationCompleted)
    mine = [message for message in log.messages if message.key() == job_id.encode()]
    log.close()
    return {
        type(codec.decode(message.value())).__name__: codec.header(message.headers(), "traceparent") or ""
        for message in mine
    }


def test_a_job_is_one_trace_over_all_services(open_scene: Open, collector: otlp.Receiver) -> None:
    with open_scene(LATE | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}) as scene:
        services = start_all(scene)
        job_id, trace_id = post(scene, services)
        unwanted_job, unwanted_trace = post(scene, services, flags="00")
        carried, unwanted = contexts(scene, job_id), contexts(scene, unwanted_job)
        assert collector.spans == [], "whatever comes was sent by the stop"
        stop_all(services)

    spans = collector.of(trace_id)
    received = "classifier_worker: process docfleet.jobs"
    assert tree(spans) == {
        "the client": ["producer_api: POST /classify"],
        "producer_api: POST /classify": ["producer_api: send docfleet.jobs"],
        "producer_api: send docfleet.jobs": [received, "status_service: process docfleet.jobs"],
        received: [
            "classifier_worker: batch_wait",
            "classifier_worker: model",
            "classifier_worker: read",
            "classifier_worker: send docfleet.events",
            "classifier_worker: send docfleet.events",
        ],
        "classifier_worker: read": ["classifier_worker: fetch"],
        "classifier_worker: send docfleet.events": ["status_service: process docfleet.events"] * 2,
    }
    assert not any(span.is_error for span in spans)
    assert all(span.started_ns <= span.ended_ns for span in spans)
    by_name = {span.name: span for span in spans}
    assert by_name["POST /classify"].kind == "server"
    assert by_name["POST /classify"].attributes["http.response.status_code"] == 202
    sent = by_name["send docfleet.jobs"]
    assert sent.kind == "producer"
    assert sent.attributes["messaging.system"] == "kafka"
    assert sent.attributes["messaging.destination.name"] == "docfleet.jobs"
    assert sent.attributes["messaging.kafka.message.key"] == job_id
    (worked,) = [span for span in spans if f"{span.service}: {span.name}" == received]
    assert worked.kind == "consumer"
    assert worked.attributes["docfleet.outcome"] == "completed"
    for place in ("messaging.destination.partition.id", "messaging.kafka.offset"):
        assert worked.attributes[place] == sent.attributes[place]

    # a message carries the span that sent it, and a sign of life, which is no span, that of its job
    sent_events = {span.attributes["docfleet.event"]: span.span_id for span in spans if span.kind == "producer"}
    sent_events["ClassificationProgressed"] = worked.span_id
    assert carried == {event: f"00-{trace_id}-{span_id}-01" for event, span_id in sent_events.items()}

    # what the client does not want is not recorded, and everybody is told so
    assert collector.of(unwanted_trace) == []
    assert {(context[:35], context[-2:]) for context in unwanted.values()} == {(f"00-{unwanted_trace}", "00")}

    said = records(services)
    for job, trace in ((job_id, trace_id), (unwanted_job, unwanted_trace)):
        about_it = [record for record in said if record.get("job_id") == job or record.get("trace_id") == trace]
        assert {record["service"] for record in about_it} >= {"producer_api", "classifier_worker"}
        assert {(record["job_id"], record["trace_id"]) for record in about_it} == {(job, trace)}


def test_retries_are_in_the_trace_of_their_job(open_scene: Open, collector: otlp.Receiver) -> None:
    with open_scene({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.url}/v1/traces"}) as scene:
        # the model never answers in time, which is a passing failure
        services = start_all(scene, max_attempts="2", simulated_model_seconds="2", model_seconds="0.01")
        _, trace_id = post(scene, services)
        stop_all(services)
    spans = {f"{span.service}: {span.name}": span for span in collector.of(trace_id)}
    attempts = [spans[f"classifier_worker: process {topic}"] for topic in ("docfleet.jobs", "docfleet.jobs.retry")]
    assert [span.attributes["docfleet.attempt"] for span in attempts] == [1, 2]
    assert [span.attributes["docfleet.outcome"] for span in attempts] == ["retried", "failed"]
    assert [span.attributes["error.type"] for span in attempts] == ["MODEL_FAILED", "ATTEMPTS_EXHAUSTED"]
    assert all(span.is_error for span in attempts)
    again = spans["classifier_worker: send docfleet.jobs.retry"]
    assert (again.parent_id, attempts[1].parent_id) == (attempts[0].span_id, again.span_id)
    assert spans["classifier_worker: send docfleet.jobs.dlq"].parent_id == attempts[1].span_id


def test_a_collector_that_is_away_delays_no_job_and_no_stop(open_scene: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, open_scene({"OTEL_BSP_SCHEDULE_DELAY": "100"}) as scene:
        away = f"http://127.0.0.1:{free_port()}"
        hangs = f"http://127.0.0.1:{silent.getsockname()[1]}"  # connects, and never answers
        services = {}
        for name, url in (("producer_api", hangs), ("status_service", away), ("classifier_worker", hangs)):
            scene.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": url}
            services[name] = scene.start(name, **STEADY)
        eventually_sync(lambda: all(service.is_ready for service in services.values()), within=90)
        post(scene, services)
        stop_all(services)
        assert "the last spans were not sent in time" in services["classifier_worker"].log_path.read_text()


def test_settings_of_opentelemetry_are_its_own(collector: otlp.Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=a-name-of-theirs")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    monkeypatch.setattr(tracing, "_tracer", None)
    tracing.start("tests")
    assert tracing.is_on()
    wanted = f"00-{'a' * 32}-{CLIENT_SPAN}-01"
    with tracing.span("wanted by the caller", "server", parent=wanted):
        pass
    with tracing.span("begun here") as begun:
        assert begun.traceparent.endswith("-00")
    tracing.stop(Deadline(10))
    assert not tracing.is_on()
    (span,) = collector.spans
    assert (span.service, span.name, span.parent_id) == ("a-name-of-theirs", "wanted by the caller", CLIENT_SPAN)
