"""A port is nobody else's from the moment it is chosen, long before a server listens on it."""

import json
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from docfleet.stack import ports
from docfleet.stack.ports import LOOPBACK, Ports, free_port
from tests.waiting import eventually_sync

#: Takes a port of the only two that there are, tells it, and stays.
OTHER_PROCESS = """
import sys
from docfleet.stack import ports
ports._LISTENING = (int(sys.argv[1]), int(sys.argv[1]) + 2)
print(ports.free_port(), flush=True)
sys.stdin.read()
"""


@contextmanager
def other_process(first: int) -> Iterator[int]:
    command = [sys.executable, "-c", OTHER_PROCESS, str(first)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the first of two ports that are all there is."""
    pairs = random.sample(range(32_000, 32_700, 2), 350)  # above those that anybody else is given
    found = next(port for port in pairs if not {port, port + 1} & ports._ours)
    monkeypatch.setattr(ports, "_LISTENING", (found, found + 2))
    return found


def test_two_processes_are_not_given_the_same_port_although_nobody_listens_yet(first: int) -> None:
    with other_process(first) as theirs, other_process(first) as another:
        assert {theirs, another} == {first, first + 1}
        assert free_port() not in {first, first + 1}


def test_one_process_is_not_given_the_same_port_twice(first: int) -> None:
    assert {free_port(), free_port()} == {first, first + 1}


def test_port_of_a_process_that_was_killed_is_free_again(first: int) -> None:
    with other_process(first) as theirs:
        pass
    eventually_sync(lambda: ports._take(theirs))


def test_port_that_somebody_listens_on_is_not_given(first: int) -> None:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, first))
        listener.listen()
        assert free_port() == first + 1


def test_purpose_keeps_its_port_until_another_process_has_it(first: int, tmp_path: Path) -> None:
    remembered = tmp_path / "ports.json"
    with other_process(first) as theirs:
        remembered.write_text(json.dumps({"kafka": theirs}))
        mine = Ports(remembered).take("kafka")
        assert mine != theirs
    taken = Ports(remembered)
    assert [taken.take("kafka"), taken.take("kafka")] == [mine, mine]
    assert json.loads(remembered.read_text()) == {"kafka": mine}
