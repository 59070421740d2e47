"""The screen of `docfleet top`: what it shows, what it marks, and that nothing on it moves a terminal."""

import dataclasses
from math import inf

import pytest

from docfleet.commands.top_screen import duration, lines
from docfleet.commands.top_snapshot import Failures, ProcessRow, Snapshot, Times

CALM = Snapshot(
    at=1_700_000_000.0,
    window_seconds=30.0,
    processes=[
        ProcessRow(name="producer_api", program="producer_api", is_up=True, up_seconds=90.0, restarts=0),
        ProcessRow(
            name="classifier_worker-0",
            program="classifier_worker",
            is_up=True,
            up_seconds=7500.0,
            restarts=1,
            jobs_in_flight=3,
            jobs_per_second=2.25,
        ),
    ],
    accepted_per_second=2.5,
    completed_per_second=2.25,
    failed_per_second=0.0,
    retried_per_second=0.0,
    times=Times(0.42, 1.25, is_recent=True),
    jobs={"queued": 9, "processing": 3},
    oldest_unfinished_seconds=12.5,
    outbox_depth=0,
    jobs_held_back=0,
    consumer_lag={"docfleet.jobs": 9, "docfleet.jobs.retry": 0},
    projector_lag=0,
    jobs_dead_lettered=0,
)


def test_a_calm_fleet_is_shown_in_full_and_nothing_is_marked():
    shown = lines(CALM, ".docfleet")
    assert "\n".join(line.text.rstrip() for line in shown) == (
        "docfleet top  .docfleet  2 of 2 processes up  22:13:20 UTC, rates over 30 s\n"
        "\n"
        "jobs            accepted 2.5/s  completed 2.2/s  failed 0.0/s  retried 0.0/s\n"
        "time to result  p50 420 ms  p95 1.2 s\n"
        "states          queued 9  processing 3\n"
        "oldest job      12 s\n"
        "lag             docfleet.jobs 9  docfleet.jobs.retry 0\n"
        "waiting         outbox 0  held back 0  projector 0\n"
        "dead letters    0\n"
        "\n"
        "PROCESS              PROGRAM                   UP  RESTARTS  IN FLIGHT   JOBS/S\n"
        "producer_api         producer_api            90 s         0          -        -\n"
        "classifier_worker-0  classifier_worker        2 h         1          3      2.2"
    )
    assert not [line for line in shown if line.style == "bad"]


def test_what_is_not_known_is_a_dash():
    unknown = dataclasses.replace(
        CALM,
        window_seconds=None,
        accepted_per_second=None,
        times=None,
        jobs=None,
        oldest_unfinished_seconds=None,
        outbox_depth=None,
        consumer_lag={},
    )
    text = [line.text for line in lines(unknown, "x")]
    assert text[0].endswith("UTC")
    assert "accepted -  " in text[2]
    assert [line.split()[-1] for line in text[3:7]] == ["-"] * 4
    assert "outbox -" in text[7]


def test_what_somebody_should_look_at_is_marked():
    down = ProcessRow(name="classifier_worker-1", program=None, is_up=False)
    bad = dataclasses.replace(
        CALM,
        processes=[*CALM.processes, down],
        failed_per_second=0.5,
        jobs_dead_lettered=2,
        failures=[Failures("UNREADABLE_DOCUMENT", 12, 3), Failures("NO_PAGES", 4, 0)],
        times=Times(0.4, inf, is_recent=False),
    )
    shown = lines(bad, "x")
    marked = [line.text.split()[0] for line in shown if line.style == "bad"]
    assert marked == ["jobs", "dead", "classifier_worker-1", "UNREADABLE_DOCUMENT"]
    assert shown[0].text.startswith("docfleet top  x  2 of 3 processes up")
    assert "p95 > 1 h  (since the start" in shown[3].text


def test_names_from_elsewhere_do_not_move_the_terminal():
    row = dataclasses.replace(CALM.processes[0], name="pod\x1b[2J", program="a\nb")
    shown = lines(dataclasses.replace(CALM, processes=[row], jobs={"\x07": 1}), "\x1b]0;x")
    assert all(line.text.isprintable() for line in shown)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((None, "-"), (0.0, "0 ms"), (0.0421, "42 ms"), (1.0, "1.0 s"), (119.0, "119 s"), (120.0, "2 min")),
        *((7199.0, "120 min"), (7200.0, "2 h"), (172_800.0, "2 d"), (inf, "> 1 h")),
    ],
)
def test_times_are_in_the_unit_that_fits(seconds, text):
    assert duration(seconds) == text
