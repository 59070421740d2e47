"""One run: clients and faults together, then peace, then the account."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from benchmarks.chaos import evidence
from benchmarks.chaos.evidence import Watch
from benchmarks.chaos.faults import Faults
from benchmarks.chaos.invariants import (
    ELSEWHERE_SLACK_SECONDS,
    INVARIANTS,
    Evidence,
    Figures,
    figures_of,
    offences_of,
)
from benchmarks.chaos.schedule import Fault
from benchmarks.chaos.system import SESSION_SECONDS, System
from benchmarks.chaos.traffic import Offence, Traffic, new_tenants

_runs = itertools.count(1)
_PROGRESS_SECONDS = 10.0
_SHOWN_OFFENCES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much traffic, how long the system may take to come to rest after the storm, and how long posting may."""

    seed: int
    jobs: int
    per_second: float
    settle_seconds: float = 300.0
    within_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Account:
    """What a run came to."""

    plan: Plan
    offences: list[Offence]
    figures: Figures
    evidence: Evidence
    seconds: float

    def __str__(self) -> str:
        return "\n".join(_lines(self))


#: What is done to the system; it ends some time after the event is set.
Storm = Callable[[Faults, asyncio.Event], Awaitable[None]]


def scheduled(schedule: Iterable[Fault]) -> Storm:
    """Return the storm of these faults, each in its time."""
    return lambda faults, ended: faults.run(schedule, ended)


async def run(system: System, plan: Plan, storm: Storm, *, is_told: bool = False) -> Account:
    """Post the plan's jobs while the storm is on, wait until all is quiet, and judge."""
    began = time.monotonic()
    stack = system.stack
    tenants = new_tenants(stack["postgres_dsn"], f"{plan.seed}-{next(_runs)}")
    faults, ended = Faults(system), asyncio.Event()
    async with Traffic(stack["url"], tenants, plan.seed) as traffic, Watch(system) as watch:
        telling = asyncio.create_task(_tell(traffic, faults, plan) if is_told else asyncio.sleep(0))
        raging = asyncio.ensure_future(storm(faults, ended))
        try:
            async with asyncio.timeout(plan.within_seconds):
                await traffic.post_all(plan.jobs, plan.per_second)
        except TimeoutError:
            what = f"only {len(traffic.seen.jobs)} posts were accepted within {plan.within_seconds:.0f} s"
            traffic.seen.offences.append(Offence("HTTP", "", what))
        ended.set()
        await raging
        await traffic.all_ended(plan.settle_seconds)
        await traffic.look_at_all(plan.settle_seconds)
        telling.cancel()
    left = await asyncio.to_thread(evidence.gather, system, [tenant.name for tenant in tenants])
    seen = Evidence(traffic.seen, faults.done, watch.watched, left)
    return Account(plan, offences_of(seen), figures_of(seen), seen, time.monotonic() - began)


async def _tell(traffic: Traffic, faults: Faults, plan: Plan) -> None:
    began, told = time.monotonic(), 0
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        seen = traffic.seen
        ended = len(seen.jobs) - len(seen.unended)
        fresh = [f"{time.strftime('%H:%M:%S', time.localtime(at))} {what}" for at, what in faults.done.said[told:]]
        told = len(faults.done.said)
        print(
            f"{time.monotonic() - began:6.0f} s  {len(seen.jobs)} of {plan.jobs} accepted, {ended} ended,"
            f" {len(seen.offences)} offences seen; {'; '.join(fresh)}",
            flush=True,
        )


def _lines(account: Account) -> list[str]:
    figures, evidence = account.figures, account.evidence
    lines = [f"{figures.jobs} of {account.plan.jobs} jobs, {len(evidence.done.said)} faults, {account.seconds:.0f} s"]
    lines.append(f"POST {_counted(evidence.seen.posts)}; GET {_counted(evidence.seen.gets)}")
    lines.append(f"failed jobs: {_counted(figures.failed)}; jobs without an answer: {figures.unanswered_jobs}")
    lines.append(f"objects of no job: {figures.orphans}")
    watched = evidence.watched
    lines.append(
        f"most in flight {watched.most_in_flight:g} in {watched.samples} looks;"
        f" committed offsets seen {len(watched.commits)} times"
    )
    lines.append(
        f"started per job {figures.starts_per_job:.3f} (most {figures.most_starts});"
        f" repeated terminal events {figures.repeated_ends}"
    )
    lines.append(f"starts repeated after: {_counted(figures.repeated_after)}")
    exits = sorted(seconds for _, seconds in evidence.done.exits)
    lines.append(f"{len(exits)} SIGTERMs of services, the slowest exit {exits[-1] if exits else 0.0:.1f} s")
    limit = SESSION_SECONDS + ELSEWHERE_SLACK_SECONDS
    lines.append(
        f"from a worker's SIGKILL to its jobs elsewhere:"
        f" {', '.join(f'{one.seconds:.1f}' for one in figures.elsewhere) or 'not seen'} s"
        f" (at most {limit:g}; undisturbed kills only)"
    )
    lines += [f"           {one.job_id} after {one.seconds:.1f} s" for one in figures.elsewhere if one.seconds > limit]
    for invariant, sentence in INVARIANTS.items():
        offences = [offence for offence in account.offences if offence.invariant == invariant]
        lines.append(f"{invariant:10} {sentence}: {len(offences)} violated")
        lines += [f"           {one.job_id} {one.what}" for one in offences[:_SHOWN_OFFENCES]]
    lines.append(f"seed {account.plan.seed}: {len(account.offences)} violated")
    return lines


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in counts.most_common()) or "none"
