"""The report: one HTML file without outside links, its style and charts inside."""

from collections.abc import Iterable
from html import escape
from pathlib import Path

from classifier_worker.evaluation.charts import reliability_plot, selective_plot
from classifier_worker.evaluation.measures import Estimate
from classifier_worker.evaluation.summary import Summary, Ways

_STYLE = Path(__file__).with_name("static") / "report.css"
_MOST_MISTAKES = 60
_MOST_CONFUSIONS = 25


def as_html(summary: Summary) -> str:
    """Return the whole page."""
    parts = [
        _head(summary),
        _ways(summary),
        _charts(summary.ways),
        _kinds(summary),
        _confusions(summary),
        _mistakes(summary),
        _unread(summary),
        _method(summary),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>docfleet evaluation: {escape(summary.model)}</title>"
        f"<style>\n{_STYLE.read_text('utf-8')}</style></head><body>\n{''.join(parts)}</body></html>\n"
    )


def _head(summary: Summary) -> str:
    first, documents = summary.ways[0], len(summary.judged)
    right = sum(one.is_right for one in summary.judged)
    tiles = [
        ("right per file", first.accuracy, first.title),
        ("right, mean over kinds", first.by_kind, first.title),
        ("true name among the top three", first.top3, first.title),
    ]
    told = [_tile(title, f"{e.value:.0%}", f"{note}; {_interval(e)}") for title, e, note in tiles]
    told.append(_tile("calibration error", f"{first.calibration.value:.3f}", "0 is a confidence that can be believed"))
    if summary.none_auroc:
        told.append(_tile("knows when none fits", f"{summary.none_auroc.value:.2f}", "AUROC; 0.5 is chance, 1 perfect"))
    unread = f" {len(summary.unread)} could not be read and are in no figure." if summary.unread else ""
    return (
        f"<h1>{right} of {documents} documents named rightly</h1>"
        f'<p class="soft">{escape(summary.model)} chose among {len(summary.names)} names.{unread}</p>'
        f'<div class="tiles">{"".join(told)}</div>'
    )


def _tile(title: str, value: str, note: str) -> str:
    return f"<div>{escape(title)}<b>{value}</b><small>{escape(note)}</small></div>"


def _ways(summary: Summary) -> str:
    rows = [
        (way.title, *(f"{e.value:.3f} <small>{_interval(e)}</small>" for e in _figures(way))) for way in summary.ways
    ]
    return (
        "<h2>By the number of names offered</h2><p>Fewer names are easier. The true name is always among them; "
        f"the others are drawn {summary.seeds} times.</p>"
        + _table(("Offered", "Per file", "Mean over kinds", "Top 3", "Calibration error"), rows)
    )


def _figures(way: Ways) -> tuple[Estimate, ...]:
    return way.accuracy, way.by_kind, way.top3, way.calibration


def _charts(ways: list[Ways]) -> str:
    figures = []
    for way in ways:
        coverage, accuracy = way.selective
        figures.append(
            f"<figure>{reliability_plot(way.bins)}<figcaption>{escape(way.title)}: dots on the dashed line mean what "
            "they say; below it the confidence is too high.</figcaption></figure>"
            f"<figure>{selective_plot(coverage.tolist(), accuracy.tolist())}<figcaption>{escape(way.title)}: how often "
            "answers are right when only the surest are taken and people read the rest.</figcaption></figure>"
        )
    return f'<h2>What the confidence is worth</h2><div class="charts">{"".join(figures)}</div>'


def _kinds(summary: Summary) -> str:
    rows = [
        (escape(kind.name), f"{kind.right} of {kind.documents}", _bar(kind.right / kind.documents))
        for kind in sorted(summary.kinds, key=lambda kind: (kind.right / kind.documents, -kind.documents, kind.name))
    ]
    return "<h2>Kind by kind</h2><p>All names offered; the hardest first.</p>" + _table(("Kind", "Right", ""), rows)


def _bar(share: float) -> str:
    return f'<span class="bar"><i style="width:{share:.0%}"></i></span>'


def _confusions(summary: Summary) -> str:
    if not summary.confusions:
        return "<h2>Confusions</h2><p>None.</p>"
    rows = [(escape(name), escape(told), str(times)) for name, told, times in summary.confusions[:_MOST_CONFUSIONS]]
    return "<h2>Confusions</h2>" + _table(("Is", "Was taken for", "Times"), rows)


def _mistakes(summary: Summary) -> str:
    wrong = sorted((one for one in summary.judged if not one.is_right), key=lambda one: -one.confidence)
    if not wrong:
        return ""
    rows = [
        (
            escape(one.row.path),
            escape(one.name),
            f"{escape(one.prediction)} <small>{one.confidence:.2f}</small>",
            f"{one.scores[one.name]:.2f}",
        )
        for one in wrong[:_MOST_MISTAKES]
    ]
    more = f" The first {_MOST_MISTAKES} of {len(wrong)}." if len(wrong) > _MOST_MISTAKES else ""
    return (
        f"<h2>Mistakes, the surest first</h2><p>These cost most. Look whether the label is right before you blame the "
        f"answer.{more}</p>" + _table(("File", "Is", "Answer", "True name's score"), rows)
    )


def _unread(summary: Summary) -> str:
    if not summary.unread:
        return ""
    rows = [(escape(row.path), escape(row.label), escape(error)) for row, error in summary.unread]
    return "<h2>Could not be read</h2>" + _table(("File", "Label", "Why"), rows)


def _method(summary: Summary) -> str:
    unit = "source" if summary.is_by_source else "file"
    return (
        "<h2>How this was measured</h2><p>Intervals are 95 % percentiles of 1000 bootstrap draws, "
        f"each of whole {unit}s ({summary.sources}) with replacement. The calibration error is the mean distance "
        "between confidence and accuracy over ten bins of equally many answers. Knowing when none fits: each "
        "document is asked with ten names, once with the true one among them and once without; the AUROC is "
        "how often the first looks surer than the second.</p>"
        "<p>These figures hold for these documents; another collection has others.</p>"
    )


def _interval(estimate: Estimate) -> str:
    return f"{estimate.low:.3f} to {estimate.high:.3f}"


def _table(head: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table; cells are HTML already."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f'<td class="path">{cell}</td>' for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'
