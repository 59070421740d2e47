"""The statistics of an evaluation: accuracy, calibration, selective accuracy, AUROC, bootstrap; arrays in, numbers out.

Knows no file, no model and no report.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Labels = NDArray[np.int64]

#: Lists that a document is judged on: the true name and this many in all, drawn with these seeds.
SEEDS = range(5)
SIZES = (10, 5)
BOOTSTRAP_DRAWS = 1000
BOOTSTRAP_SEED = 20260101


@dataclass(frozen=True)
class Draws:
    """Lists of names offered to documents: (document, indices of the names, the true one first)."""

    lists: list[tuple[int, NDArray[np.int64]]]

    @classmethod
    def of(cls, labels: Labels, names: int, *, sizes: Sequence[int], seed: int) -> "Draws":
        """Draw one list of each size for each document."""
        rng = np.random.default_rng(seed)
        lists = []
        for document, label in enumerate(labels.tolist()):
            others = np.delete(np.arange(names), label)
            for size in sizes:
                drawn = rng.choice(others, min(size, names) - 1, replace=False)
                lists.append((document, np.concatenate([[label], drawn])))
        return cls(lists)

    def only(self, kept: NDArray[np.bool_]) -> "Draws":
        """Return the lists of the documents that are `kept`."""
        return Draws([(document, offered) for document, offered in self.lists if kept[document]])


@dataclass(frozen=True)
class Accuracy:
    """Shares of right answers: all names by document and by label (macro), then lists of ten and of five."""

    every_name: float
    macro: float
    ten: float
    five: float

    def __str__(self) -> str:
        return f"all names {self.every_name:.3f}, macro {self.macro:.3f}, 10 {self.ten:.3f}, 5 {self.five:.3f}"


def accuracy(scores: Scores, labels: Labels) -> Accuracy:
    """Return the accuracy of `scores` (documents, C); lists are drawn with five seeds each."""
    right = scores.argmax(axis=1) == labels
    by_label = [right[labels == label].mean() for label in np.unique(labels)]
    shares = []
    for size in SIZES:
        hits = []
        for seed in SEEDS:
            for document, offered in Draws.of(labels, scores.shape[1], sizes=(size,), seed=seed).lists:
                hits.append(scores[document, offered[0]] > scores[document, offered[1:]].max())
        shares.append(float(np.mean(hits)))
    return Accuracy(float(right.mean()), float(np.mean(by_label)), *shares)


def calibration_bins(
    confidence: NDArray[np.floating], right: NDArray[np.bool_], *, bins: int = 10
) -> list[tuple[float, float, int]]:
    """Return (mean confidence, accuracy, size) of `bins` of equal mass in rising confidence; empty ones are left out.

    Equal mass instead of equal width (arXiv 1904.01685): no bin rests on a handful of documents.
    """
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return [(float(confidence[part].mean()), float(right[part].mean()), len(part)) for part in parts]


def calibration_error(confidence: NDArray[np.floating], right: NDArray[np.bool_], *, bins: int = 10) -> float:
    """Return the mean distance between confidence and accuracy over bins of equal mass, 0 to 1."""
    found = calibration_bins(confidence, right, bins=bins)
    return sum(abs(mean - share) * size for mean, share, size in found) / sum(size for *_, size in found)


def expected_calibration_error(probabilities: Scores, labels: Labels, *, bins: int = 10) -> float:
    """Return the calibration error of `probabilities` (documents, C) in `bins` of equal mass."""
    return calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels, bins=bins)


def selective_accuracy(
    confidence: NDArray[np.floating], right: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (coverage, accuracy): how often the surest answers are right when only that share is taken.

    Documents of like confidence share their place, so that the order of the files does not matter.
    """
    levels, place, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    hits = np.bincount(place, weights=right, minlength=len(levels))
    taken = np.cumsum(sizes)
    return taken / len(confidence), np.cumsum(hits) / taken


def auroc(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> float:
    """Return how often a positive scores above a negative, ties counting half (Mann-Whitney U)."""
    levels, place = np.unique(np.concatenate([positive, negative]), return_inverse=True)
    ups = np.bincount(place[: len(positive)], minlength=len(levels))
    downs = np.bincount(place[len(positive) :], minlength=len(levels))
    below = np.cumsum(downs) - downs
    return float((ups * (below + downs / 2)).sum() / (len(positive) * len(negative)))


def macro(shares: NDArray[np.floating], labels: Labels) -> float:
    """Return the mean over labels of each label's mean of `shares` (documents,)."""
    sizes = np.bincount(labels)
    sums = np.bincount(labels, weights=shares)
    return float((sums[sizes > 0] / sizes[sizes > 0]).mean())


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(statistic: Callable[[NDArray[np.int64]], float], groups: Sequence[str]) -> Estimate:
    """Return `statistic` of all rows with the percentile interval over whole groups drawn with replacement.

    `groups` names each row's group: rows of one source stand or fall together, so drawing them one by one
    would promise too narrow an interval. `statistic` gets row numbers, repeated as drawn.
    """
    _, place = np.unique(np.asarray(groups), return_inverse=True)
    members = [np.flatnonzero(place == group) for group in range(int(place.max()) + 1)]
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    drawn = [
        statistic(np.concatenate([members[group] for group in rng.integers(len(members), size=len(members))]))
        for _ in range(BOOTSTRAP_DRAWS)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(statistic(np.arange(len(groups))), float(low), float(high))
