"""API keys of a request: where the client puts them, how they are stored, whose they are.

Owns the hash and the look-up that every HTTP service makes before anything else. Knows no quota and
no rate: those belong to admission.
"""

import asyncio
import hashlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from psycopg_pool import AsyncConnectionPool

from docfleet.postgres import load_queries
from schemas.errors import DocfleetError, ErrorCode

#: A key longer than this is none of ours and is not worth hashing.
_MOST_CHARACTERS: Final = 512
_MOST_CACHED_KEYS: Final = 10_000


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key that is valid; `tenant_id` is the name that it was made under."""

    key_id: uuid.UUID
    tenant_id: str


def hash_of(key: str) -> bytes:
    """Return the key's SHA-256, the only form in which it is stored; keys are random, so no salt is needed."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def presented_key(headers: Mapping[str, str]) -> str | None:
    """Return the key in `api-key`, else in `Authorization: Bearer` (RFC 6750); None when there is neither."""
    key = headers.get("api-key", "").strip()
    if not key:
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else ""
    return key if 0 < len(key) <= _MOST_CHARACTERS else None


class ApiKeys:
    """Looks keys up, and remembers the valid ones for `ttl_seconds`: a revoked key works that much longer.

    Unknown keys are not remembered, so that a key works from the moment it is created.
    """

    def __init__(self, pool: AsyncConnectionPool[Any], *, ttl_seconds: float = 3.0) -> None:
        self._pool = pool
        self._ttl_seconds = ttl_seconds
        self._statement = load_queries("docfleet")["find_api_key"].encode()
        self._known: dict[bytes, tuple[float, ApiKey]] = {}
        self._lookups: dict[bytes, asyncio.Task[ApiKey | None]] = {}

    async def of(self, headers: Mapping[str, str]) -> ApiKey:
        """Return the valid key of a request.

        Raises:
            DocfleetError: UNAUTHORIZED without a key, or with one that is unknown or revoked.
            psycopg.OperationalError: Postgres is away and the key is not remembered.

        """
        presented = presented_key(headers)
        if presented is None:
            raise DocfleetError(ErrorCode.UNAUTHORIZED)
        key_hash = hash_of(presented)
        expires_at, known = self._known.get(key_hash, (0.0, None))
        if known is None or expires_at < time.monotonic():
            known = await self._shared_lookup(key_hash)
        if known is None:
            raise DocfleetError(ErrorCode.UNAUTHORIZED)
        return known

    async def _shared_lookup(self, key_hash: bytes) -> ApiKey | None:
        """Ask Postgres once however many requests wait for the same key; one that leaves does not end it."""
        task = self._lookups.get(key_hash)
        if task is None:
            task = asyncio.create_task(self._find(key_hash))
            self._lookups[key_hash] = task
            task.add_done_callback(lambda done: self._forget(key_hash, done))
        return await asyncio.shield(task)

    def _forget(self, key_hash: bytes, done: asyncio.Task[ApiKey | None]) -> None:
        self._lookups.pop(key_hash, None)
        if not done.cancelled():
            done.exception()  # seen here, in case that everybody who asked has left

    async def _find(self, key_hash: bytes) -> ApiKey | None:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(self._statement, {"key_hash": key_hash})
            row = await cursor.fetchone()
        self._known.pop(key_hash, None)
        if row is None:
            return None
        key = ApiKey(*row)
        if len(self._known) >= _MOST_CACHED_KEYS:
            self._known.pop(next(iter(self._known)))
        self._known[key_hash] = (time.monotonic() + self._ttl_seconds, key)
        return key
