"""Answers as a table for people: aligned on a terminal in any language, safe against odd file names."""

import unicodedata
from collections.abc import Sequence
from typing import Any, Final

Row = Sequence[str]

_HEAD: Final = ("FILE", "CLASSIFICATION", "CONFIDENCE", "PAGES", "RUNNER-UP")
_GAP: Final = "  "


def rows_of(file: str, job: dict[str, Any], *, with_pages: bool) -> list[Row]:
    """Return the lines of one document: itself, and each of its pages when asked for."""
    result = job.get("result")
    if result is None:
        code = f" ({job['error_code']})" if job.get("error_code") else ""
        return [(file, str(job["status"]), "", "", f"{job.get('error') or ''}{code}")]
    pages = f"{result.get('processed_pages', 1)}/{result['total_pages']}"
    rows: list[Row] = [(file, result["classification"], f"{result['confidence']:.3f}", pages, _runner_up(result))]
    for page in result.get("page_results", ()) if with_pages else ():
        name = f"  page {page['page']}"
        if page["success"]:
            rows.append((name, page["classification"], f"{page['confidence']:.3f}", "", _runner_up(page)))
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
