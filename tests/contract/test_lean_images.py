"""Each image, made without an engine: its files suffice, it starts as its user on a read-only root and stops in order.

Of a real image these lack the Debian it stands on, and pip's own choice of versions: libraries are links to those that
are installed for the tests, PyTorch above all, which no test should fetch again.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from docfleet.stack.ports import free_port
from tests.contract.images import COPIED, DOCKERFILE, IMAGES, ROOT, answer, confined, started
from tests.waiting import eventually_sync

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("setpriv")),
    reason="needs root, unshare and setpriv, to be another user on a read-only root",
)

#: Neighbours that are away: nothing listens on the discard port.
AWAY = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
    "DATABASE_URL": "postgresql://docfleet:docfleet@127.0.0.1:9/docfleet",
    "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9",
}

TRY_TO_WRITE = """
import os, sys
print(os.getuid(), os.getgid())
for folder in (sys.prefix, "/", "."):
    try:
        open(os.path.join(folder, "written"), "w").close()
        print("wrote", folder)
    except OSError as error:
        print(error.strerror)
"""


@pytest.fixture
def scratch(image_of):
    """Return a folder that nobody hides from the image's user."""
    with TemporaryDirectory(dir=image_of("status").parent) as folder:
        yield Path(folder)


def run(image, service, scratch, command):
    argv, variables = confined(image, service, scratch, command)
    return subprocess.run(argv, env=variables | AWAY, capture_output=True, text=True, timeout=120, check=False)


def test_an_image_is_run_by_its_user_who_can_write_to_its_scratch_only(image_of, scratch):
    done = run(image_of("status"), "status_service", scratch, ["python", "-c", TRY_TO_WRITE])
    assert done.stdout.splitlines() == [
        "10001 10001",
        "Read-only file system",
        "Read-only file system",
        "wrote .",
    ], done.stderr


@pytest.mark.parametrize(("extra", "service"), IMAGES.items())
def test_service_starts_without_its_neighbours_and_stops_when_told(extra, service, image_of, scratch):
    port = free_port()
    settings = {**AWAY, "DOCFLEET_HTTP_HOST": "127.0.0.1", "DOCFLEET_HTTP_PORT": str(port)}
    with started(image_of(extra), service, scratch, settings) as process:

        def has_started_or_ended() -> bool:
            ended = process.poll() is not None
            return ended or answer(port, "/healthz/ready")[1]["faults"] != {"service": "starting"}

        eventually_sync(has_started_or_ended, within=300)  # what a startup probe gives it
        assert process.poll() is None, scratch.with_suffix(".log").read_text("utf-8")
        assert answer(port, "/healthz/live")[0] == 200
        status, body = answer(port, "/healthz/ready")
        assert status == 503, body
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, scratch.with_suffix(".log").read_text("utf-8")


def test_migrate_runs_from_the_image_of_producer_api(image_of, scratch):
    done = run(image_of("api"), "producer_api", scratch, ["python", "-m", "docfleet.migrate"])
    assert done.returncode == 1
    assert "not prepared" in done.stderr
    assert "connection" in done.stderr


def test_keys_are_made_in_a_pod_of_producer_api(image_of, scratch):
    command = ["docfleet", "keys", "create", "--name", "me", "--quota", "1000"]
    done = run(image_of("api"), "producer_api", scratch, command)
    assert done.returncode == 1, done.stderr
    assert "127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_build_context_holds_what_the_dockerfile_copies():
    ignore = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in ignore
    assert {line.removeprefix("!") for line in ignore if line.startswith("!")} == set(COPIED)


def test_signals_reach_the_service_itself():
    assert "STOPSIGNAL SIGTERM" in DOCKERFILE
    assert 'CMD ["sh", "-c", "exec python -m' in DOCKERFILE
