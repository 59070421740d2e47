"""The report: one HTML file without outside links, its style and charts inside; nothing of it needs a script.

What matters most comes first: the figure, what the confidence is worth, what went wrong. Long tables are folded.
"""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Final

from classifier_worker.evaluation.charts import reliability_plot, selective_plot
from classifier_worker.evaluation.measures import Estimate
from classifier_worker.evaluation.summary import Kind, Summary, Ways
from classifier_worker.evaluation.wordings import Wording

_STYLE: Final = Path(__file__).with_name("static") / "report.css"
_MOST_MISTAKES: Final = 60
_MOST_CONFUSIONS: Final = 25
_MOST_LOSSES: Final = 25
#: Rows that a table shows before the rest is folded.
_SHOWN: Final = 12


def as_html(summary: Summary) -> str:
    """Return the whole page."""
    parts = [
        _head(summary),
        _charts(summary.ways[0]),
        _ways(summary),
        _wordings(summary.wordings),
        _kinds(summary.kinds),
        _confusions(summary),
        _mistakes(summary),
        _unread(summary),
        _method(summary),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>docfleet evaluation: {escape(summary.model)}</title>"
        f"<style>\n{_STYLE.read_text('utf-8')}</style></head><body>\n<main>{''.join(parts)}</main></body></html>\n"
    )


def _head(summary: Summary) -> str:
    first, documents = summary.ways[0], len(summary.judged)
    right = sum(one.is_right for one in summary.judged)
    tiles = [
        ("right, mean over kinds", first.by_kind, f"{first.title} offered"),
        ("true name in the top three", first.top3, f"{first.title} offered"),
    ]
    told = [_tile(title, f"{e.value:.0%}", f"{_percents(e)}; {note}") for title, e, note in tiles]
    error = first.calibration
    told.append(_tile("calibration error", f"{error.value:.3f}", f"{_interval(error)}; 0 is confidence to believe"))
    if summary.none_auroc:
        auroc = summary.none_auroc
        told.append(_tile("knows when none fits", f"{auroc.value:.2f}", "AUROC: 0.5 is chance, 1 perfect"))
    unread = f" {len(summary.unread)} more could not be read and are in no figure." if summary.unread else ""
    return (
        f'<header><p class="soft">docfleet evaluation of <strong>{escape(summary.model)}</strong></p>'
        f'<div class="hero"><b>{first.accuracy.value:.0%}</b><h1>{right} of {documents} documents '
        "got their name</h1></div>"
        f"{_range(first.accuracy)}"
        f'<p class="soft">{len(summary.names)} names were offered for each. With other documents like these, expect '
        f"{_percents(first.accuracy)} (95 % interval).{unread}</p></header>"
        f'<section class="tiles">{"".join(told)}</section>'
    )


def _tile(title: str, value: str, note: str) -> str:
    return f"<div><span>{escape(title)}</span><b>{value}</b><small>{escape(note)}</small></div>"


def _range(estimate: Estimate) -> str:
    """Return a bar from 0 to 100 %: the value, and its interval as a lighter band."""
    low, high, value = estimate.low * 100, estimate.high * 100, estimate.value * 100
    return (
        f'<div class="range"><i style="left:{low:.1f}%;width:{max(high - low, 0.4):.1f}%"></i>'
        f'<b style="left:{value:.1f}%"></b></div>'
    )


def _ways(summary: Summary) -> str:
    rows = [
        (escape(way.title), *(f"{e.value:.3f} <small>{_interval(e)}</small>" for e in _figures(way)))
        for way in summary.ways
    ]
    charts = "".join(
        f"<details><summary>Charts for {escape(w.title)}</summary>{_pair(w)}</details>" for w in summary.ways[1:]
    )
    return (
        "<section><h2>By the number of names offered</h2><p>Fewer names are easier. The true name is always among "
        f"them; the others are drawn {summary.seeds} times.</p>"
        + _table(("Offered", "Per file", "Mean over kinds", "Top 3", "Calibration error"), rows)
        + f"{charts}</section>"
    )


def _figures(way: Ways) -> tuple[Estimate, ...]:
    return way.accuracy, way.by_kind, way.top3, way.calibration


def _charts(way: Ways) -> str:
    return f"<section><h2>What the confidence is worth</h2>{_pair(way)}</section>"


def _pair(way: Ways) -> str:
    coverage, accuracy = way.selective
    return (
        f'<div class="charts"><figure>{reliability_plot(way.bins)}<figcaption><strong>Can it be believed?</strong> '
        "Dots on the dashed line mean what they say; below it the confidence is too high. A larger dot stands for more "
        f"answers; {escape(way.title)} offered.</figcaption></figure>"
        f"<figure>{selective_plot(coverage.tolist(), accuracy.tolist())}<figcaption><strong>What if people read the "
        "unsure ones?</strong> How often answers are right when only the surest are taken.</figcaption></figure></div>"
    )


