"""`docfleet top` on a running stack: as text, as JSON, on a terminal, and through a Prometheus."""

import fcntl
import json
import os
import shutil
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from unsiloed_sdk import UnsiloedClient

from docfleet.stack import prometheus_server
from docfleet.stack.ports import free_port
from docfleet.stack.processes import spawn, stop
from tests import documents
from tests.e2e.running import RunningStack, command
from tests.e2e.test_cli import docfleet
from tests.waiting import eventually_sync

SERVICES = ["producer_api", "status_service", "classifier_worker-0"]
ENTER_SCREEN, LEAVE_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"


@pytest.fixture
def busy_stack(stack: RunningStack) -> RunningStack:
    """A stack that has completed a job and failed one."""
    client = UnsiloedClient(api_key=stack.api_key, base_url=stack.url)
    for document in (documents.pdf(pages=1), b"%PDF-1.7\nnothing else"):
        client.classify_and_wait(file=document, categories=["invoice", "menu"], poll_interval=0.2)
    client.close()
    return stack


def test_text_shows_every_process_and_what_became_of_jobs(busy_stack: RunningStack) -> None:
    shown = docfleet("top", "--data-dir", str(busy_stack.data_dir), "--interval", "0.5")
    assert shown.returncode == 0, shown.stderr
    assert "\x1b" not in shown.stdout
    lines = shown.stdout.splitlines()
    assert lines[0].startswith(f"docfleet top  {busy_stack.data_dir}  3 of 3 processes up")
    rows = {words[0]: words for line in lines if (words := line.split())}
    assert rows["jobs"][1:3] == ["accepted", "0.0/s"]
    assert rows["time"][3] == "p50"
    for name in SERVICES:
        assert rows[name][1] == name.partition("-")[0]
    assert int(rows["UNREADABLE_DOCUMENT"][1]) >= 1


def test_json_says_the_same_to_programs(busy_stack: RunningStack) -> None:
    running = busy_stack.description["processes"]
    urls = [process["metrics_url"] for process in running if process["name"] in SERVICES]

    def fleet_with_lag() -> dict[str, Any] | None:  # which a worker tells some seconds after it was given partitions
        shown = docfleet("top", "--json", "--interval", "0.5", "--metrics", *urls)
        assert shown.returncode == 0, shown.stderr
        fleet: dict[str, Any] = json.loads(shown.stdout)
        return fleet if "docfleet.jobs" in fleet["consumer_lag"] else None

    fleet = eventually_sync(fleet_with_lag)
    assert fleet is not None
    assert [process["program"] for process in fleet["processes"]] == [name.partition("-")[0] for name in SERVICES]
    assert [process["jobs_in_flight"] for process in fleet["processes"]] == [None, None, 0]
    assert all(process["is_up"] for process in fleet["processes"])
    assert (fleet["completed_per_second"], fleet["outbox_depth"], fleet["jobs_held_back"]) == (0.0, 0, 0)
    assert fleet["jobs"].keys() == {"queued", "processing"}
    assert fleet["consumer_lag"]["docfleet.jobs"] == 0
    assert fleet["times"]["p50_seconds"] > 0


@contextmanager
def terminal(*arguments: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Run the command on a terminal of its own; yield it and the other end."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    os.set_blocking(ours, False)
    process = subprocess.Popen(
        [*command(), *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color"},
        start_new_session=True,
        # Ctrl-C on a terminal reaches whom it controls
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_terminal_shows_it_again_and_again_until_ctrl_c(busy_stack: RunningStack) -> None:
    shown = b""

    def read() -> bytes:
        nonlocal shown
        try:
            shown += os.read(ours, 65536)
        except OSError:  # nothing yet, or the other end is closed
            return shown
        return shown

    with terminal("top", "--interval", "0.2", "--data-dir", str(busy_stack.data_dir)) as (process, ours):
        eventually_sync(lambda: read().count(b"classifier_worker-0") >= 3, within=60)
        assert ENTER_SCREEN in shown
        os.write(ours, b"\x03")
        eventually_sync(lambda: LEAVE_SCREEN in read())
        assert process.wait(20) == 0
    assert b"Traceback" not in shown


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_a_prometheus_that_scrapes_the_fleet_is_as_good(busy_stack: RunningStack, tmp_path: Path) -> None:
    addresses = {
        process["name"]: process["http_url"]
        for process in busy_stack.description["processes"]
        if process["name"] in SERVICES
    }
    prometheus_server.watch(tmp_path, addresses)
    port = free_port()
    process = spawn(prometheus_server.prepare(tmp_path, port), tmp_path / "prometheus.log")
    url = f"http://127.0.0.1:{port}"
    try:
        prometheus_server.wait_until_ready(url, within_seconds=60)

        def all_are_there() -> bool:
            shown = docfleet("top", "--once", "--prometheus", url)
            return shown.returncode == 0 and "3 of 3 processes up" in shown.stdout

        eventually_sync(all_are_there, within=60, poll_seconds=0.5)
        fleet = json.loads(docfleet("top", "--json", "--prometheus", url).stdout)
        assert {row["name"]: row["program"] for row in fleet["processes"]} == {
            name: name.partition("-")[0] for name in SERVICES
        }
        assert [row["restarts"] for row in fleet["processes"]] == [0, 0, 0]
        assert [one["error_code"] for one in fleet["failures"]] == ["UNREADABLE_DOCUMENT"]
        refused = docfleet("top", "--prometheus", url, "--namespace", "elsewhere")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "has no metrics of docfleet" in refused.stderr
    finally:
        stop(process, prometheus_server.prepare(tmp_path, port).stop_signal, within_seconds=10)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--data-dir", "/no/such/folder"), "no stack runs on /no/such/folder"),
        (("--metrics", "http://127.0.0.1:9/metrics"), "none of them answers: http://127.0.0.1:9/metrics"),
        (("--prometheus", "http://127.0.0.1:9"), "Prometheus at 127.0.0.1:9 does not answer"),
    ],
)
def test_nothing_to_look_at_is_told_in_one_sentence(arguments: tuple[str, ...], why: str) -> None:
    refused = docfleet("top", *arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"docfleet top: {why}")
    assert refused.stderr.count("\n") == 1


def test_clients_without_the_drivers_of_servers_can_look() -> None:
    """`pip install docfleet` alone has no PostgreSQL driver."""
    code = (
        "import sys; sys.modules['psycopg'] = sys.modules['google.cloud'] = None;"
        "from docfleet.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    refused = subprocess.run(
        [command()[0], "-c", code, "top", "--metrics", "http://127.0.0.1:9/metrics"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (refused.returncode, "none of them answers" in refused.stderr) == (2, True), refused.stderr
