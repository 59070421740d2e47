"""A running docfleet for a benchmark: the one at DOCFLEET_URL, or a local stack started for the run."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests


@dataclass(frozen=True, slots=True)
class Fleet:
    """Where to post, with which key; `stack` is the content of stack.json, empty for a system elsewhere."""

    url: str
    api_key: str
    stack: dict[str, Any]

    def post(self, document: bytes, categories: list[str]) -> requests.Response:
        """Post a document and return the answer, whatever it says."""
        return requests.post(
            f"{self.url}/classify",
            files={"pdf_file": ("document", document, "application/octet-stream")},
            data={"categories": json.dumps([{"name": name} for name in categories])},
            headers={"api-key": self.api_key},
            timeout=120,
        )

    def finished(self, job_id: str, *, within_seconds: float) -> dict[str, Any]:
        """Wait for the job's end and return it; TimeoutError with the last state seen."""
        deadline = time.monotonic() + within_seconds
        while True:
            answer = requests.get(
                f"{self.url}/classify/{job_id}",
                params={"wait": str(round(max(0.0, min(30.0, deadline - time.monotonic())), 3))},
                headers={"api-key": self.api_key},
                timeout=60,
            )
            answer.raise_for_status()
            job: dict[str, Any] = answer.json()
            if job["status"] not in {"queued", "processing"}:
                return job
            if time.monotonic() > deadline:
                raise TimeoutError(f"job {job_id} after {within_seconds} s: {job}")

    def pids(self, name: str) -> list[int]:
        """Return the processes of the local stack whose name starts with `name`."""
        return [process["pid"] for process in self.stack["processes"] if process["name"].startswith(name)]

    def counter(self, metric: str, process_prefix: str) -> float:
        """Return a counter summed over labels and over the processes whose name starts with the prefix."""
        total = 0.0
        for process in self.stack["processes"]:
            if process["name"].startswith(process_prefix) and process["metrics_url"]:
                text = requests.get(process["metrics_url"], timeout=10).text
                lines = re.findall(rf"^{metric}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
                total += sum(map(float, lines))
        return total


@contextmanager
def fleet(*, workers: int = 1, environment: dict[str, str] | None = None) -> Iterator[Fleet]:
    """Give a running fleet: the system at DOCFLEET_URL, else a local stack that ends with the block."""
    if url := os.environ.get("DOCFLEET_URL"):
        yield Fleet(url.rstrip("/"), os.environ["DOCFLEET_API_KEY"], {})
        return
    with tempfile.TemporaryDirectory(prefix="docfleet-benchmark-") as scratch:
        folder = Path(scratch)
        command = [
            sys.executable,
            "-m",
            "docfleet.cli",
            "up",
            "--port",
            "0",
            "--data-dir",
            str(folder),
            "--workers",
            str(workers),
        ]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | (environment or {})
        ) as process:
            try:
                assert process.stdout is not None
                ready = process.stdout.readline()
                if not ready.startswith("ready "):
                    raise RuntimeError("docfleet up ended before it was ready; its messages are above")
                stack = json.loads((folder / "stack.json").read_text("utf-8"))
                yield Fleet(stack["url"], stack["api_key"], stack)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(60)


def peak_bytes(pid: int) -> int:
    """Return the highest resident size that a process has had so far; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found.group(1)) * 1024 if found else 0


def descendants(pid: int) -> list[int]:
    """Return the processes below `pid`, those of its children included."""
    below = []
    for child in _children(pid):
        below += [child, *descendants(child)]
    return below


def _children(pid: int) -> list[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError:
        return []  # it has just ended
    children: list[int] = []
    for thread in threads:
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has just ended
            children += map(int, (thread / "children").read_text("utf-8").split())
    return children
