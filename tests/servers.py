"""Starts the real servers that tests talk to, each once a session and only when a test asks for it.

They are the local stack's own (docfleet.stack), with durability traded for speed.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg import sql

from docfleet import postgres
from docfleet.stack import gcs_server, kafka_server, postgres_server
from docfleet.stack.ports import free_port
from docfleet.stack.processes import Program, spawn, stop, tail
from schemas.topics import Topic

TEMPLATE = "docfleet_template"

_START_SECONDS = 180.0
_FAST_POSTGRES = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@contextmanager
def kafka_server_running(folder: Path, port: int | None = None) -> Iterator[str]:
    """Run a broker, on this port where one is given, and yield its bootstrap servers."""
    port = port or free_port()
    program = kafka_server.prepare(folder, port, free_port())
    with _running(program, folder / "kafka.log"):
        bootstrap_servers = f"127.0.0.1:{port}"
        kafka_server.wait_until_ready(bootstrap_servers, within_seconds=_START_SECONDS)
        yield bootstrap_servers


def empty_topic(kafka: str, topic: Topic) -> None:
    """Delete all messages that are in a topic."""
    ends = [TopicPartition(topic.name, number, OFFSET_END) for number in range(topic.partitions)]
    admin = AdminClient({"bootstrap.servers": kafka})
    for deleted in admin.delete_records(ends).values():
        deleted.result(20)


@contextmanager
def postgres_server_running(folder: Path) -> Iterator[str]:
    """Run a server whose database TEMPLATE has all migrations, and yield the DSN of its maintenance database."""
    port = free_port()
    program = postgres_server.prepare(folder, port, _FAST_POSTGRES)
    with _running(program, folder / "postgres.log"):
        maintenance_dsn = postgres_server.dsn(folder, port, "postgres")
        postgres_server.wait_until_ready(maintenance_dsn, within_seconds=_START_SECONDS)
        postgres_server.create_database(maintenance_dsn, TEMPLATE)
        postgres.migrate(postgres_server.dsn(folder, port, TEMPLATE))
        yield maintenance_dsn


@contextmanager
def gcs_server_running(folder: Path) -> Iterator[str]:
    """Run a server of GCS's protocol and yield its endpoint."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    program = gcs_server.prepare(folder / "objects", port)
    with _running(program, folder / "gcs.log"):
        endpoint = gcs_server.endpoint_of(port)
        gcs_server.create_bucket(endpoint, "docfleet-ready", within_seconds=_START_SECONDS)
        yield endpoint


@dataclass(frozen=True, slots=True)
class Gcs:
    """A server of GCS's protocol and a bucket on it that no other test uses."""

    endpoint: str
    bucket: str


def new_database(maintenance_dsn: str, *, template: str = TEMPLATE) -> str:
    """Create a database from the template and return its DSN."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(maintenance_dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    return urlunsplit(urlsplit(maintenance_dsn)._replace(path=f"/{name}"))


def drop_database(maintenance_dsn: str, dsn: str) -> None:
    """Drop a test's database, with whatever is still connected to it."""
    name = urlsplit(dsn).path.removeprefix("/")
    with psycopg.connect(maintenance_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def let_write(dsn: str, *, is_allowed: bool) -> None:
    """Make a database read-only, or end that, also for whoever is connected."""
    with psycopg.connect(dsn, autocommit=True, options="-c default_transaction_read_only=off") as connection:
        name = sql.Identifier(connection.info.dbname)
        value = sql.SQL("off" if is_allowed else "on")
        connection.execute(sql.SQL("alter database {} set default_transaction_read_only = {}").format(name, value))
        connection.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )


@contextmanager
def _running(program: Program, log_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = spawn(program, log_path)
    try:
        yield process
    except BaseException:
        print(tail(log_path, lines=40))  # noqa: T201  # pytest shows it with the failure
        raise
    finally:
        stop(process, program.stop_signal, within_seconds=10)
