"""Curves over the day as SVG text: a row for each fleet, one scale for all. The same samples give the same bytes."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.autoscaling.load import HOUR
from benchmarks.autoscaling.world import Outcome, Sample

_WIDTH, _ROW, _LEFT, _TOP, _GAP = 760.0, 96.0, 60.0, 34.0, 30.0
_PIXELS = 2  #: of one step of a line
_STYLE = (
    "text{font:11px sans-serif;fill:#3d4653}.title{font-weight:600}.grid{stroke:#e1e5ea}"
    ".frame{fill:#fff;stroke:#c6ccd4}polyline{fill:none;stroke-width:1.4}"
)


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a row: its name in the legend, its colour, and what it shows of a sample."""

    name: str
    colour: str
    value: Callable[[Sample], float]


REPLICAS = (
    Curve("nodes paid for", "#c9a227", lambda sample: sample.nodes),
    Curve("workers wanted", "#8f99a8", lambda sample: sample.wanted),
    Curve("workers ready", "#2563a8", lambda sample: sample.ready),
)
BACKLOG = (
    Curve("jobs in Kafka (lag)", "#2563a8", lambda sample: sample.lag),
    Curve("jobs held back", "#8f99a8", lambda sample: sample.held_back),
    Curve("oldest job, seconds", "#b3261e", lambda sample: sample.oldest_seconds),
)


def draw(outcomes: Sequence[Outcome], curves: Sequence[Curve], *, title: str, is_log: bool) -> str:
    """Return the chart of the curves over the hours, a row for each outcome."""
    most = max(curve.value(sample) for outcome in outcomes for sample in outcome.samples for curve in curves)
    hours = max(sample.at for outcome in outcomes for sample in outcome.samples) / HOUR
    scale = _Scale(most=max(most, 1.0), hours=math.ceil(hours), is_log=is_log)
    rows = "".join(_row(outcome, curves, scale, number) for number, outcome in enumerate(outcomes))
    height = _TOP + len(outcomes) * (_ROW + _GAP) + 14
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {height:g}" width="{_WIDTH:g}" role="img" '
        f'aria-label="{title}"><style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>'
        f"{_legend(curves)}{rows}"
        f'<text x="{(_WIDTH + _LEFT) / 2:g}" y="{height - 3:g}" text-anchor="middle">hour of the day</text></svg>\n'
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    most: float
    hours: int
    is_log: bool

    def x(self, seconds: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 12) * seconds / HOUR / self.hours

    def share(self, value: float) -> float:
        return math.log10(1 + value) / math.log10(1 + self.most) if self.is_log else value / self.most

    def marks(self) -> list[float]:
        if self.is_log:
            return [0.0, *(10.0**power for power in range(1, int(math.log10(self.most)) + 1, 2))]
        step = 10 ** math.floor(math.log10(self.most)) / (
            1 if self.most / 10 ** math.floor(math.log10(self.most)) > 4 else 2
        )
        return [step * number for number in range(int(self.most / step) + 1)]


def _row(outcome: Outcome, curves: Sequence[Curve], scale: _Scale, number: int) -> str:
    top = _TOP + number * (_ROW + _GAP) + 14
    low = top + _ROW

    def y(value: float) -> float:
        return low - (_ROW - 6) * scale.share(value)

    grid = "".join(
        f'<line class="grid" x1="{_LEFT:g}" x2="{_WIDTH - 12:g}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>'
        f'<text x="{_LEFT - 5:g}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark:,.0f}</text>'
        for mark in scale.marks()
    )
    hours = "".join(
        f'<text x="{scale.x(hour * HOUR):.1f}" y="{low + 12:.1f}" text-anchor="middle">{hour}</text>'
        for hour in range(0, scale.hours + 1, 3)
    )
    lines = "".join(
        f'<polyline stroke="{curve.colour}" points="{_steps(outcome.samples, curve.value, scale.x, y)}"/>'
        for curve in curves
    )
    return (
        f'<text class="title" x="{_LEFT:g}" y="{top - 4:.1f}">{outcome.fleet.name}</text>'
        f'<rect class="frame" x="{_LEFT:g}" y="{top:.1f}" width="{_WIDTH - _LEFT - 12:g}" height="{_ROW:g}"/>'
        f"{grid}{hours}{lines}"
    )


def _steps(
    samples: Iterable[Sample],
    value: Callable[[Sample], float],
    x: Callable[[float], float],
    y: Callable[[float], float],
) -> str:
    """Return the points of a step line: the largest value within each few pixels, and none where nothing changes."""
    largest: dict[int, float] = {}
    for sample in samples:
        pixel = round(x(sample.at) / _PIXELS) * _PIXELS
        largest[pixel] = max(largest.get(pixel, 0.0), value(sample))
    points: list[str] = []
    last = ""
    for pixel, most in largest.items():
        level = f"{y(most):.0f}"
        if level != last:
            points += [f"{pixel},{last}"] * bool(last) + [f"{pixel},{level}"]
            last = level
    return " ".join([*points, f"{max(largest)},{last}"])


def _legend(curves: Sequence[Curve]) -> str:
    return "".join(
        f'<rect x="{_LEFT + 190 * number:g}" y="10" width="14" height="4" fill="{curve.colour}"/>'
        f'<text x="{_LEFT + 190 * number + 20:g}" y="16">{curve.name}</text>'
        for number, curve in enumerate(curves)
    )
