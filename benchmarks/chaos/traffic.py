"""Clients: several tenants that post at a bounded rate, insist on an answer, and look at their jobs all the time.

What a client must never see is noted as an offence when it is seen; what it did see is kept for the invariants.
"""

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from docfleet import keys
from schemas.lifecycle import RANK, TERMINAL, JobState
from tests import documents

CATEGORIES: Final = ("invoice", "letter", "menu")
TENANTS: Final = 3

_QUOTA: Final = 1_000_000
#: Answers that only say "not now"; all else but a 202 or a 200 is wrong here.
_LATER: Final = frozenset({409, 429, 502, 503})
_REQUEST_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.5
_POSTS_AT_ONCE: Final = 48
_POLLERS: Final = 16
#: Between two looks at a job that runs, and at one that has ended.
_LOOK_SECONDS: Final = (0.5, 4.0)
_LOOK_AGAIN_SECONDS: Final = (5.0, 25.0)
_FOREIGN_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who posts."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Offence:
    """Something that must never be, by the invariant that it breaks."""

    invariant: str
    job_id: str
    what: str


@dataclass(slots=True)
class Followed:
    """A job with a 202, and what its client saw of it."""

    job_id: str
    tenant: Tenant
    accepted_at: float  #: seconds since the epoch
    status: JobState = JobState.QUEUED
    end: dict[str, Any] | None = None  #: the first answer with an end
    looks: int = 0


@dataclass(slots=True)
class Seen:
    """What all clients saw."""

    tenants: tuple[Tenant, ...]
    jobs: dict[str, Followed] = field(default_factory=dict)
    posts: Counter[str] = field(default_factory=Counter)  #: answers to a POST, by status or fault
    gets: Counter[str] = field(default_factory=Counter)
    offences: list[Offence] = field(default_factory=list)

    @property
    def unended(self) -> list[str]:
        """Return the jobs whose client has not seen an end."""
        return [job_id for job_id, job in self.jobs.items() if job.end is None]


def new_tenants(dsn: str, run: str) -> tuple[Tenant, ...]:
    """Make tenants of their own for a run, each with a key."""
    made = tuple(Tenant(f"chaos-{run}-{number}", keys.new_key()) for number in range(TENANTS))
    for tenant in made:
        keys.add(dsn, tenant.key, name=tenant.name, quota_limit=_QUOTA, rate_per_minute=None)
    return made


def small_documents() -> list[bytes]:
    """Return small documents that are read fast: most can be read, one cannot."""
    letters = [documents.pdf(pages=1, text=f"LETTER\nDear Sir or Madam, number {number}") for number in range(6)]
    picture = documents.encoded(documents.page_picture(size_px=(124, 175)), "PNG")
    return [*letters, documents.pdf(pages=2), picture, documents.pdf(pages=1)[:200]]


