"""Services as processes over one set of servers, some of them told to die at a named step, and what became of jobs."""

import json
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import requests
from psycopg.rows import dict_row

from docfleet import keys
from docfleet.fault_points import STEPS
from docfleet.stack.ports import free_port
from docfleet.stack.processes import Program, spawn, tail
from schemas import codec, events, topics
from tests import documents
from tests.integration.worker.running import EventLog
from tests.servers import Gcs
from tests.waiting import eventually_sync

CATEGORIES = json.dumps(["invoice", "letter"])
#: Everything that is waited for when a process dies is short here.
SETTINGS = {
    "HTTP_HOST": "127.0.0.1",
    "SIMULATED_MODEL_SECONDS": "0.02",
    "READERS": "1",
    "OCR": "false",
    "STRUCTURE_PAGES": "0",
    "SESSION_TIMEOUT_SECONDS": "2",
    "IDEMPOTENCY_LEASE_SECONDS": "1",
    "PUBLISH_TIMEOUT_SECONDS": "1",
    "RELAY_INTERVAL_SECONDS": "0.2",
    "RETRY_BASE_SECONDS": "0.1",
    "RETRY_MAX_SECONDS": "0.5",
}
ENDS = (events.ClassificationCompleted, events.ClassificationFailed)


@dataclass(frozen=True)
class Service:
    """One process."""

    name: str
    process: "subprocess.Popen[bytes]"
    url: str
    log_path: Path

    @property
    def is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise SystemExit(f"{self.name} ended with {self.process.returncode}: {tail(self.log_path)}")
        try:
            return requests.get(f"{self.url}/healthz/ready", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def died_by_itself(self, within: float = 30.0) -> bool:
        """Wait for the end of the process; whether it was the signal that a fault point sends."""
        return self.process.wait(within) == -signal.SIGKILL


@dataclass
class Scene:
    """A database, a bucket and a broker, and the processes started over them."""

    kafka: str
    dsn: str
    gcs: Gcs
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)  #: of every service, besides its settings
    key: str = field(default_factory=keys.new_key)
    services: list[Service] = field(default_factory=list)

    def start(self, module: str, name: str = "", **settings: str) -> Service:
        """Start a service and return at once."""
        name = name or module
        port = free_port()
        own = {name.upper(): text for name, text in settings.items()}
        environment = {f"DOCFLEET_{variable}": text for variable, text in (SETTINGS | own).items()}
        servers = {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka,
            "STORAGE_EMULATOR_HOST": self.gcs.endpoint,
            "DOCFLEET_BUCKET": self.gcs.bucket,
            "DATABASE_URL": self.dsn,
            "DOCFLEET_HTTP_PORT": str(port),
        }
        argv = [sys.executable, "-m", module]
        log_path = self.folder / f"{name}.log"
        process = spawn(Program(name, argv, inherited() | self.environment | environment | servers), log_path)
        self.services.append(Service(name, process, f"http://127.0.0.1:{port}", log_path))
        return self.services[-1]

    def doomed(self, module: str, step: str, **settings: str) -> Service:
        """Start a service that dies when it comes to this step."""
        assert step in STEPS
        return self.start(module, f"{module}-{step}", fault_at=f"{step}:1", **settings)

    def post(self, producer: Service, idempotency_key: str, **more: str) -> str | None:
        """Post a small document, with more headers if there are any; None when there was no 202."""
        headers = {"api-key": self.key, "Idempotency-Key": idempotency_key} | more
        files = {"pdf_file": ("document", documents.pdf(pages=1))}
        data = {"categories": CATEGORIES}
        try:
            answer = requests.post(f"{producer.url}/classify", headers=headers, files=files, data=data, timeout=60)
        except requests.RequestException:
            return None
        return str(answer.json()["job_id"]) if answer.status_code == 202 else None

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the jobs that were posted here."""
        with psycopg.connect(self.dsn, row_factory=dict_row) as connection:
            rows = connection.execute("select * from jobs where key_id is not null").fetchall()
        return {str(row["job_id"]): row for row in rows}

    def ended(self, job_ids: set[str], *, within: float = 60.0) -> dict[str, str]:
        """Return how each of the jobs ended, once all have."""

        def states() -> dict[str, str] | None:
            rows = self.rows()
            found = {job_id: str(rows[job_id]["status"]) for job_id in job_ids}
            return found if all(state in {"completed", "failed"} for state in found.values()) else None

        found = eventually_sync(states, within=within, poll_seconds=0.1)
        assert found is not None
        return found

    def ends_said(self) -> dict[str, Counter[str]]:
        """Return how often each kind of terminal event was said of each job."""
        log = EventLog(self.kafka, topics.EVENTS.name)
        said: dict[str, Counter[str]] = {}
        try:
            for event in (codec.decode(message.value()) for message in log.everything()):
                if isinstance(event, ENDS):
                    said.setdefault(str(event.job_id), Counter())[type(event).__name__] += 1
        finally:
            log.close()
        return said


@contextmanager
def scene(
    kafka: str, dsn: str, gcs: Gcs, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Scene]:
    """Give a scene without a service; whatever was started in it is killed at its end."""
    opened = Scene(kafka, dsn, gcs, folder, environment or {})
    keys.add(dsn, opened.key, name=f"chaos-{uuid.uuid4()}", quota_limit=10_000, rate_per_minute=None)
    try:
        yield opened
    finally:
        for service in opened.services:
            service.process.kill()
            service.process.wait()


def inherited() -> Mapping[str, str]:
    import os

    return {name: text for name, text in os.environ.items() if not name.startswith("DOCFLEET_")}
