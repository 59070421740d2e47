"""Postgres for the services: a pool, statements with names from .sql files, migrations.

A statement stands in a package's `queries.sql` below a line `-- name --` and a line of purpose.
Migrations are schemas/sql/NNNN_pre|post_subject.sql, each applied once, in order, in one transaction
under an advisory lock, so that several processes may try at the same time.
"""

import asyncio
import hashlib
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from importlib import resources
from typing import Any, Final

import psycopg
from psycopg_pool import AsyncConnectionPool

logger = logging.getLogger(__name__)

_CHECK_SECONDS: Final = 1.0
_NAME: Final = re.compile(r"^-- ([a-z0-9_]+) --$", re.MULTILINE)
_MIGRATION_LOCK: Final = 0x646F63666C656574  # "docfleet"


class MigrationChanged(Exception):
    """A migration that was applied before has another text now."""


def load_queries(package: str) -> dict[str, str]:
    """Return the statements of `package`'s queries.sql by name."""
    text = (resources.files(package) / "queries.sql").read_text("utf-8")
    parts = _NAME.split(text)[1:]
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


class Pool(AsyncConnectionPool[psycopg.AsyncConnection[Any]]):
    """A pool for short statements: a server that does not answer one in time counts as away.

    A host that vanished or a server that stands still leaves a statement waiting for ever, and cancelling it waits
    too. So the connection is cut, and the statement raises psycopg.OperationalError like any other lost one.
    """

    answer_seconds: float = 10.0

    @asynccontextmanager
    async def connection(  # the name and the argument are the library's
        self,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Give a connection for statements that together take at most `answer_seconds`."""
        async with self.held(timeout) as connection:
            with _answering(connection, self.answer_seconds):
                yield connection

    def held(self, timeout: float | None = None) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """Give a connection for as long as it takes, to hold a lock with."""
        return super().connection(timeout)


def open_pool(dsn: str, *, max_size: int, answer_seconds: float = 10.0, timeout_seconds: float = 3.0) -> Pool:
    """Return a closed pool; `async with` opens it without waiting for the server to be there.

    Getting a connection waits `timeout_seconds`, and for the check of one that turns out dead a moment more, then
    raises psycopg_pool.PoolTimeout.
    """
    pool = Pool(
        dsn,
        min_size=1,
        max_size=max_size,
        timeout=timeout_seconds,
        open=False,
        kwargs={"autocommit": True, "connect_timeout": 5, "keepalives_idle": 5, "tcp_user_timeout": 10_000},
        check=_check,
    )
    pool.answer_seconds = answer_seconds
    return pool


async def _check(connection: psycopg.AsyncConnection[Any]) -> None:
    with _answering(connection, _CHECK_SECONDS):
        await AsyncConnectionPool.check_connection(connection)


@contextmanager
def _answering(connection: psycopg.AsyncConnection[Any], seconds: float) -> Iterator[None]:
    """Cut the connection when the block takes longer."""
    cutting = asyncio.get_running_loop().call_later(seconds, _cut, connection)
    try:
        yield
    finally:
        cutting.cancel()


def _cut(connection: psycopg.AsyncConnection[Any]) -> None:
    logger.warning("Postgres does not answer: a connection is cut", extra={"action": "postgres_cut"})
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as ours:
        ours.shutdown(socket.SHUT_RDWR)  # whoever waits on the descriptor sees its end; closing it would hide it


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
