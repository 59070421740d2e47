"""Two looks at a fleet's metrics, and what they come to."""

from collections.abc import Sequence
from math import inf
from typing import Any

import pytest

from docfleet.commands.top_snapshot import Failures, Look, Process, Times, quantile, snapshot
from docfleet.commands.top_sources import samples_in


def process(name: str, text: str, **more: Any) -> Process:
    return Process(name=name, samples=samples_in(text), **more)


def worker(name: str = "w-0", *, completed: int = 0, failed: int = 0, started: float = 100.0, **more: Any) -> Process:
    return process(
        name,
        f"""
docfleet_build_info{{program="classifier_worker",version="1"}} 1
docfleet_jobs_in_flight 3
docfleet_jobs_finished_total{{outcome="completed",error_code=""}} {completed}
docfleet_jobs_finished_total{{outcome="failed",error_code="UNREADABLE_DOCUMENT"}} {failed}
docfleet_jobs_finished_total{{outcome="failed",error_code="NO_PAGES"}} 2
docfleet_consumer_lag{{topic="docfleet.jobs",partition="0"}} 4
docfleet_consumer_lag{{topic="docfleet.jobs",partition="1"}} 1
docfleet_consumer_lag{{topic="docfleet.jobs.retry",partition="0"}} 2
docfleet_jobs_dead_lettered_total{{error_code="ATTEMPTS_EXHAUSTED"}} 1
process_start_time_seconds {started}
""",
        **more,
    )


def producer(name: str = "api", accepted: int = 0) -> Process:
    return process(
        name,
        f"""
docfleet_build_info{{program="producer_api",version="1"}} 1
docfleet_jobs_accepted_total{{source="file"}} {accepted}
docfleet_jobs_accepted_total{{source="url"}} 5
docfleet_outbox_depth 7
docfleet_jobs_held_back 6
process_start_time_seconds 50
""",
    )


def status(name: str = "status") -> Process:
    return process(
        name,
        """
docfleet_build_info{program="status_service",version="1"} 1
docfleet_jobs{state="queued"} 9
docfleet_jobs{state="processing"} 2
docfleet_oldest_unfinished_job_seconds 12.5
process_start_time_seconds 60
""",
    )


def looks(before: Sequence[Process], now: Sequence[Process]) -> tuple[Look, Look]:
    return Look(1010.0, now), Look(1000.0, before)


def test_rates_are_what_came_between_the_looks_of_all_processes():
    before = [producer(accepted=100), worker(completed=10), worker("w-1", completed=50)]
    now = [producer(accepted=120), worker(completed=30, failed=5), worker("w-1", completed=60)]
    fleet = snapshot(*looks(before, now))
    assert fleet.window_seconds == 10
    assert (fleet.accepted_per_second, fleet.completed_per_second, fleet.failed_per_second) == (2.0, 3.0, 0.5)
    assert fleet.retried_per_second == 0.0
    assert [row.jobs_per_second for row in fleet.processes] == [None, 2.5, 1.0]


def test_a_process_that_began_anew_counts_from_nothing():
    fleet = snapshot(*looks([worker(completed=500, started=100)], [worker(completed=520, started=1005)]))
    assert fleet.completed_per_second == 52.0
    fleet = snapshot(*looks([worker(completed=500)], [worker(completed=20)]))
    assert fleet.completed_per_second == 2.0, "a counter that fell began anew, whatever its start time"


def test_a_process_that_was_not_seen_before_adds_to_rates_only_what_it_did_since():
    """An old process that just came into sight did most of its jobs earlier."""
    now = [worker("old", completed=500, started=100), worker("new", completed=20, started=1005)]
    fleet = snapshot(*looks([], now))
    assert fleet.completed_per_second == 2.0
    assert [row.jobs_per_second for row in fleet.processes] == [None, 2.2]
    fleet = snapshot(*looks([Process(name="old")], now[:1]))
    assert (fleet.window_seconds, fleet.completed_per_second) == (None, None), "it did not answer before"