class Traffic:
    """The clients of one run."""

    def __init__(self, url: str, tenants: tuple[Tenant, ...], seed: int) -> None:
        self._url = url
        self._rng = random.Random(f"traffic {seed}")
        self._documents = small_documents()
        self._due: asyncio.PriorityQueue[tuple[float, str]] = asyncio.PriorityQueue()
        self._pollers: list[asyncio.Task[None]] = []
        timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
        self._session = aiohttp.ClientSession(url, timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
        self.seen = Seen(tenants)

    async def __aenter__(self) -> "Traffic":
        self._pollers = [asyncio.create_task(self._poll()) for _ in range(_POLLERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for poller in self._pollers:
            poller.cancel()
        ends = await asyncio.gather(*self._pollers, return_exceptions=True)
        await self._session.close()
        for end in ends:
            if not isinstance(end, asyncio.CancelledError) and isinstance(end, BaseException):
                raise end  # a poller that died has not looked

    async def post_all(self, count: int, per_second: float) -> None:
        """Post so many jobs, each until its 202, started at this rate as long as the system keeps up."""
        began = time.monotonic()
        room = asyncio.Semaphore(_POSTS_AT_ONCE)
        async with asyncio.TaskGroup() as posts:
            for number in range(count):
                await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
                await room.acquire()
                tenant, document = self._rng.choice(self.seen.tenants), self._rng.choice(self._documents)
                # half of the clients make sure that a lost answer does not post twice
                idempotency_key = f"post-{number}" if number % 2 else None
                task = posts.create_task(self._post(tenant, document, idempotency_key))
                task.add_done_callback(lambda _: room.release())

    async def all_ended(self, within_seconds: float) -> bool:
        """Wait until the clients have seen the end of every job."""
        deadline = time.monotonic() + within_seconds
        while self.seen.unended and time.monotonic() < deadline:  # noqa: ASYNC110  # many pollers bring it about
            await asyncio.sleep(0.2)
        return not self.seen.unended

    async def look_at_all(self, within_seconds: float) -> None:
        """Look at every job once more; one about which there is no answer by then is an offence."""
        deadline = time.monotonic() + within_seconds
        left = iter(list(self.seen.jobs.values()))

        async def look_at_rest() -> None:
            for job in left:
                while not await self._look(job):
                    if time.monotonic() > deadline:
                        self._offend("HTTP", job, "it cannot be looked at when all is quiet")
                        break
                    await asyncio.sleep(_PAUSE_SECONDS)

        await asyncio.gather(*(look_at_rest() for _ in range(_POLLERS)))

    async def _post(self, tenant: Tenant, document: bytes, idempotency_key: str | None) -> None:
        headers = {"api-key": tenant.key} | ({"Idempotency-Key": idempotency_key} if idempotency_key else {})
        while True:
            form = aiohttp.FormData({"categories": json.dumps(CATEGORIES)})
            form.add_field("pdf_file", document, filename="document")
            try:
                async with self._session.post("/classify", data=form, headers=headers) as answer:
                    status, body = answer.status, await answer.json()
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                self.seen.posts[type(error).__name__] += 1
            else:
                self.seen.posts[str(status)] += 1
                if status == 202:
                    await self._follow(tenant, body["job_id"])
                    return
                if status not in _LATER:
                    self.seen.offences.append(Offence("HTTP", "", f"a POST was answered {status} {body}"))
                    return
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _follow(self, tenant: Tenant, job_id: str) -> None:
        if job_id in self.seen.jobs:
            self.seen.offences.append(Offence("I1", job_id, "two posts were given the same job"))
            return
        job = self.seen.jobs[job_id] = Followed(job_id, tenant, time.time())
        await self._look(job)  # a job can be read at once after its 202
        self._due.put_nowait((self._next_look(job), job_id))

    async def _poll(self) -> None:
        while True:
            due_at, job_id = await self._due.get()
            await asyncio.sleep(max(0.0, due_at - time.monotonic()))
            job = self.seen.jobs[job_id]
            if self._rng.random() < _FOREIGN_SHARE:
                await self._look_from_elsewhere(job)
            await self._look(job)
            if job.end is None or self._rng.random() < 0.5:
                self._due.put_nowait((self._next_look(job), job_id))

    def _next_look(self, job: Followed) -> float:
        return time.monotonic() + self._rng.uniform(*(_LOOK_SECONDS if job.end is None else _LOOK_AGAIN_SECONDS))

    async def _look(self, job: Followed) -> bool:
        """Look at a job as its tenant; whether there was an answer about it."""
        answer = await self._get(job.job_id, job.tenant)
        if answer is None:
            return False
        status, body = answer
        if status == 404:
            self._offend("404", job, "not found after its 202")
        elif status != 200:
            self._offend("HTTP", job, f"a GET was answered {status} {body}")
        else:
            job.looks += 1
            self._compare(job, body)
        return True

    def _compare(self, job: Followed, body: dict[str, Any]) -> None:
        status = JobState(body["status"])
        if RANK[status] < RANK[job.status]:
            self._offend("backwards", job, f"{job.status}, then {status}")
        if job.end is not None and body != job.end:
            self._offend("I3", job, f"ended as {_short(job.end)}, then {_short(body)}")
        job.status = status
        if status in TERMINAL and job.end is None:
            job.end = body
            if (status is JobState.COMPLETED) != (body["result"] is not None):
                self._offend("HTTP", job, f"{status} with the result {body['result']}")

    async def _look_from_elsewhere(self, job: Followed) -> None:
        stranger = self._rng.choice([tenant for tenant in self.seen.tenants if tenant != job.tenant])
        answer = await self._get(job.job_id, stranger)
        if answer is not None and answer[0] != 404:
            self._offend("I7", job, f"another tenant was answered {answer[0]}")

    async def _get(self, job_id: str, tenant: Tenant) -> tuple[int, Any] | None:
        try:
            async with self._session.get(f"/classify/{job_id}", headers={"api-key": tenant.key}) as answer:
                status, body = answer.status, await answer.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.seen.gets[type(error).__name__] += 1
            return None
        self.seen.gets[str(status)] += 1
        return None if status in _LATER else (status, body)

    def _offend(self, invariant: str, job: Followed, what: str) -> None:
        self.seen.offences.append(Offence(invariant, job.job_id, what))


def _short(job: dict[str, Any]) -> str:
    result = job["result"] or {}
    return f"{job['status']} {job['error_code'] or result.get('classification')} at {job['finished_at']}"
