"""Creates, lists and revokes API keys; a key itself is shown once and never stored.

Keys of one name are one tenant: they see the same jobs, each with its own quota and rate.
"""

import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg
from psycopg.rows import class_row

from docfleet.api_keys import hash_of
from docfleet.postgres import load_queries

_KEY_BYTES: Final = 32  # 256 random bits, 43 characters
#: How much of a key is kept for people to tell keys apart: `df_` and 5 of its 43 characters.
_PREFIX_CHARACTERS: Final = 8


class UnknownKey(Exception):
    """No valid key, or more than one, goes by that name; the message says which."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is known of a key."""

    key_id: uuid.UUID
    name: str
    prefix: str
    quota_limit: int
    quota_used: int
    rate_per_minute: int | None
    created_at: datetime
    revoked_at: datetime | None


def new_key() -> str:
    """Return a key that nobody can guess: `df_` and 43 characters."""
    return f"df_{secrets.token_urlsafe(_KEY_BYTES)}"


def add(dsn: str, key: str, *, name: str, quota_limit: int, rate_per_minute: int | None) -> None:
    """Make `key` valid under `name`; nothing changes when it is known already."""
    values = {
        "key_id": uuid.uuid4(),
        "name": name,
        "key_hash": hash_of(key),
        "prefix": key[:_PREFIX_CHARACTERS],
        "quota_limit": quota_limit,
        "rate_per_minute": rate_per_minute,
    }
    with psycopg.connect(dsn) as connection:
        connection.execute(_query("create_api_key"), values)


def listed(dsn: str) -> list[KeyRecord]:
    """Return every key, revoked ones too, the newest last."""
    with psycopg.connect(dsn) as connection, connection.cursor(row_factory=class_row(KeyRecord)) as cursor:
        return cursor.execute(_query("list_api_keys")).fetchall()


def revoke(dsn: str, text: str) -> uuid.UUID:
    """Revoke the valid key with this id, or with this prefix, and return its id.

    Raises:
        UnknownKey: there is none, or the prefix fits several.

    """
    with psycopg.connect(dsn) as connection:
        found = connection.execute(_query("find_keys_to_revoke"), {"text": text}).fetchall()
        if not found:
            raise UnknownKey(f"no valid key has the id or prefix {text!r}")
        if len(found) > 1:
            raise UnknownKey(f"{len(found)} valid keys have the prefix {text!r}; name one by its id")
        key_id: uuid.UUID = found[0][0]
        connection.execute(_query("revoke_api_key"), {"key_id": key_id})
    return key_id


def _query(name: str) -> bytes:
    return load_queries("docfleet")[name].encode()
