"""What was answered about each document, whoever answered, and the lists of names that are asked about."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifier_worker.evaluation.manifest import Manifest
from classifier_worker.evaluation.measures import Draws

NONE_SIZE = 10  #: names in the lists that do or do not hold the true one
Probabilities = NDArray[np.float64]

#: Told after each document: how many are done.
OnDone = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """One document's answer: `probabilities` (C,) of all names, or the `error` that says why there is none.

    `fits` is how sure the system is that one of ten names fits, once with the true name among them and once without;
    None where that was not asked. `synonyms` are the probabilities (C,) when the manifest's other names are offered.
    """

    probabilities: Probabilities | None
    fits: tuple[float, float] | None = None
    error: str | None = None
    synonyms: tuple[Probabilities, ...] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """All answers in the manifest's order."""

    model: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class FitLists:
    """For each document ten names with the true one and ten without, nine of them the same."""

    present: list[NDArray[np.int64]]
    absent: list[NDArray[np.int64]]

    @classmethod
    def of(cls, manifest: Manifest) -> "FitLists | None":
        """Return the lists; None when there are too few names to leave one out."""
        if len(manifest.names) < 3:
            return None
        drawn = Draws.of(manifest.labels, len(manifest.names), sizes=(NONE_SIZE + 1,), seed=0).lists
        return cls([names[:-1] for _, names in drawn], [names[1:] for _, names in drawn])


def among(probabilities: Probabilities, offered: NDArray[np.int64]) -> Probabilities:
    """Return the probabilities of the `offered` names alone.

    No name's logit depends on the others offered, so this is what asking about these names would answer.
    """
    part = np.maximum(probabilities[offered], 1e-12)
    return np.asarray(part / part.sum(), dtype=np.float64)
