"""Two looks at a fleet's metrics become what is going on in it. Pure: no network, no clock.

A look is what every process says at one time. Counters and histograms are read as what came between the two looks; a
counter that fell was begun anew with its process. What several replicas tell of one table is taken once.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final

from docfleet import metrics
from docfleet.metric_section import name_of

JOBS_ACCEPTED: Final = name_of(metrics.JOBS_ACCEPTED)
JOBS_FINISHED: Final = name_of(metrics.JOBS_FINISHED)
JOBS_RETRIED: Final = name_of(metrics.JOBS_RETRIED)
JOBS_DEAD_LETTERED: Final = name_of(metrics.JOBS_DEAD_LETTERED)
JOBS_IN_FLIGHT: Final = name_of(metrics.JOBS_IN_FLIGHT)
JOBS_HELD_BACK: Final = name_of(metrics.JOBS_HELD_BACK)
OUTBOX_DEPTH: Final = name_of(metrics.OUTBOX_DEPTH)
CONSUMER_LAG: Final = name_of(metrics.CONSUMER_LAG)
PROJECTOR_LAG: Final = name_of(metrics.PROJECTOR_LAG)
JOB_BUCKETS: Final = name_of(metrics.JOB_SECONDS) + "_bucket"
JOBS: Final = name_of(metrics.JOBS)
OLDEST: Final = name_of(metrics.OLDEST_UNFINISHED)
BUILD: Final = name_of(metrics.BUILD_INFO)
STARTED: Final = "process_start_time_seconds"

#: Every metric that is looked at.
WANTED: Final = frozenset(
    {JOBS_ACCEPTED, JOBS_FINISHED, JOBS_RETRIED, JOBS_DEAD_LETTERED, JOBS_IN_FLIGHT, JOBS_HELD_BACK, OUTBOX_DEPTH}
    | {CONSUMER_LAG, PROJECTOR_LAG, JOB_BUCKETS, JOBS, OLDEST, BUILD, STARTED}
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of one process."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What one process says; no samples when it does not answer."""

    name: str
    samples: Sequence[Sample] = ()
    restarts: int | None = None

    @property
    def is_up(self) -> bool:
        """Whether it answered."""
        return bool(self.samples)

    def value(self, name: str) -> float | None:
        """Return the sum of a metric's samples; None when there is none."""
        found = [sample.value for sample in self.samples if sample.name == name]
        return sum(found) if found else None


@dataclass(frozen=True, slots=True)
class Look:
    """What all processes say at a time, in seconds since the epoch."""

    at: float
    processes: Sequence[Process]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRow:
    """A process of the fleet; None is what it does not say."""

    name: str
    program: str | None
    is_up: bool
    up_seconds: float | None = None
    restarts: int | None = None
    jobs_in_flight: int | None = None
    jobs_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Failures:
    """Jobs that failed with a code: since the processes began, and between the looks."""

    error_code: str
    count: int
    recent: int


@dataclass(frozen=True, slots=True)
class Times:
    """How long jobs took from accepted to ended; `inf` is longer than the longest bucket."""

    p50_seconds: float
    p95_seconds: float
    is_recent: bool  #: between the looks; else since the processes began, as nothing ended between


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The fleet at a time; None is what nobody says, and what needs a second look."""

    at: float  #: seconds since the epoch
    window_seconds: float | None  #: between the looks
    processes: Sequence[ProcessRow]
    accepted_per_second: float | None
    completed_per_second: float | None
    failed_per_second: float | None
    retried_per_second: float | None
    times: Times | None
    jobs: Mapping[str, int] | None  #: by state
    oldest_unfinished_seconds: float | None
    outbox_depth: int | None
    jobs_held_back: int | None
    consumer_lag: Mapping[str, int]  #: messages, by topic
    projector_lag: int | None
    jobs_dead_lettered: int | None  #: since the processes began
    failures: Sequence[Failures] = field(default=())


def snapshot(now: Look, before: Look | None) -> Snapshot:
    """Return what is going on; without a look before, what needs none."""
    growth = _Growth(now, before)
    window_seconds = now.at - before.at if before is not None and growth.processes else None

    def rate(name: str, **labels: str) -> float | None:
        return growth.of(name, **labels) / window_seconds if window_seconds else None

    return Snapshot(
        at=now.at,
        window_seconds=window_seconds,
        processes=_rows(now, before, growth, window_seconds),
        accepted_per_second=rate(JOBS_ACCEPTED),
        completed_per_second=rate(JOBS_FINISHED, outcome="completed"),
        failed_per_second=rate(JOBS_FINISHED, outcome="failed"),
        retried_per_second=rate(JOBS_RETRIED),
        times=_times(now, growth),
        jobs=_most_by(now, JOBS, "state"),
        oldest_unfinished_seconds=max(_values(now, OLDEST), default=None),
        outbox_depth=_whole(max(_values(now, OUTBOX_DEPTH), default=None)),
        jobs_held_back=_whole(max(_values(now, JOBS_HELD_BACK), default=None)),
        consumer_lag=_sum_by(now, CONSUMER_LAG, "topic"),
        projector_lag=_whole(sum(lags) if (lags := list(_values(now, PROJECTOR_LAG))) else None),
        jobs_dead_lettered=_whole(
            sum(_values(now, JOBS_DEAD_LETTERED)) if any(p.is_up for p in now.processes) else None
        ),
        failures=_failures(now, growth),
    )


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """Return a quantile of cumulative buckets by upper bound, as PromQL's histogram_quantile; None when all are 0.

    Within a bucket values count as spread evenly. `inf` when it lies beyond the last finite bound.
    """
    total = buckets.get(inf, 0.0)
    if total <= 0:
        return None
    lower_bound, lower_count = 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= share * total:
            if bound == inf:
                return inf
            inside = (share * total - lower_count) / (count - lower_count) if count > lower_count else 1.0
            return lower_bound + (bound - lower_bound) * inside
        lower_bound, lower_count = bound, count
    return inf


class _Growth:
    """By how much counters rose between two looks; `processes` are those of which that is known."""

    def __init__(self, now: Look, before: Look | None) -> None:
        self._rises: list[tuple[str, Sample]] = []
        self.processes: set[str] = set()
        if before is None:
            return
        earlier = {process.name: process for process in before.processes}
        for process in now.processes:
            counts = _counts_before(process, earlier.get(process.name), before.at)
            if counts is None:
                continue
            self.processes.add(process.name)
            for sample in process.samples:
                old = counts.get((sample.name, *sorted(sample.labels.items())), 0.0)
                rise = sample.value - old if sample.value >= old else sample.value
                self._rises.append((process.name, Sample(sample.name, sample.labels, rise)))

    def of(self, name: str, *, process: str | None = None, **labels: str) -> float:
        """Return the sum of a counter's rises, in one process or all."""
        return sum(
            sample.value
            for whose, sample in self._rises
            if sample.name == name and process in {None, whose} and labels.items() <= sample.labels.items()
        )

    def samples(self, name: str) -> Iterator[Sample]:
        """Return a metric's rises."""
        return (sample for _, sample in self._rises if sample.name == name)