def _wordings(wordings: list[Wording]) -> str:
    if not wordings:
        return ""
    rows = [
        (
            escape(one.title),
            f"{_bar(one.accuracy.value)} {one.accuracy.value:.3f} <small>{_interval(one.accuracy)}</small>",
            f"{one.by_kind.value:.3f} <small>{_interval(one.by_kind)}</small>",
            f"{one.change.value:+.3f} <small>{one.change.low:+.3f} to {one.change.high:+.3f}</small>"
            if one.change
            else "–",
        )
        for one in wordings
    ]
    losses = sorted(
        (loss for one in wordings for loss in one.losses),
        key=lambda loss: (loss.right_by_synonym - loss.right, loss.name),
    )
    lost = [
        (escape(loss.name), escape(loss.synonym), f"{loss.right} of {loss.documents}", f"{loss.right_by_synonym}")
        for loss in losses[:_MOST_LOSSES]
    ]
    told = _folded(("Kind", "Called", "Right by its plain name", "Right when called so"), lost) if lost else ""
    return (
        "<section><h2>In other words</h2><p>The same documents, each kind called by another name. The smaller the "
        "change, the less depends on how you word your categories.</p>"
        + _table(("Called by", "Per file", "Mean over kinds", "Change"), rows)
        + (f"<h3>Names that lost most</h3>{told}" if told else "")
        + "</section>"
    )


def _kinds(kinds: list[Kind]) -> str:
    ordered = sorted(kinds, key=lambda kind: (kind.right / kind.documents, -kind.documents, kind.name))
    bars = "".join(
        f'<li><span class="name">{escape(kind.name)}</span>{_bar(kind.right / kind.documents)}'
        f'<span class="count">{kind.right} of {kind.documents}</span></li>'
        for kind in ordered
    )
    return (
        "<section><h2>Kind by kind</h2><p>All names offered; the hardest first.</p>"
        f'<ul class="bars">{bars}</ul></section>'
    )


def _bar(share: float) -> str:
    return f'<span class="bar" role="img" aria-label="{share:.0%}"><i style="width:{share:.0%}"></i></span>'


def _confusions(summary: Summary) -> str:
    if not summary.confusions:
        return "<section><h2>Confusions</h2><p>None.</p></section>"
    rows = [(escape(name), escape(told), str(times)) for name, told, times in summary.confusions[:_MOST_CONFUSIONS]]
    return f"<section><h2>Confusions</h2>{_folded(('Is', 'Was taken for', 'Times'), rows)}</section>"


def _mistakes(summary: Summary) -> str:
    wrong = sorted((one for one in summary.judged if not one.is_right), key=lambda one: -one.confidence)
    if not wrong:
        return ""
    rows = [
        (
            f"<code>{escape(one.row.path)}</code>",
            escape(one.name),
            f"{escape(one.prediction)} <small>{one.confidence:.2f}</small>",
            f"{one.scores[one.name]:.2f}",
        )
        for one in wrong[:_MOST_MISTAKES]
    ]
    more = f" The first {_MOST_MISTAKES} of {len(wrong)}." if len(wrong) > _MOST_MISTAKES else ""
    return (
        "<section><h2>Mistakes, the surest first</h2><p>These cost most. Look whether the label is right before you "
        f"blame the answer.{more}</p>" + _folded(("File", "Is", "Answer", "True name's score"), rows) + "</section>"
    )


def _unread(summary: Summary) -> str:
    if not summary.unread:
        return ""
    rows = [(f"<code>{escape(row.path)}</code>", escape(row.label), escape(error)) for row, error in summary.unread]
    return f"<section><h2>Could not be read</h2>{_folded(('File', 'Label', 'Why'), rows)}</section>"


def _method(summary: Summary) -> str:
    unit = "source" if summary.is_by_source else "file"
    none = (
        f" Knowing when none fits: {summary.none_documents} documents are asked with ten names, once with the true one "
        "among them and once without; the AUROC is how often the first looks surer than the second."
        if summary.none_auroc
        else ""
    )
    return (
        "<section><h2>How this was measured</h2><p>Intervals are 95 % percentiles of 1000 bootstrap draws, "
        f"each of whole {unit}s ({summary.sources}) with replacement. The calibration error is the mean distance "
        f"between confidence and accuracy over ten bins of equally many answers.{none}</p>"
        "<p>These figures hold for these documents; another collection has others.</p></section>"
    )


def _interval(estimate: Estimate) -> str:
    return f"{estimate.low:.3f} to {estimate.high:.3f}"


def _percents(estimate: Estimate) -> str:
    return f"{estimate.low:.0%} to {estimate.high:.0%}"


def _folded(head: Iterable[str], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table of the first rows, and the others below a line that opens them."""
    titles = tuple(head)
    shown = _table(titles, rows[:_SHOWN])
    if len(rows) <= _SHOWN:
        return shown
    return f"{shown}<details><summary>{len(rows) - _SHOWN} more</summary>{_table(titles, rows[_SHOWN:])}</details>"


def _table(head: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table that becomes one card a row where the page is narrow; cells are HTML already."""
    titles = [escape(cell) for cell in head]
    top = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join(
        "<tr>"
        + "".join(f'<td data-of="{title}"><span>{cell}</span></td>' for title, cell in zip(titles, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
