"""How evidence becomes an answer: channels to probabilities, probabilities to ranked scores, pages to a document.

Owns the arithmetic; what of it is told, and in which shape, is in `core/result.py`. Knows nothing of models, files or
Kafka. Everything here is a pure function of its arguments, so the order of the categories, the
neighbours in a batch and the attempt cannot change an answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classifier_worker.core.answer import PageAnswer

#: Scores are told with six digits; they are counted in these units so that they sum to one exactly.
_UNITS: Final = 1_000_000

#: A channel further than this from its background mean says no more than one at this distance.
MOST_DEVIATIONS: Final = 6.0


@dataclass(frozen=True, slots=True)
class PageWeights:
    """How much each page says about its document: the first `first`, the others share the rest equally."""

    first: float = 0.6

    def of(self, pages: Sequence[int]) -> NDArray[np.float64]:
        """Return weights that sum to 1 for the page numbers `pages`, of which the lowest counts as first."""
        if len(pages) == 1:
            return np.ones(1)
        weights = np.full(len(pages), (1.0 - self.first) / (len(pages) - 1))
        weights[int(np.argmin(pages))] = self.first
        return weights


def weigh_channels(
    channels: Mapping[str, NDArray[np.float32]], weights: Mapping[str, float]
) -> dict[str, NDArray[np.float64]]:
    """Return what each channel adds to the logit of each category (C,).

    Each of `channels` holds one number per category (C,), in standard deviations from what the channel
    says of that category on unrelated pages; 0 means that the channel has nothing to say.
    """
    return {
        name: weight * np.clip(channels[name], -MOST_DEVIATIONS, MOST_DEVIATIONS).astype(np.float64)
        for name, weight in weights.items()
        if name in channels
    }


def soften(logits: NDArray[np.float64], *, temperature: float) -> NDArray[np.float64]:
    """Return probabilities (C,) by a softmax with the bundle's one fitted temperature (arXiv 2303.12748)."""
    odds = np.exp((logits - logits.max()) / temperature)
    return np.asarray(odds / odds.sum(), dtype=np.float64)


def combine_pages(pages: Sequence[tuple[int, NDArray[np.float64]]], weights: PageWeights) -> NDArray[np.float64]:
    """Return the document's probabilities (C,) from (page number, probabilities) of the pages that could be read.

    The mean is geometric, so that a page that rules a category out is heard, and page 1 weighs more:
    on multi-page documents the first page alone beats any plain mean.
    """
    if not pages:
        raise ValueError("a document needs at least one page that could be read")
    shares = weights.of([number for number, _ in pages])
    logs = np.log(np.maximum(np.stack([probabilities for _, probabilities in pages]), 1e-12))
    mean = shares @ logs
    odds = np.exp(mean - mean.max())
    return np.asarray(odds / odds.sum(), dtype=np.float64)


def combine_answers(pages: Sequence[tuple[int, PageAnswer]], weights: PageWeights) -> PageAnswer:
    """Return the document's answer from (page number, answer) of the pages that could be read, without evidence.

    The mean is that of the joint distributions over the names and "none of them". Given that a name fits, it is the
    mean of what the pages say given that, so `none` never changes how the names compare.
    """
    given = [(number, answer.probabilities) for number, answer in pages]
    joint = [(number, joint_distribution(answer)) for number, answer in pages]
    return PageAnswer(combine_pages(given, weights), none=float(combine_pages(joint, weights)[-1]))


def joint_distribution(answer: PageAnswer) -> NDArray[np.float64]:
    """Return the probabilities (C + 1,) of the names and, last, of none of them; they sum to 1."""
    return np.append(answer.probabilities * (1.0 - answer.none), answer.none)


def rank_scores(categories: Sequence[str], probabilities: NDArray[np.float64]) -> dict[str, float]:
    """Return {category: score} in falling order, ties by name; six digits each, together exactly 1.

    Rounding 500 scores one by one could miss 1 by more than 1e-4, so the units that rounding down
    loses go to the largest remainders.
    """
    exact = probabilities / probabilities.sum() * _UNITS
    units = np.floor(exact).astype(np.int64)
    by_remainder = sorted(range(len(categories)), key=lambda i: (-(exact[i] - units[i]), categories[i]))
    for i in by_remainder[: int(_UNITS - units.sum())]:
        units[i] += 1
    order = sorted(range(len(categories)), key=lambda i: (-units[i], categories[i]))
    return {categories[i]: int(units[i]) / _UNITS for i in order}
