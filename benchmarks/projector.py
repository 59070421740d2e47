"""Events per second of a rebuild of the table of jobs from the topics, against a raw bulk upsert of the same rows.

    python -m benchmarks.projector [--jobs 30000] [--rounds 3]

Kafka holds what is left of finished jobs once the signs of life are gone: requested, started, completed, with a result
of four pages and ten categories. The projector of status_service reads them into an empty database. The raw upsert then
writes the same final rows into another empty database on the same PostgreSQL, with the same indexes: 1000 rows a
statement and a transaction, from lists that are ready. Both databases flush to the disk; rounds alternate.
Aims: 5,000 events/s, and 0.5 x the raw upsert's rows/s.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from benchmarks.ingress import start_kafka, start_postgres
from docfleet import postgres
from docfleet.kafka import Publisher
from docfleet.settings import KafkaSettings
from docfleet.stack.processes import Program, spawn, stop
from docfleet.stopping import Deadline
from schemas import events, topics
from status_service.app import intake
from status_service.projector import Projector
from status_service.settings import StatusSettings

LEAST_EVENTS_PER_SECOND = 5000.0
LEAST_RATIO = 0.5
CATEGORIES: Final = tuple(f"a category of documents {number}" for number in range(10))
_ROWS: Final = 1000
_UNSENT: Final = 20_000


@contextmanager
def servers() -> Iterator[tuple[str, str]]:
    """Run Kafka and PostgreSQL until the block ends; yields bootstrap servers and a DSN."""
    with tempfile.TemporaryDirectory(prefix="docfleet-benchmark-") as scratch, ExitStack() as running:
        folder = Path(scratch)
        folder.chmod(0o755)  # Postgres runs as another account

        def start(program: Program) -> None:
            process = spawn(program, folder / f"{program.name}.log")
            running.callback(stop, process, program.stop_signal, within_seconds=20)

        yield start_kafka(folder / "kafka", start), start_postgres(folder / "postgres", start)


def result_text() -> str:
    """Return a result as a worker tells it: four pages, ten categories."""
    scores = dict.fromkeys(CATEGORIES, 0.1)
    answer: dict[str, Any] = {"success": True, "classification": CATEGORIES[0], "confidence": 0.1}
    page = answer | {"raw_result": answer["classification"], "scores": scores}
    pages = [{"page": number} | page for number in range(1, 5)]
    counts = {"total_pages": 12, "processed_pages": 4}
    return json.dumps(answer | counts | {"page_results": pages, "scores": scores, "model": "default@1"})


def life(result: str, at: datetime) -> list[tuple[topics.Topic, events.Event]]:
    """Return what is said about one job that is accepted at this time and completed two seconds later."""
    common: dict[str, Any] = {"job_id": uuid.uuid4(), "tenant_id": "acme", "attempt": 1, "accepted_at": at}
    requested = events.ClassificationRequested(
        **common,
        occurred_at=at,
        object_name=f"jobs/{common['job_id']}/document",
        media_type="application/pdf",
        size_bytes=100_000,
        categories=CATEGORIES,
    )
    started = events.ClassificationStarted(**common, occurred_at=at + timedelta(seconds=1))
    completed = events.ClassificationCompleted(**common, occurred_at=at + timedelta(seconds=2), result=result)
    return [(topics.JOBS, requested), (topics.EVENTS, started), (topics.EVENTS, completed)]


def publish(bootstrap_servers: str, jobs: int) -> int:
    """Say everything about so many jobs and return how many events that was."""
    publisher = Publisher(
        KafkaSettings.from_mapping({"KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers}), source="benchmark"
    )
    result, now = result_text(), datetime.now(UTC)
    said = 0
    for number in range(jobs):
        for topic, event in life(result, now + timedelta(milliseconds=number)):
            publisher.publish(topic, event)
            said += 1
        while publisher.waiting > _UNSENT:
            time.sleep(0.01)
    if publisher.close(Deadline(60)):
        raise RuntimeError("not everything got into Kafka")
    return said


def rebuild(bootstrap_servers: str, dsn: str, said: int) -> tuple[float, float]:
    """Let the projector fill an empty database; return the seconds from first claim to last event, and its CPU time."""
    settings = StatusSettings.from_mapping({"KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers, "DATABASE_URL": dsn})
    projector = Projector(intake(settings), dsn)
    projector.start()
    with psycopg.connect(dsn, autocommit=True) as connection:

        def read() -> int:
            row = connection.execute("select coalesce(sum(next_offset), -1) from consumer_offsets").fetchone()
            return int(row[0]) if row else -1

        while read() < 0:
            time.sleep(0.01)
        began, cpu_began = time.monotonic(), time.process_time()
        while read() < said:
            if (fault := projector.fault()) is not None:
                raise RuntimeError(fault)
            time.sleep(0.02)
        spent = time.monotonic() - began, time.process_time() - cpu_began
    projector.stop(Deadline(20))
    return spent


def rows_of(dsn: str) -> tuple[Sequence[str], list[tuple[Any, ...]]]:
    """Return the columns that the projector writes, and every row."""
    with psycopg.connect(dsn) as connection:
        cursor = connection.cursor(row_factory=tuple_row)
        rows = cursor.execute("select *, result::text as result_text from jobs order by job_id").fetchall()
        names = [column.name for column in cursor.description or ()]
    at, text_at = names.index("result"), names.index("result_text")
    return names[:-1], [(*row[:at], row[text_at], *row[at + 1 : -1]) for row in rows]


def upsert(dsn: str, names: Sequence[str], rows: list[tuple[Any, ...]]) -> float:
    """Upsert the rows into an empty database, a batch a transaction, and return the seconds."""
    at = names.index("categories")  # as a literal: unnest() cannot take arrays of arrays
    ready = [(*row[:at], "{" + ",".join(f'"{name}"' for name in row[at]) + "}", *row[at + 1 :]) for row in rows]
    batches = [zip(*ready[start : start + _ROWS], strict=True) for start in range(0, len(ready), _ROWS)]
    columns = [[list(column) for column in batch] for batch in batches]
    with psycopg.connect(dsn, autocommit=True) as connection:
        statement = upsert_statement(connection, names)
        began = time.monotonic()
        for batch in columns:
            connection.execute(statement, batch)
        return time.monotonic() - began


def upsert_statement(connection: psycopg.Connection[Any], names: Sequence[str]) -> bytes:
    """Return the statement that upserts rows of these columns, each given as one binary array."""
    query = "select column_name, udt_name from information_schema.columns where table_name = 'jobs'"
    kinds: dict[str, str] = dict(connection.execute(query).fetchall()) | {"categories": "text", "result": "text"}
    casts = {"categories": "::text[]", "result": "::json"}
    picked = ", ".join(f"c.{name}{casts.get(name, '')}" for name in names)
    arrays = ", ".join(f"%b::{kinds[name]}[]" for name in names)
    changes = ", ".join(f"{name} = excluded.{name}" for name in names if name != "job_id")
    return (
        f"insert into jobs ({', '.join(names)}) select {picked} from unnest({arrays}) as c ({', '.join(names)})"
        f" on conflict (job_id) do update set {changes}"
    ).encode()


@contextmanager
def empty_database(dsn: str) -> Iterator[str]:
    """Make a migrated database beside the one of `dsn`, for the time of the block."""
    name = f"benchmark_{uuid.uuid4().hex}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        mine = urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))
        postgres.migrate(mine)
        yield mine
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def main() -> int:
    """Run and print the figures; return 0 when both aims are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rebuilt: list[float] = []
    cpu: list[float] = []
    raw: list[float] = []
    with servers() as (bootstrap_servers, dsn):
        said = publish(bootstrap_servers, arguments.jobs)
        for _ in range(arguments.rounds):
            with empty_database(dsn) as target:
                seconds, cpu_seconds = rebuild(bootstrap_servers, target, said)
                rebuilt.append(seconds)
                cpu.append(cpu_seconds)
                names, rows = rows_of(target)
                if {row[names.index("status")] for row in rows} != {"completed"} or len(rows) != arguments.jobs:
                    raise RuntimeError("the rebuilt table is not the one that was told")
            with empty_database(dsn) as target:
                raw.append(upsert(target, names, rows))
    events_per_second = said / statistics.median(rebuilt)
    rows_per_second = arguments.jobs / statistics.median(raw)
    print(f"rebuild     {events_per_second:8.0f} events/s, {arguments.jobs / statistics.median(rebuilt):.0f} jobs/s")
    print(f"            {statistics.median(cpu) / said * 1e6:8.0f} µs of CPU an event in the projector's process")
    print(f"raw upsert  {rows_per_second:8.0f} rows/s")
    print("rounds      " + "; ".join(f"{one:.1f} s against {two:.1f} s" for one, two in zip(rebuilt, raw, strict=True)))
    ratio = events_per_second / rows_per_second
    print(
        f"events/s over rows/s: {ratio:.2f} x (at least {LEAST_RATIO}); at least {LEAST_EVENTS_PER_SECOND:.0f} events/s"
    )
    return 0 if ratio >= LEAST_RATIO and events_per_second >= LEAST_EVENTS_PER_SECOND else 1


if __name__ == "__main__":
    sys.exit(main())
