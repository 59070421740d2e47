"""The relay: publishes jobs whose event did not get out or was held back, and keeps the tables small.

A tenant's jobs are held back in Postgres while enough of its jobs are in Kafka, where a queue has one order for
all; here tenants take turns. Any number of replicas may run it: rows are claimed with `for update skip locked`.
"""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Final

from docfleet import metrics
from producer_api.outbox import Outbox
from producer_api.store import UNAVAILABLE, Store

_log = logging.getLogger(__name__)

#: Most jobs that wait for Kafka in this process; the rest waits in Postgres.
_MOST_WAITING: Final = 1000
_TIDY_SECONDS: Final = 60.0
#: Looks that are asked for are made together.
_GATHER_SECONDS: Final = 0.05


class Relay:
    """Looks for unpublished rows every `interval_seconds`, and when it is told that there may be some."""

    def __init__(self, store: Store, outbox: Outbox, *, interval_seconds: float, lease_seconds: float) -> None:
        self._store = store
        self._outbox = outbox
        self._interval_seconds = interval_seconds
        self._lease_seconds = lease_seconds
        self._wake = asyncio.Event()
        self._is_holding_back = False
        self._next_count = 0.0

    def wake(self) -> None:
        """Look soon: a job became ready to be published."""
        self._wake.set()

    def on_held_back(self) -> None:
        """Know that something is held back, so that changes count."""
        self._is_holding_back = True

    def on_change(self) -> None:
        """Look soon if anything is held back: some job changed, so its tenant may have room."""
        if self._is_holding_back:
            self._wake.set()

    async def run(self) -> None:
        """Look until cancelled; while Postgres is away there is nothing to look at."""
        while True:
            try:
                is_more = await self._look()
            except UNAVAILABLE as error:
                is_more = False
                _log.warning("Postgres is away", extra={"action": "relay", "why": str(error)})
            if not is_more:
                await self._pause()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._interval_seconds):
                await self._wake.wait()
                await asyncio.sleep(_GATHER_SECONDS)

    async def _look(self) -> bool:
        self._wake.clear()
        limit = _MOST_WAITING - self._outbox.waiting
        jobs = await self._store.claim_unpublished(limit, self._lease_seconds) if limit > 0 else []
        for job in jobs:
            self._outbox.publish(job)
        if jobs:
            metrics.RELAYED.labels("unpublished").inc(len(jobs))
            _log.info("relayed", extra={"action": "relay", "jobs": len(jobs)})
        if time.monotonic() >= self._next_count:
            await self._count()
        return bool(jobs) and len(jobs) == limit and self._outbox.waiting < _MOST_WAITING

    async def _count(self) -> None:
        """Tell how much waits; not at each look, since counting a long backlog takes its time."""
        depth, held_back = await self._store.outbox_depth()
        metrics.OUTBOX_DEPTH.set(depth)
        metrics.JOBS_HELD_BACK.set(held_back)
        self._is_holding_back = held_back > 0
        self._next_count = time.monotonic() + self._interval_seconds


async def forget_old_idempotency_keys(store: Store, keep_seconds: float) -> None:
    """Delete answers to Idempotency-Keys that have been kept for long enough, until cancelled."""
    while True:
        try:
            while await store.forget_idempotency_keys(keep_seconds):
                pass
        except UNAVAILABLE as error:
            _log.warning("Postgres is away", extra={"action": "forget", "why": str(error)})
        await asyncio.sleep(_TIDY_SECONDS)