def _counts_before(process: Process, was: Process | None, at: float) -> dict[tuple[object, ...], float] | None:
    """Return what the process's counters were at a time, by series; None when nobody knows."""
    started_at = process.value(STARTED)
    if started_at is not None and started_at > at:
        return {}
    if not process.is_up or was is None or not was.is_up:
        return None
    if was.value(STARTED) != started_at:
        return {}
    return {(sample.name, *sorted(sample.labels.items())): sample.value for sample in was.samples}


def _rows(now: Look, before: Look | None, growth: _Growth, window_seconds: float | None) -> Sequence[ProcessRow]:
    """Return the processes that are there, and those that were a look ago."""
    names = {process.name for process in now.processes}
    gone = [Process(name=process.name) for process in (before.processes if before else ()) if process.name not in names]
    programs = {process.name: _program(process) for look in (before, now) if look for process in look.processes}
    rows = []
    for process in (*now.processes, *gone):
        started_at = process.value(STARTED)
        is_worker = process.value(JOBS_IN_FLIGHT) is not None
        rate = None
        if window_seconds and process.name in growth.processes:
            rate = growth.of(JOBS_FINISHED, process=process.name) / window_seconds
        rows.append(
            ProcessRow(
                name=process.name,
                program=programs[process.name],
                is_up=process.is_up,
                up_seconds=max(0.0, now.at - started_at) if started_at is not None else None,
                restarts=process.restarts,
                jobs_in_flight=_whole(process.value(JOBS_IN_FLIGHT)),
                jobs_per_second=rate if is_worker else None,
            )
        )
    return rows


def _program(process: Process) -> str | None:
    return next((sample.labels.get("program") for sample in process.samples if sample.name == BUILD), None)


def _values(look: Look, name: str) -> Iterator[float]:
    return (sample.value for sample in _samples(look, name))


def _samples(look: Look, name: str) -> Iterator[Sample]:
    return (sample for process in look.processes for sample in process.samples if sample.name == name)


def _sum_by(look: Look, name: str, label: str) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for sample in _samples(look, name):
        totals[sample.labels.get(label, "")] += int(sample.value)
    return dict(sorted(totals.items()))


def _most_by(look: Look, name: str, label: str) -> dict[str, int] | None:
    most: dict[str, int] = {}
    for sample in _samples(look, name):
        key = sample.labels.get(label, "")
        most[key] = max(most.get(key, 0), int(sample.value))
    return most or None


def _failures(look: Look, growth: _Growth) -> Sequence[Failures]:
    """Return the codes with which jobs failed, the most frequent first."""
    ever, recent = (_by_code(samples) for samples in (_samples(look, JOBS_FINISHED), growth.samples(JOBS_FINISHED)))
    return [Failures(code, count, recent[code]) for code, count in ever.most_common() if count]


def _by_code(samples: Iterable[Sample]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for sample in samples:
        if sample.labels.get("outcome") == "failed":
            counts[sample.labels.get("error_code", "")] += round(sample.value)
    return counts


def _times(look: Look, growth: _Growth) -> Times | None:
    for samples, is_recent in ((growth.samples(JOB_BUCKETS), True), (_samples(look, JOB_BUCKETS), False)):
        buckets: dict[float, float] = {}
        for sample in samples:
            bound = float(sample.labels["le"])
            buckets[bound] = buckets.get(bound, 0.0) + sample.value
        p50, p95 = quantile(0.5, buckets), quantile(0.95, buckets)
        if p50 is not None and p95 is not None:
            return Times(p50, p95, is_recent)
    return None


def _whole(number: float | None) -> int | None:
    return None if number is None else round(number)
