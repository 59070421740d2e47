"""Charts as SVG text: the reliability plot and accuracy against coverage, both on a square from 0 to 1."""

from collections.abc import Iterable, Sequence

_SIDE = 260.0
_EDGE = 54.0  #: left and below, for the marks and the titles
_MARGIN = 16.0  #: above and on the right
_MOST_POINTS = 200
_BACK = '<rect width="100%" height="200%" fill="#fff"/>'
_STYLE = (
    "text{font-size:11px;fill:#5f6a7a}.grid{stroke:#e1e5ea}.ideal{stroke:#5f6a7a;stroke-dasharray:4 4}"
    "polyline{fill:none;stroke:#2563a8;stroke-width:2}circle{fill:#2563a8;fill-opacity:.75}"
)


def reliability_plot(bins: Sequence[tuple[float, float, int]]) -> str:
    """Return the plot of (confidence, accuracy, size); a dot on the diagonal is a confidence that can be believed."""
    most = max(size for *_, size in bins)
    line = f'<line class="ideal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>'
    path = _path((confidence, accuracy) for confidence, accuracy, _ in bins)
    dots = "".join(
        f'<circle cx="{_x(confidence)}" cy="{_y(accuracy)}" r="{3 + 4 * size / most:.1f}">'
        f"<title>confidence {confidence:.2f}, right {accuracy:.2f}, {size} answers</title></circle>"
        for confidence, accuracy, size in bins
    )
    return _framed(line + path + dots, "confidence", "share of right answers", "Reliability plot")


def selective_plot(coverage: Sequence[float], accuracy: Sequence[float]) -> str:
    """Return the curve of how often the surest share of the answers is right."""
    step = max(1, len(coverage) // _MOST_POINTS)
    points = [*zip(coverage[::step], accuracy[::step], strict=True), (coverage[-1], accuracy[-1])]
    return _framed(_path(points), "share of documents answered, surest first", "of them right", "Selective accuracy")


def as_file(chart: str) -> str:
    """Return a chart as a file of its own, with the few rules of style that it needs; light, for any document."""
    return chart.replace(
        "<svg ", '<svg xmlns="http://www.w3.org/2000/svg" width="720" font-family="sans-serif" ', 1
    ).replace(">", f"><style>{_STYLE}</style>{_BACK}", 1)


def _framed(inside: str, across: str, up: str, title: str) -> str:
    width, height = _EDGE + _SIDE + 2 * _MARGIN, _SIDE + _EDGE + _MARGIN
    middle = _EDGE + _SIDE / 2
    marks = "".join(
        f'<line class="grid" x1="{_x(0)}" x2="{_x(1)}" y1="{_y(at)}" y2="{_y(at)}"/>'
        f'<text x="{_EDGE - 6}" y="{_y(at)}" dy="4" text-anchor="end">{at:.0%}</text>'
        f'<text x="{_x(at)}" y="{_EDGE + _SIDE + 16}" text-anchor="middle">{at:.0%}</text>'
        for at in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    return (
        f'<svg viewBox="0 {_EDGE - _MARGIN:g} {width:g} {height:g}" role="img" aria-label="{title}">{marks}{inside}'
        f'<text x="{middle}" y="{_EDGE + _SIDE + 40}" text-anchor="middle">{across}</text>'
        f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">{up}</text></svg>'
    )


def _path(points: Iterable[tuple[float, float]]) -> str:
    return f'<polyline points="{" ".join(f"{_x(across)},{_y(up)}" for across, up in points)}"/>'


def _x(share: float) -> str:
    return f"{_EDGE + _SIDE * share:.1f}"


def _y(share: float) -> str:
    return f"{_EDGE + _SIDE * (1 - share):.1f}"
