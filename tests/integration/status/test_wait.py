"""`?wait=`: who is answered when, and what a waiter costs."""

import asyncio
import uuid
from typing import Any

import aiohttp
import psycopg
import pytest

from docfleet import metrics
from tests.events import cancelled, completed, progressed, requested, started
from tests.integration.status import serving
from tests.integration.status.serving import KEY, Service
from tests.waiting import eventually

LONG = 60
#: An answer within this was not given by the end of LONG.
SOON = 40


def waiters() -> float:
    return next(iter(metrics.WAITERS.collect())).samples[0].value


async def get(client: aiohttp.ClientSession, job_id: uuid.UUID, wait: float | str = LONG) -> dict[str, Any]:
    async with client.get(f"/classify/{job_id}", params={"wait": str(wait)}) as answer:
        assert answer.status == 200, await answer.text()
        body: dict[str, Any] = await answer.json()
        return body


async def waiting(
    service: Service, client: aiohttp.ClientSession, job_id: uuid.UUID, wait: float = LONG
) -> asyncio.Task[dict[str, Any]]:
    """Ask, and return when the request has read the job's status: only what comes after is news to it."""
    answered = service.jobs.answered
    asking = asyncio.create_task(get(client, job_id, wait))
    await eventually(lambda: service.jobs.answered > answered and waiters() == 1)
    return asking


@pytest.mark.parametrize("build", [completed, cancelled])
async def test_ended_job_is_answered_at_once(service: Service, client: aiohttp.ClientSession, build: Any):
    event = build()
    service.project(event)
    async with asyncio.timeout(SOON):
        await get(client, event.job_id)


async def test_waiter_hears_of_the_next_status_and_not_of_progress(service: Service, client: aiohttp.ClientSession):
    job_id = uuid.uuid4()
    service.project(requested(job_id))
    async with asyncio.timeout(SOON):
        asking = await waiting(service, client, job_id)
        service.project(started(job_id))
        assert (await asking)["status"] == "processing"
        asking = await waiting(service, client, job_id)
        service.project(progressed(job_id))
        done, _ = await asyncio.wait([asking], timeout=0.3)
        assert not done
        service.project(completed(job_id))
        assert (await asking)["status"] == "completed"


async def test_end_of_the_wait_answers_with_the_present_words(service: Service, client: aiohttp.ClientSession):
    job_id = uuid.uuid4()
    service.project(started(job_id))
    asking = await waiting(service, client, job_id, 0.8)
    service.project(progressed(job_id, progress="Processing page 3 of 4"))
    body = await asking
    assert (body["status"], body["progress"]) == ("processing", "Processing page 3 of 4")


@pytest.mark.parametrize(
    "query",
    [
        *("wait=", "wait=-1", "wait=60.1", "wait=61", "wait=nan", "wait=inf", "wait=1e1", "wait=1_0", "wait=ten"),
        *("wait=1&wait=1", "wait=%201", "wait=%2B1", "wait=0x1", "wait=%D9%A1"),
    ],
)
async def test_wait_that_is_no_number_from_0_to_60_is_refused(
    service: Service, client: aiohttp.ClientSession, query: str
):
    async with client.get(f"/classify/{uuid.uuid4()}?{query}") as answer:
        assert (answer.status, (await answer.json())["error_code"]) == (400, "INVALID_WAIT")


@pytest.mark.parametrize("wait", ["0", "0.0", ".05", "0.05", "60", "60.0"])
async def test_fractions_from_0_to_60_are_taken(service: Service, client: aiohttp.ClientSession, wait: str):
    event = completed()
    service.project(event)
    await get(client, event.job_id, wait)


async def test_change_between_the_first_read_and_the_wait_is_not_missed(
    service: Service, client: aiohttp.ClientSession
):
    """Each round changes the job while the request is somewhere on its way."""
    async with asyncio.timeout(LONG):
        for round_number in range(30):
            job_id = uuid.uuid4()
            service.project(started(job_id))
            asking = asyncio.create_task(get(client, job_id))
            await asyncio.sleep(round_number * 0.0005)
            await asyncio.to_thread(service.project, completed(job_id))
            assert (await asking)["status"] == "completed"


async def test_thousand_waiters_hold_no_connection_and_all_hear(service: Service):
    jobs = [uuid.uuid4() for _ in range(20)]
    service.project(*map(started, jobs))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(service.url, connector=connector, headers={"api-key": KEY}) as client:
        asking = [asyncio.create_task(get(client, jobs[number % 20], 60)) for number in range(1000)]
        await eventually(lambda: waiters() == service.jobs.answered == 1000)
        with psycopg.connect(service.dsn) as connection:
            statement = "select count(*) from pg_stat_activity where datname = current_database()"
            connections = connection.execute(statement).fetchone()
        assert connections is not None
        assert connections[0] <= serving.POOL_SIZE + 2  # the pool, the one that listens, and this one
        async with client.get(f"/classify/{jobs[0]}") as answer:  # others are served meanwhile
            assert answer.status == 200
        service.project(*map(completed, jobs))
        async with asyncio.timeout(SOON):
            assert {body["status"] for body in await asyncio.gather(*asking)} == {"completed"}
    assert waiters() == 0


async def test_client_that_leaves_frees_its_waiter(service: Service, client: aiohttp.ClientSession):
    job_id = uuid.uuid4()
    service.project(started(job_id))
    asking = await waiting(service, client, job_id, 60)
    asking.cancel()
    await eventually(lambda: waiters() == 0)


async def test_stop_answers_waiters_with_the_present_state(service: Service, client: aiohttp.ClientSession):
    job_id = uuid.uuid4()
    service.project(started(job_id))
    asking = await waiting(service, client, job_id, 60)
    service.changes.release()
    async with asyncio.timeout(SOON):
        assert (await asking)["status"] == "processing"
        assert (await get(client, job_id, 60))["status"] == "processing"


async def test_listener_that_was_cut_off_listens_again(service: Service, client: aiohttp.ClientSession):
    job_id = uuid.uuid4()
    service.project(started(job_id))

    def listeners() -> list[Any]:
        with psycopg.connect(service.dsn) as connection:
            return connection.execute(
                "select pid from pg_stat_activity where datname = current_database() and query like 'listen%'"
            ).fetchall()

    before = await eventually(listeners)
    asking = await waiting(service, client, job_id)
    with psycopg.connect(service.dsn, autocommit=True) as connection:
        connection.execute("select pg_terminate_backend(%s)", before[0])
    service.project(completed(job_id))
    async with asyncio.timeout(SOON):
        assert (await asking)["status"] == "completed"
    await eventually(lambda: listeners() not in ([], before))
