"""How good scores are: accuracy over lists of names of several lengths, and calibration."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Labels = NDArray[np.int64]

#: Lists that a document is judged on: the true name and this many in all, drawn with these seeds.
SEEDS = range(5)
SIZES = (10, 5)


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


def expected_calibration_error(probabilities: Scores, labels: Labels, *, bins: int = 10) -> float:
    """Return the mean distance between confidence and accuracy over `bins` of confidence, weighed by their size."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    errors = [
        abs(confidence[place == at].mean() - right[place == at].mean()) * (place == at).mean()
        for at in np.unique(place)
    ]
    return float(np.sum(errors))


def auroc(positives: NDArray[np.float64], negatives: NDArray[np.float64]) -> float:
    """Return the probability that a positive's score is above a negative's (Mann-Whitney; ties count a half)."""
    below = np.searchsorted(np.sort(negatives), positives, side="left")
    not_above = np.searchsorted(np.sort(negatives), positives, side="right")
    return float((below + not_above).mean() / 2 / len(negatives))
