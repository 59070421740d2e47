"""A snapshot of the fleet as lines of text, for a terminal and for a pipe. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Final, Literal

from docfleet.commands.table import printable
from docfleet.commands.top_snapshot import Failures, ProcessRow, Snapshot, Times

#: `bad` is what somebody should look at.
Style = Literal["", "head", "bad"]

_UNKNOWN: Final = "-"
_MOST_FAILURES: Final = 8
_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the screen."""

    text: str
    style: Style = ""


def lines(fleet: Snapshot, title: str) -> list[Line]:
    """Return the screen, from the top; `title` says what is looked at."""
    at = datetime.fromtimestamp(fleet.at, UTC).strftime("%H:%M:%S UTC")
    window = "" if fleet.window_seconds is None else f", rates over {fleet.window_seconds:.0f} s"
    up = sum(process.is_up for process in fleet.processes)
    head = f"docfleet top  {printable(title)}  {up} of {len(fleet.processes)} processes up  {at}{window}"
    parts = [
        [Line(head, "head")],
        _totals(fleet),
        _processes(fleet.processes),
        _failures(fleet.failures[:_MOST_FAILURES]),
    ]
    return [line for part in parts if part for line in (*part, Line(""))][:-1]


def _totals(fleet: Snapshot) -> list[Line]:
    lag = "  ".join(f"{printable(topic)} {messages}" for topic, messages in fleet.consumer_lag.items())
    states = "  ".join(f"{printable(state)} {count}" for state, count in (fleet.jobs or {}).items())
    rates = (
        f"accepted {_rate(fleet.accepted_per_second)}  completed {_rate(fleet.completed_per_second)}"
        f"  failed {_rate(fleet.failed_per_second)}  retried {_rate(fleet.retried_per_second)}"
    )
    waiting = (
        f"outbox {_count(fleet.outbox_depth)}  held back {_count(fleet.jobs_held_back)}"
        f"  projector {_count(fleet.projector_lag)}"
    )
    return [
        Line(f"{'jobs':16}{rates}", "bad" if fleet.failed_per_second else ""),
        Line(f"{'time to result':16}{_times(fleet.times)}"),
        Line(f"{'states':16}{states or _UNKNOWN}"),
        Line(f"{'oldest job':16}{duration(fleet.oldest_unfinished_seconds)}"),
        Line(f"{'lag':16}{lag or _UNKNOWN}"),
        Line(f"{'waiting':16}{waiting}"),
        Line(f"{'dead letters':16}{_count(fleet.jobs_dead_lettered)}", "bad" if fleet.jobs_dead_lettered else ""),
    ]


def _times(times: Times | None) -> str:
    if times is None:
        return _UNKNOWN
    since = "" if times.is_recent else "  (since the start: none ended just now)"
    return f"p50 {duration(times.p50_seconds)}  p95 {duration(times.p95_seconds)}{since}"


def _processes(rows: Sequence[ProcessRow]) -> list[Line]:
    width = max([len("PROCESS"), *(len(printable(row.name)) for row in rows)])
    form = f"{{:{width}}}  {{:18}}  {{:>8}}  {{:>8}}  {{:>9}}  {{:>7}}"
    table = [Line(form.format("PROCESS", "PROGRAM", "UP", "RESTARTS", "IN FLIGHT", "JOBS/S"), "head")]
    for row in rows:
        cells = (
            printable(row.name),
            printable(row.program or _UNKNOWN),
            duration(row.up_seconds) if row.is_up else "down",
            _count(row.restarts),
            _count(row.jobs_in_flight),
            _UNKNOWN if row.jobs_per_second is None else f"{row.jobs_per_second:.1f}",
        )
        table.append(Line(form.format(*cells), "" if row.is_up else "bad"))
    return table


def _failures(failures: Sequence[Failures]) -> list[Line]:
    if not failures:
        return []
    table = [Line(f"{'FAILED WITH':24}{'JOBS':>8}{'JUST NOW':>10}", "head")]
    for one in failures:
        text = f"{printable(one.error_code):24}{one.count:>8}{one.recent:>10}"
        table.append(Line(text, "bad" if one.recent else ""))
    return table


def duration(seconds: float | None) -> str:
    """Return a time for people: two digits or more, in the unit that fits."""
    if seconds is None:
        return _UNKNOWN
    if seconds == inf:
        return "> 1 h"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < 2 * _DAY:
        return f"{seconds / _HOUR:.0f} h"
    return f"{seconds / _DAY:.0f} d"


def _rate(per_second: float | None) -> str:
    return _UNKNOWN if per_second is None else f"{per_second:.1f}/s"


def _count(number: int | None) -> str:
    return _UNKNOWN if number is None else str(number)
