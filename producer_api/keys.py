"""What a request's headers say besides the API key, and what an API key allows."""

import re
import time
import uuid
from typing import Final

from producer_api.store import KeyTerms, Store
from schemas.errors import DocfleetError, ErrorCode

_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_MAX_IDEMPOTENCY_KEY: Final = 255


class Terms:
    """Quota and rate of API keys, remembered for `cache_seconds` so that a POST does not ask for them each time."""

    def __init__(self, store: Store, *, cache_seconds: float) -> None:
        self._store = store
        self._cache_seconds = cache_seconds
        self._known: dict[uuid.UUID, tuple[float, KeyTerms]] = {}

    async def of(self, key_id: uuid.UUID) -> KeyTerms:
        """Return the key's terms, up to `cache_seconds` old; DocfleetError UNAUTHORIZED when it is revoked."""
        expires_at, terms = self._known.get(key_id, (0.0, None))
        if terms is None or expires_at < time.monotonic():
            terms = await self.fresh(key_id)
            self._known[key_id] = (time.monotonic() + self._cache_seconds, terms)
        return terms

    async def fresh(self, key_id: uuid.UUID) -> KeyTerms:
        """Return the key's terms as they are now; DocfleetError UNAUTHORIZED when it is revoked."""
        terms = await self._store.terms(key_id)
        if terms is None:
            raise DocfleetError(ErrorCode.UNAUTHORIZED)
        return terms


def idempotency_key_in(values: list[str]) -> str | None:
    """Return the Idempotency-Key of a request's header values, quoted (a structured field) or bare; None without one.

    DocfleetError INVALID_IDEMPOTENCY_KEY: not 1 to 255 printable ASCII characters, or sent twice.
    """
    if not values:
        return None
    key = values[0].strip()
    if key.startswith('"'):
        quoted = _QUOTED.fullmatch(key)
        key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else ""
    if len(values) > 1 or not 1 <= len(key) <= _MAX_IDEMPOTENCY_KEY or not (key.isascii() and key.isprintable()):
        raise DocfleetError(ErrorCode.INVALID_IDEMPOTENCY_KEY)
    return key
