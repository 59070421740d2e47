"""Runs `docfleet up` as a user does: a process of its own, its ready line, its stack.json."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from docfleet.stack.processes import tail

_READY_SECONDS = 300.0
_STOP_SECONDS = 60.0

#: Variables that would send a test's stack to somebody else's servers.
_NOT_OURS = ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "STORAGE_EMULATOR_HOST", "DOCFLEET_BUCKET")


class RunningStack:
    """One stack, which a test may stop and start again."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        self._options = options
        self.url = ""
        self.api_key = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and return when it has printed its ready line."""
        environment = {name: text for name, text in os.environ.items() if name not in _NOT_OURS}
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        shown = self.data_dir.parent / "shown.log"
        with shown.open("a") as stderr:
            self._process = subprocess.Popen(
                [*command(), "up", "--port", "0", "--data-dir", str(self.data_dir), *self._options],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment,
            )
        line = self._first_line()
        if not line.startswith("ready "):
            raise AssertionError(f"`docfleet up` printed {line!r} and showed:\n{tail(shown, lines=60)}")
        _, self.url, _, self.api_key = line.split()

    def stop(self) -> int:
        """Ask it to stop and return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        rest, _ = self._process.communicate(timeout=_STOP_SECONDS)
        assert rest == "", "stdout is for the ready line alone"
        return self._process.returncode

    def kill(self) -> None:
        """End it as the kernel does when memory runs out."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    @property
    def is_running(self) -> bool:
        """Whether `docfleet up` itself lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def description(self) -> dict[str, Any]:
        """What stack.json says now."""
        described: dict[str, Any] = json.loads((self.data_dir / "stack.json").read_text())
        return described

    def pid_of(self, name: str) -> int:
        """Return the pid of a process by its name in stack.json."""
        (pid,) = [process["pid"] for process in self.description["processes"] if process["name"] == name]
        return int(pid)

    def process_tree(self) -> set[int]:
        """Return the pids of `docfleet up`, of all that it started, and of all that those started."""
        assert self._process is not None
        tree = {self._process.pid}
        grown = True
        while grown:
            children = {pid for pid, parent in _parents().items() if parent in tree} - tree
            tree |= children
            grown = bool(children)
        return tree

    def _first_line(self) -> str:
        assert self._process is not None
        stdout = self._process.stdout
        assert stdout is not None
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            try:
                return lines.get(timeout=1.0)
            except queue.Empty:
                continue
        return "nothing"


def command() -> list[str]:
    """Return the command `docfleet` of this interpreter."""
    return [sys.executable, "-m", "docfleet.cli"]


def is_alive(pid: int) -> bool:
    """Whether a process with this pid exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


def _parents() -> dict[int, int]:
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
                continue
            parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    return parents
