"""Answers as a table for people: aligned on a terminal in any language, safe against odd file names."""

import unicodedata
from collections.abc import Sequence
from typing import Any, Final

Row = Sequence[str]

_HEAD: Final = ("FILE", "CLASSIFICATION", "CONFIDENCE", "PAGES", "RUNNER-UP")
_GAP: Final = "  "


def rows_of(file: str, job: dict[str, Any], *, with_pages: bool) -> list[Row]:
    """Return the lines of one document: itself, and each of its pages when asked for, or when they have evidence."""
    result = job.get("result")
    if result is None:
        code = f" ({job['error_code']})" if job.get("error_code") else ""
        return [(file, str(job["status"]), "", "", f"{job.get('error') or ''}{code}")]
    pages = f"{result.get('processed_pages', 1)}/{result['total_pages']}"
    rows: list[Row] = [_answer(file, result, pages), *_because(result)]
    page_results = result.get("page_results", ())
    for page in page_results if with_pages or any("evidence" in page for page in page_results) else ():
        name = f"  page {page['page']}"
        if page["success"]:
            rows += [_answer(name, page, ""), *_because(page)]
        else:
            rows.append((name, "failed", "", "", str(page.get("error") or "")))
    return rows


def rendered(rows: Sequence[Row]) -> str:
    """Return the table's text, with its head."""
    cells = [[printable(cell) for cell in row] for row in (_HEAD, *rows)]
    widths = [max(_width(row[column]) for row in cells) for column in range(len(_HEAD))]
    lines = (
        _GAP.join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)) for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def _answer(name: str, result: dict[str, Any], pages: str) -> Row:
    review = " (review)" if result.get("review") else ""
    return (name, result["classification"] + review, f"{result['confidence']:.3f}", pages, _runner_up(result))


def _because(result: dict[str, Any]) -> list[Row]:
    """Return a line that says what decided, none where that was not asked for."""
    evidence = result.get("evidence")
    if evidence is None:
        return []
    channels = [f"{name} {value:+.1f}" for name, value in evidence["channels"].items()]
    phrases = [f'"{phrase["text"]}"' for phrase in evidence["phrases"]]
    return [("  because", "", "", "", ", ".join([*channels, *phrases]) or "nothing stood out")]


def _runner_up(result: dict[str, Any]) -> str:
    others = [(name, score) for name, score in result.get("scores", {}).items() if name != result["classification"]]
    if not others:
        return ""
    name, score = max(others, key=lambda other: other[1])
    return f"{name} {score:.3f}"


def printable(text: str) -> str:
    """Replace what a terminal would act on."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in {"Cc", "Cs"} else c for c in text)


def _width(text: str) -> int:
    """Return how many columns a terminal takes for `text` (Unicode Standard Annex 11)."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
