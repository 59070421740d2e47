"""Postgres for the services: a pool, statements with names from .sql files, migrations.

A statement stands in a package's `queries.sql` below a line `-- name --` and a line of purpose.
Migrations are schemas/sql/NNNN_pre|post_subject.sql, each applied once, in order, in one transaction
under an advisory lock, so that several processes may try at the same time.
"""

import hashlib
import re
from importlib import resources
from typing import Any, Final

import psycopg
from psycopg_pool import AsyncConnectionPool

_NAME: Final = re.compile(r"^-- ([a-z0-9_]+) --$", re.MULTILINE)
_MIGRATION_LOCK: Final = 0x646F63666C656574  # "docfleet"


class MigrationChanged(Exception):
    """A migration that was applied before has another text now."""


def load_queries(package: str) -> dict[str, str]:
    """Return the statements of `package`'s queries.sql by name."""
    text = (resources.files(package) / "queries.sql").read_text("utf-8")
    parts = _NAME.split(text)[1:]
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def open_pool(dsn: str, *, max_size: int, timeout_seconds: float = 3.0) -> AsyncConnectionPool[Any]:
    """Return a closed pool; `async with` opens it without waiting for the server to be there.

    Getting a connection waits `timeout_seconds`, then raises psycopg_pool.PoolTimeout.
    """
    return AsyncConnectionPool(
        dsn,
        min_size=1,
        max_size=max_size,
        timeout=timeout_seconds,
        open=False,
        kwargs={"autocommit": True, "connect_timeout": 5},
        check=AsyncConnectionPool.check_connection,
    )


def migrate(dsn: str) -> list[str]:
    """Apply what is missing of schemas/sql and return the names of what was applied.

    Raises:
        MigrationChanged: an applied file's text differs from the one that was applied.

    """
    applied = []
    with psycopg.connect(dsn) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
        connection.execute(
            "create table if not exists migrations"
            " (name text primary key, sha256 text not null, applied_at timestamptz not null default now())"
        )
        known: dict[str, str] = dict(connection.execute("select name, sha256 from migrations").fetchall())
        folder = resources.files("schemas") / "sql"
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            text = file.read_text("utf-8")
            digest = hashlib.sha256(text.encode()).hexdigest()
            if file.name not in known:
                connection.execute(text.encode())
                connection.execute("insert into migrations (name, sha256) values (%s, %s)", (file.name, digest))
                applied.append(file.name)
            elif known[file.name] != digest:
                raise MigrationChanged(f"{file.name} was changed after it was applied; add a new file instead")
    return applied
