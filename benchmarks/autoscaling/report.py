"""What a day came to, as rows of a Markdown table."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from benchmarks.autoscaling.load import Day, Jobs
from benchmarks.autoscaling.world import Outcome

HEAD = (
    "| Fleet | GPU hours | of them spot | wait p50 | p95 | p99 | worst | others' p95 in the drop | most workers "
    "| rebalances |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)
#: How long after the drop other tenants' waits are looked at apart.
_DROP_SPAN_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of one outcome; waits in seconds from accepted to done."""

    name: str
    gpu_hours: float
    spot_hours: float
    p50: float
    p95: float
    p99: float
    worst: float
    others_p95: float
    most_workers: int
    rebalances: int
    undone: int

    def row(self) -> str:
        """Return the table's row."""
        waits = (self.p50, self.p95, self.p99, self.worst, self.others_p95)
        undone = f" ({self.undone:,} jobs never done)" if self.undone else ""
        cells = (
            self.name + undone,
            f"{self.gpu_hours:.0f}",
            f"{self.spot_hours:.0f}",
            *(_span(wait) for wait in waits),
            str(self.most_workers),
            str(self.rebalances),
        )
        return f"| {' | '.join(cells)} |"


def mean_of(found: Sequence[Figures]) -> Figures:
    """Return the mean of several days' figures, but the largest of the worst waits and of the fleets."""
    first = found[0]
    return Figures(
        name=first.name,
        gpu_hours=fmean(one.gpu_hours for one in found),
        spot_hours=fmean(one.spot_hours for one in found),
        p50=fmean(one.p50 for one in found),
        p95=fmean(one.p95 for one in found),
        p99=fmean(one.p99 for one in found),
        worst=max(one.worst for one in found),
        others_p95=fmean(one.others_p95 for one in found),
        most_workers=max(one.most_workers for one in found),
        rebalances=round(fmean(one.rebalances for one in found)),
        undone=round(fmean(one.undone for one in found)),
    )


def figures_of(outcome: Outcome, jobs: Jobs, day: Day) -> Figures:
    """Return the figures; waits are those of jobs that were done, and `undone` counts the others."""
    waits = outcome.waits
    is_done = ~np.isnan(waits)
    others = (jobs.tenant != jobs.dropper) & (jobs.arrives_at >= day.drop_at)
    others &= jobs.arrives_at < day.drop_at + day.drop_seconds + _DROP_SPAN_SECONDS
    return Figures(
        name=outcome.fleet.name,
        gpu_hours=outcome.spot_hours + outcome.full_hours,
        spot_hours=outcome.spot_hours,
        p50=_quantile(waits[is_done], 0.5),
        p95=_quantile(waits[is_done], 0.95),
        p99=_quantile(waits[is_done], 0.99),
        worst=_quantile(waits[is_done], 1.0),
        others_p95=_quantile(waits[is_done & others], 0.95),
        most_workers=outcome.most_ready,
        rebalances=outcome.rebalances,
        undone=int((~is_done).sum()),
    )


def _quantile(values: NDArray[np.float64], share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else 0.0


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
