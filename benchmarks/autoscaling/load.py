"""A day's jobs: when each arrives, whose it is, how long reading it takes. A pure function of the seed."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.autoscaling.measured import WorkerFigures

DAY_SECONDS: Final = 86_400.0
HOUR: Final = 3600.0
Seconds = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What a day looks like; the defaults are an office's, in its own time zone."""

    seconds: float = DAY_SECONDS
    tenants: int = 20
    peak_per_second: float = 40.0  #: jobs at the height of the day, spread over all tenants
    night_per_second: float = 1 / 900  #: before five in the morning and after eleven at night
    bursts: int = 16  #: a tenant sends a few thousand documents within minutes
    burst_jobs: tuple[int, int] = (500, 4000)
    burst_seconds: tuple[float, float] = (20.0, 180.0)
    drop_jobs: int = 20_000  #: one tenant's archive, all at once
    drop_at: float = 15 * HOUR
    drop_seconds: float = 200.0


@dataclass(frozen=True, slots=True)
class Jobs:
    """Jobs in the order of their arrival; all arrays (J,)."""

    arrives_at: Seconds
    tenant: NDArray[np.int64]
    pages: NDArray[np.int64]
    read_seconds: Seconds  #: of one core
    key: NDArray[np.int64]  #: a job's key modulo a number of partitions is its partition
    dropper: int  #: the tenant that drops an archive

    def __len__(self) -> int:
        return len(self.arrives_at)


def make_jobs(day: Day, worker: WorkerFigures, *, seed: int) -> Jobs:
    """Return the day's jobs."""
    draw = np.random.default_rng(seed)
    background = _background(day, draw)
    parts = [(background, draw.integers(day.tenants, size=len(background)))]
    # bursts come while people work, and take turns among the tenants but the one that drops its archive
    for number in range(day.bursts):
        begin = draw.uniform(0.27, 0.88) * day.seconds
        size, span = int(draw.integers(*day.burst_jobs)), draw.uniform(*day.burst_seconds)
        parts.append(_at_once(begin, span, size, 1 + number % (day.tenants - 1), draw))
    if day.drop_jobs:
        parts.append(_at_once(day.drop_at, day.drop_seconds, day.drop_jobs, 0, draw))
    arrives_at = np.concatenate([times for times, _ in parts])
    tenant = np.concatenate([tenants for _, tenants in parts])
    order = np.argsort(arrives_at, kind="stable")
    count = len(order)
    pages, read_seconds = _work(count, worker, draw)
    return Jobs(arrives_at[order], tenant[order], pages, read_seconds, draw.integers(1 << 30, size=count), dropper=0)


def _background(day: Day, draw: np.random.Generator) -> Seconds:
    """Return the times of a Poisson process whose rate follows the hours, by thinning."""
    most = max(day.peak_per_second, day.night_per_second)
    times = np.sort(draw.uniform(0, day.seconds, size=draw.poisson(most * day.seconds)))
    kept = draw.uniform(size=len(times)) * most < _rate(day, times)
    return np.asarray(times[kept], dtype=np.float64)


def _rate(day: Day, times: Seconds) -> Seconds:
    """Return jobs a second: next to none at night, a rise from five, a dip at noon, a fall until eleven."""
    hours = times / day.seconds * 24
    hump = np.clip(np.sin((hours - 5) / 18 * np.pi), 0, None) ** 2
    noon = 1 - 0.25 * np.exp(-(((hours - 12.5) / 0.8) ** 2))
    return np.asarray(np.maximum(day.peak_per_second * hump * noon, day.night_per_second))


def _at_once(
    begin: float, span: float, size: int, tenant: int, draw: np.random.Generator
) -> tuple[Seconds, NDArray[np.int64]]:
    return begin + draw.uniform(0, span, size=size), np.full(size, tenant, dtype=np.int64)


def _work(count: int, worker: WorkerFigures, draw: np.random.Generator) -> tuple[NDArray[np.int64], Seconds]:
    """Return pages and reading seconds of each job: born-digital, scanned, and a few that are slow to read."""
    pages = draw.choice([1, 2, 3, 4], p=[0.3, 0.2, 0.15, 0.35], size=count)
    is_scan = draw.uniform(size=count) < worker.scan_share
    a_page = np.where(is_scan, worker.scan_page_seconds, worker.digital_page_seconds)
    seconds = worker.document_seconds + pages * a_page * draw.lognormal(-0.125, 0.5, size=count)  # mean 1
    is_slow = draw.uniform(size=count) < worker.slow_share
    seconds = np.where(is_slow, draw.uniform(worker.slow_seconds / 3, worker.slow_seconds, size=count), seconds)
    return pages.astype(np.int64), np.minimum(seconds, worker.slow_seconds)
