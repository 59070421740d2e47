"""What has been kept for long enough goes: documents of ended jobs, then their rows, and documents that have no job.

Never a document that a job still needs: only of ended jobs, which stay ended, and of none at all. A document without a
row is what a POST leaves that died between the two; one whose row was lost with the table comes back into it from the
topics, so nothing is called an orphan before the projector has read them. A job whose document is missing needs nobody
here: its worker ends it with OBJECT_MISSING.

One replica at a time reaps; were it two, each step could be done twice without harm.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from confluent_kafka import KafkaException

from docfleet import metrics
from docfleet.objects import DOCUMENTS_PREFIX, job_id_in
from docfleet.threads import in_thread
from producer_api.document import Storage
from producer_api.store import UNAVAILABLE, Store
from producer_api.sweeper import Offsets, has_projector_read
from schemas.errors import DocfleetError
from schemas.topics import EVENTS, JOBS

_log = logging.getLogger(__name__)

_BATCH: Final = 1000
#: Deletions at a time: clients' uploads need the store too.
_AT_A_TIME: Final = 4
#: How long, and in how many looks, orphans wait for a projector that is a moment behind.
_CATCH_UP_SECONDS: Final = 20.0
_CATCH_UP_LOOKS: Final = 40

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class KeepFor:
    """How long things are kept, in seconds: after the job's end, and an orphan from its making; 0 is for ever."""

    document_seconds: float
    job_seconds: float
    orphan_seconds: float


class Reaper:
    """Looks for what may go; any number of replicas may have one."""

    def __init__(self, store: Store, storage: Storage, offsets: Offsets, keep: KeepFor) -> None:
        self._store = store
        self._storage = storage
        self._offsets = offsets
        self._keep = keep
        self._slots = asyncio.Semaphore(_AT_A_TIME)

    async def run(self, interval_seconds: float) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.reap()
            except (DocfleetError, KafkaException, *UNAVAILABLE) as error:
                _log.warning("reaping goes on later", extra={"action": "reap", "why": str(error)})
            await asyncio.sleep(interval_seconds)

    async def reap(self) -> None:
        """Delete what may go by now, unless another replica is at it."""
        async with self._store.reaping() as is_ours:
            if not is_ours:
                return
            if self._keep.document_seconds:
                await self._reap_documents()
            if self._keep.job_seconds:
                await self._reap_jobs()
            await self._reap_orphans()

    async def _reap_documents(self) -> None:
        while jobs := await self._store.documents_to_reap(self._keep.document_seconds, _BATCH):
            await self._delete({name: None for _job_id, name in jobs if name is not None})
            await self._store.mark_documents_deleted([job_id for job_id, _name in jobs])
            _count("document", len(jobs))

    async def _reap_jobs(self) -> None:
        while count := await self._store.reap_jobs(self._keep.job_seconds, _BATCH):
            _count("job", count)

    async def _reap_orphans(self) -> None:
        if not await self._is_table_whole():
            _log.warning("no orphans while the projector is behind", extra={"action": "reap"})
            return
        oldest = datetime.now(UTC) - timedelta(seconds=self._keep.orphan_seconds)
        token: str | None = None
        while True:
            page, token = await self._in_thread(partial(self._storage.objects.listed, DOCUMENTS_PREFIX, token))
            suspects = {job_id: one for one in page if one.created_at < oldest and (job_id := job_id_in(one.name))}
            if suspects:
                orphans = await self._store.jobs_without_need(list(suspects))
                await self._delete({suspects[job_id].name: suspects[job_id].generation for job_id in orphans})
                _count("orphan", len(orphans))
            if token is None:
                return

    async def _is_table_whole(self) -> bool:
        """Whether the projector has read what stands in the topics now; waits for it a while."""
        ends = {topic: await in_thread(partial(self._offsets.ends_of, topic)) for topic in (JOBS, EVENTS)}
        for _ in range(_CATCH_UP_LOOKS):
            if all([await has_projector_read(self._store, topic, ends[topic]) for topic in ends]):
                return True
            await asyncio.sleep(_CATCH_UP_SECONDS / _CATCH_UP_LOOKS)
        return False

    async def _delete(self, generations: Mapping[str, int | None]) -> None:
        """Delete these objects, those with a generation only where it is still theirs."""

        async def delete(name: str, generation: int | None) -> None:
            async with self._slots:
                await self._in_thread(lambda: self._storage.objects.delete(name, generation=generation))

        deletions = (delete(name, generation) for name, generation in generations.items())
        for fault in await asyncio.gather(*deletions, return_exceptions=True):
            if fault is not None:
                raise fault

    async def _in_thread(self, call: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._storage.threads, call)


def _count(kind: str, count: int) -> None:
    metrics.REAPED.labels(kind).inc(count)
    _log.info("reaped", extra={"action": "reap", "kind": kind, "count": count})
