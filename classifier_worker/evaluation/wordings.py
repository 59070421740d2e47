"""The same documents under other names: how far answers depend on how a kind is called."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifier_worker.evaluation.answers import Probabilities
from classifier_worker.evaluation.measures import Estimate, bootstrap, macro

_ORDINALS = ("first", "second", "third", "fourth", "fifth")


@dataclass(frozen=True, slots=True)
class Loss:
    """A kind that fewer documents get when it is offered by another name."""

    name: str
    synonym: str
    documents: int
    right: int  #: by its plain name
    right_by_synonym: int


@dataclass(frozen=True, slots=True)
class Wording:
    """One set of names: all names offered, each document judged."""

    title: str
    accuracy: Estimate
    by_kind: Estimate
    change: Estimate | None  #: of the accuracy against the plain names; None for these
    losses: tuple[Loss, ...] = ()  #: most documents lost first


def compare(
    names: Sequence[tuple[str, ...]],
    probabilities: Sequence[NDArray[np.float64]],
    labels: NDArray[np.int64],
    groups: Sequence[str],
) -> list[Wording]:
    """Return how each set of `names`, the plain ones first, is answered by its `probabilities` (documents, C)."""
    right = [scores.argmax(axis=1) == labels for scores in probabilities]
    plain, found = right[0], []
    for number, (offered, hits) in enumerate(zip(names, right, strict=True)):
        change = _mean(hits.astype(float) - plain, groups) if number else None
        losses = _losses(names[0], offered, plain, hits, labels) if number else ()
        by_kind = bootstrap(lambda at, hits=hits: macro(hits[at], labels[at]), groups)  # type: ignore[misc]
        found.append(Wording(_title(number), _mean(hits, groups), by_kind, change, losses))
    return found


def _mean(values: NDArray[np.generic], groups: Sequence[str]) -> Estimate:
    return bootstrap(lambda at: float(values[at].mean()), groups)


def _title(number: int) -> str:
    if not number:
        return "plain names"
    ordinal = _ORDINALS[number - 1] if number <= len(_ORDINALS) else f"{number}th"
    return f"{ordinal} synonyms"


def _losses(
    names: tuple[str, ...],
    offered: tuple[str, ...],
    plain: NDArray[np.bool_],
    hits: NDArray[np.bool_],
    labels: NDArray[np.int64],
) -> tuple[Loss, ...]:
    losses = []
    for kind in np.unique(labels).tolist():
        of_kind = labels == kind
        loss = Loss(names[kind], offered[kind], int(of_kind.sum()), int(plain[of_kind].sum()), int(hits[of_kind].sum()))
        if loss.right_by_synonym < loss.right:
            losses.append(loss)
    return tuple(sorted(losses, key=lambda loss: (loss.right_by_synonym - loss.right, loss.name)))


def stacked(answers: Sequence[tuple[Probabilities, ...]]) -> list[NDArray[np.float64]]:
    """Return the probabilities of each set of names (documents, C), from those of each document."""
    return [np.stack(by_set) for by_set in zip(*answers, strict=True)]
