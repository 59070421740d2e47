"""The system under test: a `docfleet up` of its own data dir, and what signals can be sent into it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from benchmarks.running import descendants
from docfleet.settings import COMMAND_VARIABLES
from docfleet.stack.data_dir import STACK_FILE
from docfleet.stack.ports import LOOPBACK, free_port
from docfleet.stack.processes import Program, spawn, stop, tail

_READY_SECONDS: Final = 300.0
_STOP_SECONDS: Final = 60.0
_NOT_OURS: Final = ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "STORAGE_EMULATOR_HOST", "DOCFLEET_BUCKET")

SESSION_SECONDS: Final = 6.0
STOP_DEADLINE_SECONDS: Final = 8.0
MAX_JOBS_IN_FLIGHT: Final = 16
#: Small documents, an answer that costs no processor time, and limits that are met within minutes.
ENVIRONMENT: Final = {
    "DOCFLEET_SIMULATED_MODEL_SECONDS": "0.03",
    "DOCFLEET_READERS": "2",
    "DOCFLEET_OCR": "false",
    "DOCFLEET_STRUCTURE_PAGES": "0",
    "DOCFLEET_MAX_JOBS_IN_FLIGHT": str(MAX_JOBS_IN_FLIGHT),
    "DOCFLEET_SESSION_TIMEOUT_SECONDS": f"{SESSION_SECONDS:g}",
    "DOCFLEET_REVOKE_DRAIN_SECONDS": "4",
    "DOCFLEET_STOP_DEADLINE_SECONDS": f"{STOP_DEADLINE_SECONDS:g}",
    "DOCFLEET_SWEEP_AFTER_SECONDS": "30",
    "DOCFLEET_SWEEP_INTERVAL_SECONDS": "3",
    "DOCFLEET_PUBLISH_TIMEOUT_SECONDS": "5",
    "DOCFLEET_OBJECT_TIMEOUT_SECONDS": "10",
}


class System:
    """A running stack; what of it runs is read anew at each question, since the stack restarts what dies."""

    def __init__(self, data_dir: Path, environment: Mapping[str, str]) -> None:
        self.data_dir = data_dir
        self._environment = environment
        self._extras: set[subprocess.Popen[bytes]] = set()

    @property
    def stack(self) -> dict[str, Any]:
        """What stack.json says now."""
        described: dict[str, Any] = json.loads((self.data_dir / STACK_FILE).read_text("utf-8"))
        return described

    def pid_of(self, name: str) -> int | None:
        """Return the process that goes by this name now; None while it is down."""
        pids = [int(one["pid"]) for one in self.stack["processes"] if one["name"] == name]
        return pids[0] if pids and is_alive(pids[0]) else None

    def readers(self) -> list[int]:
        """Return the reader children of all workers."""
        workers = [one["pid"] for one in self.stack["processes"] if one["name"].startswith("classifier_worker")]
        return sorted(pid for worker in workers for pid in descendants(worker))

    def metrics_urls(self, prefix: str) -> dict[str, str]:
        """Return where the processes whose name starts so tell their metrics."""
        return {one["name"]: one["metrics_url"] for one in self.stack["processes"] if one["name"].startswith(prefix)}

    def log_of(self, name: str) -> Path:
        """Return the log of a process."""
        return self.data_dir / "logs" / f"{name}.log"

    def start_extra_worker(self) -> "subprocess.Popen[bytes]":
        """Start a worker that the stack knows nothing of."""
        stack = self.stack
        environment = dict(self._environment) | {
            "KAFKA_BOOTSTRAP_SERVERS": stack["kafka_bootstrap_servers"],
            "STORAGE_EMULATOR_HOST": stack["gcs_endpoint"],
            "DOCFLEET_BUCKET": stack["gcs_bucket"],
            "DOCFLEET_HTTP_HOST": LOOPBACK,
            "DOCFLEET_HTTP_PORT": str(free_port()),
        }
        program = Program("extra", [sys.executable, "-m", "classifier_worker"], environment)
        worker = spawn(program, self.log_of("classifier_worker-extra"))
        self._extras.add(worker)
        return worker

    def end_extra_worker(self, worker: "subprocess.Popen[bytes]", *, is_killed: bool) -> None:
        """End such a worker. Blocks until it has ended."""
        if is_killed:
            worker.kill()
        stop(worker, signal.SIGTERM, within_seconds=STOP_DEADLINE_SECONDS + 5.0)
        worker.wait()
        self._extras.discard(worker)

    def end_extra_workers(self) -> None:
        """Kill those that still run."""
        for worker in list(self._extras):
            self.end_extra_worker(worker, is_killed=True)


@contextmanager
def running(data_dir: Path, *, workers: int = 2, settings: Mapping[str, str] | None = None) -> Iterator[System]:
    """Run a stack, ready, and end it with the block; it dies with this thread in any case."""
    kept = {name: text for name, text in os.environ.items() if name not in {*_NOT_OURS, *COMMAND_VARIABLES}}
    environment = kept | ENVIRONMENT | dict(settings or {})
    data_dir.mkdir(parents=True, exist_ok=True)
    shown = data_dir.parent / f"{data_dir.name}.log"
    argv = [sys.executable, "-m", "docfleet.cli", "up", "--port", "0"]
    argv += ["--data-dir", str(data_dir), "--workers", str(workers)]
    process = spawn(Program("docfleet", argv, environment), shown)
    system = System(data_dir, environment)
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while not _says_ready(shown):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"docfleet up is not ready:\n{tail(shown, lines=40)}")
            time.sleep(0.1)
        yield system
    finally:
        system.end_extra_workers()
        stop(process, signal.SIGTERM, within_seconds=_STOP_SECONDS)


def send(pid: int, number: signal.Signals) -> bool:
    """Send a signal; False when the process is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


def _says_ready(log: Path) -> bool:
    return any(line.startswith("ready ") for line in log.read_text("utf-8", "replace").splitlines())
