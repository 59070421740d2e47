"""A local stack under load while its processes are killed, stopped and replaced: invariants I1 to I8 hold.

`python -m benchmarks.chaos` does the same at length; what is done and counted is in benchmarks/chaos.
"""

from benchmarks.chaos import schedule
from benchmarks.chaos.run import Account, Plan, run
from benchmarks.chaos.schedule import NOBODY, READER, Fault, Kind
from benchmarks.chaos.system import SESSION_SECONDS, System

#: What a worker has started at a time: DOCFLEET_READERS=2, and as many again that wait for the model.
STARTED_AT_ONCE = 4
#: A loaded machine starts and schedules late; the order of things is the point.
PATIENCE_SECONDS = 30.0


def assert_nothing_violated(account: Account) -> None:
    assert not account.offences, str(account)
    assert len(account.evidence.seen.jobs) == account.plan.jobs, str(account)


async def test_random_storm_violates_nothing(stormy_system: System) -> None:
    faults = schedule.storm(19, every_seconds=1.5, session_seconds=SESSION_SECONDS)
    account = await run(stormy_system, Plan(seed=19, jobs=100, per_second=8, settle_seconds=120), faults)
    assert_nothing_violated(account)
    assert len(account.evidence.done.said) >= 7


async def test_jobs_of_a_killed_worker_run_elsewhere_after_its_session(stormy_system: System) -> None:
    kill = Fault(1.0, Kind.KILL, "classifier_worker-0", 0.0, 0.0)
    account = await run(stormy_system, Plan(seed=1, jobs=120, per_second=60), [kill])
    assert_nothing_violated(account)
    assert account.evidence.done.worker_kills
    assert account.figures.elsewhere_seconds, "it had no job in its hands"
    assert max(account.figures.elsewhere_seconds) < SESSION_SECONDS + PATIENCE_SECONDS


async def test_rolling_restart_repeats_no_end_and_few_starts(stormy_system: System) -> None:
    restarts = [
        Fault(1.0, Kind.TERMINATE, "classifier_worker-0", 0.0, 0.0),
        Fault(8.0, Kind.TERMINATE, "classifier_worker-1", 0.0, 0.0),
    ]
    account = await run(stormy_system, Plan(seed=2, jobs=120, per_second=12), restarts)
    assert_nothing_violated(account)
    assert [service for service, _ in account.evidence.done.exits] == ["classifier_worker-0", "classifier_worker-1"]
    assert account.figures.repeated_ends == 0, str(account)
    assert account.figures.repeated_starts <= 2 * STARTED_AT_ONCE, str(account)


async def test_workers_that_come_and_go_repeated_events_and_a_slow_consumer_change_nothing(
    stormy_system: System,
) -> None:
    faults = [
        Fault(0.5, Kind.JOIN, NOBODY, 4.0, 0.9),
        Fault(1.0, Kind.SLOW, "status_service", 4.0, 0.0),
        Fault(3.0, Kind.REPLAY, NOBODY, 0.0, 0.3),
        Fault(5.0, Kind.JOIN, NOBODY, 3.0, 0.1),
        Fault(6.0, Kind.REPLAY, NOBODY, 0.0, 0.8),
        Fault(7.0, Kind.KILL, READER, 0.0, 0.5),
    ]
    account = await run(stormy_system, Plan(seed=3, jobs=80, per_second=8), faults)
    assert_nothing_violated(account)
