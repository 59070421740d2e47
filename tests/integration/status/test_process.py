"""status_service as a process: its start, its probes, its stop."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import requests

from docfleet.kafka import Publisher
from docfleet.settings import KafkaSettings
from docfleet.stack.ports import free_port
from docfleet.stopping import Deadline
from schemas import topics
from tests.events import life
from tests.integration.status.serving import KEY, add_key
from tests.waiting import PATIENCE_SECONDS, eventually_sync


@contextmanager
def process(
    environment: dict[str, str], program: Sequence[str] = ("-m", "status_service")
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port = free_port()
    environment = {**os.environ, "DOCFLEET_HTTP_PORT": str(port), "DOCFLEET_HTTP_HOST": "127.0.0.1"} | environment
    running = subprocess.Popen([sys.executable, *program], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield running, f"http://127.0.0.1:{port}"
    finally:
        running.kill()
        running.communicate()


@pytest.fixture
def environment(kafka: str, topics: None, postgres: str) -> dict[str, str]:
    return {"KAFKA_BOOTSTRAP_SERVERS": kafka, "DATABASE_URL": postgres}


def test_process_projects_answers_and_stops_in_order(environment: dict[str, str]):
    job_id = uuid.uuid4()
    publisher = Publisher(KafkaSettings.from_mapping(environment), source="tests")
    add_key(environment["DATABASE_URL"], KEY, "acme")
    with process(environment) as (running, url):
        eventually_sync(lambda: requests.get(f"{url}/healthz/ready", timeout=5).status_code == 200)
        for event in life(job_id):
            topic = next(topic for topic in topics_read() if type(event) in topic.event_types)
            publisher.publish(topic, event).result(20)
        get = lambda wait: requests.get(f"{url}/classify/{job_id}?wait={wait}", headers={"api-key": KEY}, timeout=30)  # noqa: E731
        eventually_sync(lambda: get(0).json().get("status") == "completed")
        assert "docfleet_events_projected_total" in requests.get(f"{url}/metrics", timeout=5).text
        assert requests.get(f"{url}/healthz/live", timeout=5).status_code == 200
        running.send_signal(signal.SIGTERM)
        _, log = running.communicate(timeout=PATIENCE_SECONDS)
        assert running.returncode == 0, log
        assert [line for line in log.splitlines() if '"stopped"' in line and '"is_tidy": true' in line], log
    publisher.close(Deadline(5))


def topics_read():
    return topics.JOBS, topics.EVENTS, topics.PROGRESS


@pytest.mark.parametrize("needed", ["projector.LagReport.tell", "notify.sql", "census.metrics"])
def test_process_of_which_a_part_died_stops_in_order_and_says_so(environment: dict[str, str], needed: str):
    """The projector, who listens, who counts: each dies of a thing that it needs and that is not there."""
    module = needed.partition(".")[0]
    start = "import runpy; runpy.run_module('status_service', run_name='__main__')"
    program = f"from status_service import {module}; {needed} = None; {start}"
    with process(environment, ("-c", program)) as (running, _):
        _, log = running.communicate(timeout=PATIENCE_SECONDS)
        assert running.returncode == 1, log
        assert [line for line in log.splitlines() if '"stopped"' in line], log


def test_every_wrong_setting_is_named_at_the_start():
    environment = {"PATH": os.environ["PATH"], "DOCFLEET_GROUP_PROTOCOL": "modern", "DOCFLEET_TYPO": "1"}
    done = subprocess.run([sys.executable, "-m", "status_service"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "DOCFLEET_GROUP_PROTOCOL", "DOCFLEET_TYPO"):
        assert name in done.stderr
