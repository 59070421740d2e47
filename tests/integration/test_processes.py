"""Children of the local stack: started again when they die, stopped in time, gone with their parent."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from docfleet.stack.data_dir import DataDir
from docfleet.stack.processes import Program, Supervisor, spawn, stop
from tests.e2e.running import is_alive
from tests.waiting import PATIENCE_SECONDS, eventually, eventually_sync

SLEEP = ["sleep", "600"]
#: Says "deaf" when SIGTERM no longer reaches it.
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
]


@pytest.fixture
def starts() -> list[str]:
    return []


@pytest.fixture
async def sleeper(tmp_path: Path, starts: list[str]) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(Program("sleeper", SLEEP), tmp_path / "sleeper.log", lambda: starts.append("started"))
    supervisor.start()
    yield supervisor
    await supervisor.stop(within_seconds=5)


async def test_process_that_dies_is_started_again(sleeper: Supervisor, starts: list[str]) -> None:
    first = sleeper.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: sleeper.pid != first)
    assert sleeper.pid is not None
    assert is_alive(sleeper.pid)
    assert not is_alive(first)
    assert starts == ["started", "started"]


async def test_stopped_process_is_not_started_again(sleeper: Supervisor, starts: list[str]) -> None:
    pid = sleeper.pid
    assert pid is not None
    await sleeper.stop(within_seconds=5)
    assert not is_alive(pid)
    assert starts == ["started"]


async def test_process_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "deaf.log"
    supervisor = Supervisor(Program("deaf", DEAF), log, lambda: None)
    supervisor.start()
    await eventually(lambda: "deaf" in log.read_text())
    pid = supervisor.pid
    assert pid is not None
    await supervisor.stop(within_seconds=0.2)
    assert not is_alive(pid)


def test_child_dies_with_its_parent(tmp_path: Path) -> None:
    parent_code = (
        "import pathlib, sys, time; from docfleet.stack.processes import Program, spawn;"
        f"print(spawn(Program('child', {SLEEP!r}), pathlib.Path({str(tmp_path / 'log')!r})).pid, flush=True);"
        "time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_alive(child)
    parent.kill()
    parent.communicate()
    eventually_sync(lambda: not is_alive(child))


def test_program_that_is_not_there_is_named_in_its_log(tmp_path: Path) -> None:
    process = spawn(Program("nothing", ["/no/such/program"]), tmp_path / "log")
    assert process.wait(PATIENCE_SECONDS) != 0
    assert "cannot start /no/such/program" in (tmp_path / "log").read_text()


async def test_leftovers_of_a_killed_run_are_ended_and_strangers_are_not(tmp_path: Path) -> None:
    leftover = spawn(Program("leftover", SLEEP), tmp_path / "log")
    stranger = spawn(Program("stranger", SLEEP), tmp_path / "log")
    data_dir = DataDir(tmp_path)
    data_dir.remember_running([leftover.pid, stranger.pid])
    noted = (tmp_path / "running.json").read_text()
    # the stranger has the pid of a process that ended long ago
    (tmp_path / "running.json").write_text(noted.replace(f'"{stranger.pid}": ', f'"{stranger.pid}": 1'))

    assert data_dir.end_leftovers() == 1
    assert leftover.wait(PATIENCE_SECONDS) == -signal.SIGTERM
    assert is_alive(stranger.pid)
    assert data_dir.end_leftovers() == 0
    stop(stranger, signal.SIGTERM, within_seconds=5)
