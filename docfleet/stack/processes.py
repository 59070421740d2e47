"""Child processes of the local stack: start them, keep them alive, stop them.

Knows no Kafka and no service: a `Program` says what to run, `Supervisor` runs it again when it dies.
A child dies with its parent (launch.py) and writes its output to a log file of its own.
"""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

_LAUNCHER: Final = Path(__file__).with_name("launch.py")
_POLL_SECONDS: Final = 0.05
#: A log larger than this is moved to `<name>.log.1` when its process starts.
_ROTATE_BYTES: Final = 20 * 1024 * 1024
_BACKOFF_SECONDS: Final = 0.5
_MAX_BACKOFF_SECONDS: Final = 30.0
#: A process that lived this long starts its backoff anew.
_STEADY_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: `user` is the account that root is given up for, with a leading + if it must pass closed folders."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    stop_signal: signal.Signals = signal.SIGTERM
    user: str = "-"


def spawn(program: Program, log_path: Path) -> subprocess.Popen[bytes]:
    """Start `program` with its output appended to `log_path`.

    Call it on a thread that lives as long as the child may: the kernel counts the death of the
    starting thread as the death of the parent.
    """
    if log_path.exists() and log_path.stat().st_size > _ROTATE_BYTES:
        log_path.replace(log_path.with_name(log_path.name + ".1"))
    with log_path.open("ab") as log:
        return subprocess.Popen(  # noqa: S603  # our own programs
            _argv(program),
            env=dict(program.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches `docfleet up` alone, which stops the others in order
        )


def run(program: Program) -> subprocess.CompletedProcess[str]:
    """Run `program` to its end and return its exit code and output; blocks."""
    environment = dict(program.environment)
    return subprocess.run(_argv(program), env=environment, capture_output=True, text=True, check=False)  # noqa: S603


def _argv(program: Program) -> list[str]:
    launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), str(int(program.stop_signal))]
    return [*launcher, program.user, *program.argv]


def stop(process: subprocess.Popen[bytes], stop_signal: signal.Signals, *, within_seconds: float) -> None:
    """Stop `process` politely, and by SIGKILL when it still runs after `within_seconds`; blocks."""
    if process.poll() is None:
        process.send_signal(stop_signal)
        try:
            process.wait(within_seconds)
        except subprocess.TimeoutExpired:
            kill_group(process)
            process.wait()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill `process` and what it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def tail(log_path: Path, *, lines: int = 12) -> str:
    """Return the last lines of a log, for a message that says why a process failed."""
    if not log_path.exists():
        return ""
    with log_path.open("rb") as log:
        log.seek(max(0, log_path.stat().st_size - 16_384))
        return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])


class Supervisor:
    """One process that is started again when it dies; `on_start` hears of every start."""

    def __init__(self, program: Program, log_path: Path, on_start: Callable[[], None]) -> None:
        self.program = program
        self.log_path = log_path
        self._on_start = on_start
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The process id of the current incarnation; None before the first start."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process and watch over it; call it on the event loop's thread."""
        self._spawn()
        self._watch = asyncio.create_task(self._keep_alive(), name=f"keep {self.program.name} alive")

    async def stop(self, *, within_seconds: float) -> None:
        """Stop the process for good; SIGKILL when it still runs after `within_seconds`."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(self.program.stop_signal)
        if not await _exited(process, within_seconds):
            logger.warning("%s did not stop within %.0f s; killed", self.program.name, within_seconds)
        kill_group(process)  # children of a service outlive it only by mistake
        process.wait()

    def _spawn(self) -> None:
        self._process = spawn(self.program, self.log_path)
        self._on_start()

    async def _keep_alive(self) -> None:
        delay_seconds = _BACKOFF_SECONDS
        while True:
            process, started = self._process, time.monotonic()
            if process is None:
                return
            await _exited(process, None)
            kill_group(process)
            if time.monotonic() - started > _STEADY_SECONDS:
                delay_seconds = _BACKOFF_SECONDS
            logger.warning(
                "%s ended (%s); starting it again in %.1f s, see %s",
                *(self.program.name, _describe(process.returncode), delay_seconds, self.log_path),
            )
            await asyncio.sleep(delay_seconds)
            delay_seconds = min(_MAX_BACKOFF_SECONDS, 2 * delay_seconds)
            self.restarts += 1
            self._spawn()


async def _exited(process: subprocess.Popen[bytes], within_seconds: float | None) -> bool:
    """Wait for the end of `process`; False when it outlived `within_seconds`."""
    deadline = None if within_seconds is None else time.monotonic() + within_seconds
    while process.poll() is None:
        if deadline is not None and time.monotonic() >= deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True


def _describe(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        return f"by {signal.Signals(-returncode).name}"
    return f"exit code {returncode}"
