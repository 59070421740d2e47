"""A local stack under load while its processes are killed, stopped and replaced: invariants I1 to I8 hold.

`python -m benchmarks.chaos` does the same at length; what is done and counted is in benchmarks/chaos.
"""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

import requests

from benchmarks.chaos import schedule
from benchmarks.chaos.faults import Faults
from benchmarks.chaos.run import Account, Plan, run, scheduled
from benchmarks.chaos.schedule import NOBODY, Fault, Kind
from benchmarks.chaos.system import SESSION_SECONDS, System
from tests.waiting import eventually

WORKERS = ("classifier_worker-0", "classifier_worker-1")
#: What a worker has started at a time: DOCFLEET_READERS=2, and as many again that wait for the model.
STARTED_AT_ONCE = 4
#: A loaded machine starts and schedules late; the order of things is the point.
PATIENCE_SECONDS = 30.0


def assert_nothing_violated(account: Account) -> None:
    assert not account.offences, str(account)
    assert len(account.evidence.seen.jobs) == account.plan.jobs, str(account)
    assert account.evidence.watched.commits and account.evidence.watched.samples, "nobody looked"


def in_flight(system: System, worker: str) -> float:
    """Return how many jobs a worker holds; -1 while it does not answer."""
    with suppress(requests.RequestException):
        text = requests.get(system.metrics_urls(worker)[worker], timeout=5).text
        return float(re.findall(r"^docfleet_jobs_in_flight (\S+)$", text, re.MULTILINE)[0])
    return -1.0


def is_ready(system: System, worker: str) -> bool:
    with suppress(requests.RequestException):
        url = system.metrics_urls(worker)[worker].replace("/metrics", "/healthz/ready")
        return system.pid_of(worker) is not None and requests.get(url, timeout=5).status_code == 200
    return False


async def until(fact: Callable[[], object]) -> object:
    return await eventually(lambda: asyncio.to_thread(fact), within=180, poll_seconds=0.1)


async def test_rolling_restart_repeats_no_end_and_few_starts(stormy_system: System) -> None:
    async def restart_all(faults: Faults, _ended: asyncio.Event) -> None:
        await until(lambda: any(in_flight(stormy_system, worker) > 0 for worker in WORKERS))
        for worker in WORKERS:
            await faults.inflict(Fault(0.0, Kind.TERMINATE, worker, 0.0, 0.0))
            await until(lambda worker=worker: is_ready(stormy_system, worker))

    await until(lambda: all(is_ready(stormy_system, worker) for worker in WORKERS))
    account = await run(stormy_system, Plan(seed=2, jobs=60, per_second=8), restart_all)
    assert_nothing_violated(account)
    assert [service for service, _ in account.evidence.done.exits] == list(WORKERS)
    assert account.figures.repeated_ends == 0, str(account)
    assert account.figures.repeated_starts <= len(WORKERS) * STARTED_AT_ONCE, str(account)


async def test_jobs_of_a_killed_worker_run_elsewhere_after_its_session(stormy_system: System) -> None:
    def busy() -> str | None:
        return next((worker for worker in WORKERS if in_flight(stormy_system, worker) > STARTED_AT_ONCE), None)

    async def kill_a_busy_one(faults: Faults, _ended: asyncio.Event) -> None:
        victim = await until(busy)
        await faults.inflict(Fault(0.0, Kind.KILL, str(victim), 0.0, 0.0))

    await until(lambda: all(is_ready(stormy_system, worker) for worker in WORKERS))
    account = await run(stormy_system, Plan(seed=1, jobs=60, per_second=100), kill_a_busy_one)
    assert_nothing_violated(account)
    assert account.figures.elsewhere, "it had no job in its hands"
    assert max(account.figures.elsewhere).seconds < SESSION_SECONDS + PATIENCE_SECONDS


#: Besides the random ones: a worker that joins and leaves, one that joins and dies, a slow consumer, repeated messages.
CHOSEN = (
    Fault(1.0, Kind.JOIN, NOBODY, 4.0, 0.9),
    Fault(2.0, Kind.SLOW, "status_service", 3.0, 0.0),
    Fault(4.0, Kind.REPLAY, NOBODY, 0.0, 0.3),
    Fault(6.0, Kind.JOIN, NOBODY, 3.0, 0.1),
    Fault(8.0, Kind.REPLAY, NOBODY, 0.0, 0.8),
)


async def test_random_storm_violates_nothing(stormy_system: System) -> None:
    chance = islice(schedule.storm(1351, every_seconds=1.5, session_seconds=SESSION_SECONDS), 8)
    faults = sorted([*chance, *CHOSEN], key=lambda fault: fault.at_seconds)
    account = await run(stormy_system, Plan(seed=1351, jobs=90, per_second=7, settle_seconds=120), scheduled(faults))
    assert_nothing_violated(account)
    assert len(account.evidence.done.said) >= len(faults)
