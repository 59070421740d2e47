"""Which lines of a page are worth reading, when reading all of them would cost too much; pure, no model.

Recognition costs by the width of a line, so a page has a budget of width. It is an amount of work and
not of time, so that a busy machine reads the same text as an idle one. It goes to the largest type
first, then to the beginning of the page, then to short lines all over the page: labels such as "total
due" tell more of what a document is than the rest of its sentences, and cost less.
"""

from collections.abc import Iterable, Sequence
from typing import Final

#: Type larger than this many times the median is a heading.
_LARGE: Final = 1.3
#: Share of the budget that headings and the beginning of the page may take before labels have their turn.
_BEGINNING_SHARE: Final = 0.5
#: Lines that cost less than this are labels, px.
_LABEL_PX: Final = 325.0


def lines_within(budget_px: float, heights: Sequence[float], costs_px: Sequence[float]) -> list[int]:
    """Return the positions of the lines to read, in their order; lines are given in reading order."""
    everything = range(len(costs_px))
    if sum(costs_px) <= budget_px:
        return list(everything)
    body = sorted(heights)[len(heights) // 2]
    large = [at for at in everything if heights[at] > _LARGE * body]
    chosen, spent = _take(large, costs_px, 0.0, budget_px)
    beginning, spent = _take(_others(everything, chosen), costs_px, spent, _BEGINNING_SHARE * budget_px)
    chosen |= beginning
    by_worth = sorted(_others(everything, chosen), key=lambda at: (costs_px[at] > _LABEL_PX, at))
    rest, _ = _take(by_worth, costs_px, spent, budget_px)
    return sorted(chosen | rest)


def _others(lines: Iterable[int], taken: set[int]) -> list[int]:
    return [at for at in lines if at not in taken]


def _take(lines: Iterable[int], costs_px: Sequence[float], spent: float, budget_px: float) -> tuple[set[int], float]:
    """Return the first of `lines` that fit into the budget, and what is spent then; a line is read whole or not."""
    taken: set[int] = set()
    for at in lines:
        if spent + costs_px[at] > budget_px:
            break
        spent += costs_px[at]
        taken.add(at)
    return taken, spent
