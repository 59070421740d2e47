"""The folder of one stack: its lock, its key, what runs, its logs.

Holds all data between two runs. Only its owner may read it, since the key and the database's
password are in it.
"""

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from docfleet.stack.faults import CannotStart

STACK_FILE: Final = "stack.json"
#: How long processes of a run that was killed may take to end by themselves.
_LEFTOVER_SECONDS: Final = 10.0


class DataDir:
    """The folder, created when it is new."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._running = self.path / "running.json"
        self._lock_descriptor: int | None = None

    def lock(self) -> None:
        """Create the folder and make it this process's alone, until the process ends in whatever way.

        Raises:
            CannotStart: another stack runs on it, or it cannot be written.

        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.path / "logs").mkdir(exist_ok=True)
            self._lock_descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotStart(f"the data dir {self.path} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock_descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(
                f"a stack is already running on the data dir {self.path}; stop it or choose another with --data-dir"
            ) from None

    def log_path(self, name: str) -> Path:
        """Return the log of a process."""
        return self.path / "logs" / f"{name}.log"

    def api_key(self) -> str:
        """Return the folder's own key, made at the first call."""
        from docfleet import keys  # needs PostgreSQL's driver, which who only reads stack.json may not have

        file = self.path / "api-key"
        if not file.exists():
            write_atomically(file, keys.new_key() + "\n")
        return file.read_text().strip()

    def write_stack(self, stack: Mapping[str, Any]) -> None:
        """Publish what runs where, for people and for `docfleet classify`."""
        write_atomically(self.path / STACK_FILE, json.dumps(stack, indent=2) + "\n")

    def remember_running(self, pids: Iterable[int]) -> None:
        """Note the processes of this run, so that the next run can end them if this one cannot."""
        started = {str(pid): ticks for pid in pids if (ticks := _start_ticks(pid)) is not None}
        write_atomically(self._running, json.dumps(started))

    def end_leftovers(self) -> int:
        """End what a killed run left behind and return how many processes that were; blocks up to ten seconds."""
        if not self._running.exists():
            return 0
        noted: dict[str, int] = json.loads(self._running.read_text())
        alive = [int(pid) for pid, ticks in noted.items() if _start_ticks(int(pid)) == ticks]
        for pid in alive:
            _send(pid, signal.SIGTERM)
        deadline = time.monotonic() + _LEFTOVER_SECONDS
        while time.monotonic() < deadline and any(_start_ticks(pid) == noted[str(pid)] for pid in alive):
            time.sleep(0.05)
        for pid in alive:
            if _start_ticks(pid) == noted[str(pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
        self._running.unlink()
        return len(alive)


def read_stack(path: Path) -> dict[str, Any] | None:
    """Return the `stack.json` of a data dir; None when no stack ever ran there."""
    file = path / STACK_FILE
    if not file.exists():
        return None
    stack: dict[str, Any] = json.loads(file.read_text())
    return stack


def write_atomically(file: Path, text: str) -> None:
    """Replace the file's text in one step; only its owner can read it."""
    draft = file.with_name(f".{file.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    draft.replace(file)


def _start_ticks(pid: int) -> int | None:
    """Return when the process started, in ticks since boot, which with the pid names it for good; None: it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may contain anything
    state, start_ticks = fields[0], int(fields[19])
    return None if state in {"Z", "X"} else start_ticks


def _send(pid: int, signal_number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal_number)
