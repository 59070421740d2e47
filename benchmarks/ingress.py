"""producer_api with its neighbours and nothing else: no worker takes processor time, and Postgres is durable."""

import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from docfleet import keys, postgres
from docfleet.stack import gcs_server, kafka_server, postgres_server
from docfleet.stack.ports import LOOPBACK, free_port
from docfleet.stack.processes import Program, spawn, stop
from schemas.topics import TOPICS

_START_SECONDS = 60.0

Start = Callable[[Program], None]


@dataclass(frozen=True, slots=True)
class Ingress:
    """Where to post, with which key, and the process ids by name."""

    url: str
    api_key: str
    pids: dict[str, int]


@contextmanager
def ingress() -> Iterator[Ingress]:
    """Run Kafka, Postgres, a GCS-protocol server and producer_api until the block ends."""
    with tempfile.TemporaryDirectory(prefix="docfleet-benchmark-") as scratch, ExitStack() as running:
        folder = Path(scratch)
        folder.chmod(0o755)  # Postgres runs as another account
        pids: dict[str, int] = {}

        def start(program: Program) -> None:
            process = spawn(program, folder / f"{program.name}.log")
            running.callback(stop, process, program.stop_signal, within_seconds=20)
            pids[program.name] = process.pid

        bootstrap_servers = start_kafka(folder / "kafka", start)
        dsn = start_postgres(folder / "postgres", start)
        endpoint = _start_gcs(folder / "gcs", start)
        api_key = keys.new_key()
        keys.add(dsn, api_key, name="benchmark", quota_limit=1_000_000, rate_per_minute=None)
        port = free_port()
        environment = os.environ | {
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "DATABASE_URL": dsn,
            "STORAGE_EMULATOR_HOST": endpoint,
            "DOCFLEET_HTTP_HOST": LOOPBACK,
            "DOCFLEET_HTTP_PORT": str(port),
        }
        start(Program("producer_api", [sys.executable, "-m", "producer_api"], environment))
        url = f"http://{LOOPBACK}:{port}"
        _wait_until_ready(f"{url}/healthz/ready")
        yield Ingress(url, api_key, pids)


def start_kafka(folder: Path, start: Start) -> str:
    """Start a broker with all topics and return its bootstrap servers."""
    port = free_port()
    start(kafka_server.prepare(folder, port, free_port()))
    bootstrap_servers = f"{LOOPBACK}:{port}"
    kafka_server.wait_until_ready(bootstrap_servers, within_seconds=_START_SECONDS)
    kafka_server.create_topics({"bootstrap.servers": bootstrap_servers}, TOPICS)
    return bootstrap_servers


def start_postgres(folder: Path, start: Start) -> str:
    """Start a server and return the DSN of a migrated database on it."""
    port = free_port()
    start(postgres_server.prepare(folder, port))
    maintenance_dsn = postgres_server.dsn(folder, port, "postgres")
    postgres_server.wait_until_ready(maintenance_dsn, within_seconds=_START_SECONDS)
    postgres_server.create_database(maintenance_dsn, "docfleet")
    dsn = postgres_server.dsn(folder, port)
    postgres.migrate(dsn)
    return dsn


def _start_gcs(folder: Path, start: Start) -> str:
    port = free_port()
    start(gcs_server.prepare(folder, port))
    endpoint = gcs_server.endpoint_of(port)
    gcs_server.create_bucket(endpoint, "docfleet", within_seconds=_START_SECONDS)
    return endpoint


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
