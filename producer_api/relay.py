"""The relay: publishes jobs whose event did not get out, and keeps the tables small.

Any number of replicas may run it: rows are claimed with `for update skip locked`.
"""

import asyncio
import logging
from typing import Final

from docfleet import metrics
from producer_api.outbox import Outbox
from producer_api.store import UNAVAILABLE, Store

_log = logging.getLogger(__name__)

#: Most jobs that wait for Kafka in this process; the rest waits in Postgres.
_MOST_WAITING: Final = 1000
_TIDY_SECONDS: Final = 60.0


class Relay:
    """Looks for unpublished rows every `interval_seconds`."""

    def __init__(self, store: Store, outbox: Outbox, *, interval_seconds: float, lease_seconds: float) -> None:
        self._store = store
        self._outbox = outbox
        self._interval_seconds = interval_seconds
        self._lease_seconds = lease_seconds

    async def run(self) -> None:
        """Look until cancelled; while Postgres is away there is nothing to look at."""
        while True:
            try:
                is_more = await self._look()
            except UNAVAILABLE as error:
                is_more = False
                _log.warning("Postgres is away", extra={"action": "relay", "why": str(error)})
            if not is_more:
                await asyncio.sleep(self._interval_seconds)

    async def _look(self) -> bool:
        limit = _MOST_WAITING - self._outbox.waiting
        jobs = await self._store.claim_unpublished(limit, self._lease_seconds) if limit > 0 else []
        for job in jobs:
            self._outbox.publish(job)
        if jobs:
            metrics.RELAYED.labels("unpublished").inc(len(jobs))
            _log.info("relayed", extra={"action": "relay", "jobs": len(jobs)})
        metrics.OUTBOX_DEPTH.set(await self._store.outbox_depth())
        return bool(jobs) and len(jobs) == limit and self._outbox.waiting < _MOST_WAITING


async def forget_old_idempotency_keys(store: Store, keep_seconds: float) -> None:
    """Delete answers to Idempotency-Keys that have been kept for long enough, until cancelled."""
    while True:
        try:
            while await store.forget_idempotency_keys(keep_seconds):
                pass
        except UNAVAILABLE as error:
            _log.warning("Postgres is away", extra={"action": "forget", "why": str(error)})
        await asyncio.sleep(_TIDY_SECONDS)