def test_without_a_look_before_there_are_no_rates():
    fleet = snapshot(Look(1000.0, [producer(), worker()]), None)
    assert {fleet.accepted_per_second, fleet.completed_per_second, fleet.failed_per_second} == {None}
    assert (fleet.window_seconds, fleet.outbox_depth, fleet.jobs_dead_lettered) == (None, 7, 1)
    assert fleet.failures == [Failures("NO_PAGES", 2, 0)]


def test_what_replicas_tell_of_one_table_counts_once_and_partitions_add_up():
    fleet = snapshot(
        Look(1000.0, [producer(), producer("api-1"), status(), status("status-1"), worker(), worker("w-1")]), None
    )
    assert (fleet.outbox_depth, fleet.jobs_held_back) == (7, 6)
    assert fleet.jobs == {"queued": 9, "processing": 2}
    assert fleet.oldest_unfinished_seconds == 12.5
    assert fleet.consumer_lag == {"docfleet.jobs": 10, "docfleet.jobs.retry": 4}
    assert fleet.jobs_dead_lettered == 2


def test_rows_say_what_each_process_is_and_does():
    now = [producer(), worker(restarts=2), Process(name="w-1")]
    api, one, dead, gone = snapshot(*looks([worker("w-2")], now)).processes
    assert (api.program, api.is_up, api.up_seconds, api.jobs_in_flight) == ("producer_api", True, 960.0, None)
    assert (one.program, one.restarts, one.jobs_in_flight) == ("classifier_worker", 2, 3)
    assert (dead.name, dead.is_up, dead.up_seconds, dead.jobs_per_second) == ("w-1", False, None, None)
    assert (gone.name, gone.program, gone.is_up) == ("w-2", "classifier_worker", False)


def test_what_nobody_says_is_unknown():
    fleet = snapshot(Look(1000.0, [process("x", "process_start_time_seconds 1")]), None)
    assert (fleet.jobs, fleet.oldest_unfinished_seconds, fleet.outbox_depth, fleet.times) == (None,) * 4
    assert (fleet.consumer_lag, fleet.projector_lag, fleet.failures) == ({}, None, [])


def test_failures_are_by_code_the_most_frequent_first():
    fleet = snapshot(*looks([worker(failed=1)], [worker(failed=4)]))
    assert fleet.failures == [Failures("UNREADABLE_DOCUMENT", 4, 3), Failures("NO_PAGES", 2, 0)]


def buckets(*counts: int) -> str:
    bounds = ("1.0", "2.0", "+Inf")
    return "\n".join(
        f'docfleet_job_seconds_bucket{{outcome="completed",le="{bound}"}} {count}'
        for bound, count in zip(bounds, counts, strict=True)
    )


def test_times_are_those_of_jobs_that_ended_between_the_looks():
    old, new = process("w", buckets(100, 100, 100)), process("w", buckets(100, 110, 110))
    assert snapshot(*looks([old], [new])).times == Times(1.5, 1.95, is_recent=True)


def test_times_are_since_the_start_when_nothing_ended_just_now():
    same = process("w", buckets(100, 100, 100))
    assert snapshot(*looks([same], [same])).times == Times(0.5, 0.95, is_recent=False)
    assert snapshot(Look(1000.0, [same]), None).times == Times(0.5, 0.95, is_recent=False)


@pytest.mark.parametrize(
    ("share", "counts", "expected"),
    [
        (0.5, {1.0: 10, 2.0: 20, inf: 20}, 1.0),
        (0.75, {1.0: 10, 2.0: 20, inf: 20}, 1.5),
        (0.95, {1.0: 10, 2.0: 10, inf: 20}, inf),
        (0.5, {1.0: 0, 2.0: 4, inf: 4}, 1.5),
        (0.5, {1.0: 0, inf: 0}, None),
        (0.5, {}, None),
    ],
)
def test_quantiles_are_those_of_promql(share, counts, expected):
    assert quantile(share, counts) == expected
