"""`docfleet keys`: the key alone on stdout, so that a script can keep it; all else for people."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psycopg

from docfleet import keys
from docfleet.commands.servers import NotNamed, address_of

_TABLE: Final = "{:36}  {:20}  {:8}  {:>9}  {:>9}  {:>9}  {:20}  {}"


def create(data_dir: Path | None, *, name: str, quota_limit: int, rate_per_minute: int | None) -> int:
    """Create a key, print it alone on stdout, and return the exit code."""
    key = keys.new_key()

    def add(dsn: str) -> int:
        keys.add(dsn, key, name=name, quota_limit=quota_limit, rate_per_minute=rate_per_minute)
        print(key)
        return 0

    return _with_database(data_dir, add)


def show(data_dir: Path | None) -> int:
    """Print a table of all keys and return the exit code."""

    def list_(dsn: str) -> int:
        print(_TABLE.format("KEY ID", "NAME", "PREFIX", "QUOTA", "USED", "RATE/MIN", "CREATED", "REVOKED").rstrip())
        for record in keys.listed(dsn):
            rate = "" if record.rate_per_minute is None else record.rate_per_minute
            row = (str(record.key_id), record.name, record.prefix, record.quota_limit, record.quota_used, rate)
            print(_TABLE.format(*row, _shown(record.created_at), _shown(record.revoked_at)).rstrip())
        return 0

    return _with_database(data_dir, list_)


def revoke(data_dir: Path | None, text: str) -> int:
    """Revoke the key with this id or prefix and return the exit code."""

    def revoke_(dsn: str) -> int:
        try:
            key_id = keys.revoke(dsn, text)
        except keys.UnknownKey as fault:
            return _say(1, str(fault))
        return _say(0, f"{key_id} is revoked; services forget it within seconds")

    return _with_database(data_dir, revoke_)


def _with_database(data_dir: Path | None, work: Callable[[str], int]) -> int:
    try:
        return work(address_of("DATABASE_URL", entry="postgres_dsn", data_dir=data_dir))
    except NotNamed as fault:
        return _say(2, str(fault))
    except psycopg.errors.UndefinedTable:
        return _say(1, "the database has no tables of docfleet yet")
    except psycopg.OperationalError as fault:
        return _say(1, f"the database does not answer: {' '.join(str(fault).split())}")


def _shown(at: datetime | None) -> str:
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _say(exit_code: int, text: str) -> int:
    print(f"docfleet keys: {text}", file=sys.stderr)
    return exit_code
