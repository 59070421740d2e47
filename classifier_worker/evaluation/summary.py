"""From answers to figures: what the terminal prints and the report shows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifier_worker.evaluation.answers import Answers, among
from classifier_worker.evaluation.manifest import Manifest, Row
from classifier_worker.evaluation.measures import (
    Draws,
    Estimate,
    auroc,
    bootstrap,
    calibration_bins,
    calibration_error,
    macro,
    selective_accuracy,
)
from classifier_worker.evaluation.wordings import Wording, compare, stacked

_TOP = 3
_MOST_LOSSES = 12


@dataclass(frozen=True)
class Ways:
    """How one length of list is answered; `confidence` and `right` are (documents times seeds,)."""

    title: str
    accuracy: Estimate
    by_kind: Estimate
    top3: Estimate
    calibration: Estimate
    confidence: NDArray[np.float64]
    right: NDArray[np.bool_]

    @property
    def bins(self) -> list[tuple[float, float, int]]:
        """The reliability plot's points."""
        return calibration_bins(self.confidence, self.right)

    @property
    def selective(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coverage and accuracy."""
        return selective_accuracy(self.confidence, self.right)


@dataclass(frozen=True)
class Kind:
    """One label: its name, how many documents it has and how many of them were answered rightly."""

    name: str
    documents: int
    right: int


@dataclass(frozen=True)
class Judged:
    """One document and the answer to all names, the scores in falling order."""

    row: Row
    name: str
    scores: dict[str, float]
    none: float | None = None

    @property
    def prediction(self) -> str:
        """The best name."""
        return next(iter(self.scores))

    @property
    def confidence(self) -> float:
        """The best name's probability."""
        return self.scores[self.prediction]

    @property
    def is_right(self) -> bool:
        """Whether the best name is the true one."""
        return self.prediction == self.name


@dataclass(frozen=True)
class Summary:
    """Everything that an evaluation says."""

    model: str
    names: tuple[str, ...]
    judged: list[Judged]
    unread: list[tuple[Row, str]]
    ways: list[Ways]
    kinds: list[Kind]
    confusions: list[tuple[str, str, int]]  #: true name, answer, how often
    none_auroc: Estimate | None
    none_documents: int  #: so many were asked for the AUROC
    wordings: list[Wording]  #: the plain names and each set of synonyms; empty when no synonyms are told
    seeds: int
    is_by_source: bool
    sources: int


def summarize(manifest: Manifest, answers: Answers, *, sizes: Sequence[int | None], seeds: int) -> Summary | None:
    """Return the figures, `sizes` telling the lengths of lists (None: all names); None if nothing could be read."""
    kept = [at for at, answer in enumerate(answers.answers) if answer.probabilities is not None]
    if not kept:
        return None
    rows = [manifest.rows[at] for at in kept]
    labels, groups = manifest.labels[kept], [row.source for row in rows]
    whole = np.stack([p for answer in answers.answers if (p := answer.probabilities) is not None])
    judged = [
        Judged(row, manifest.names[label], _ranked(manifest.names, scores))
        for row, label, scores in zip(rows, labels, whole, strict=True)
    ]
    position = {at: number for number, at in enumerate(kept)}
    ways = []
    for size in sizes:
        lists = [
            [(position[at], offered) for at, offered in drawn.lists if at in position]
            for drawn in _draws(manifest, size, seeds)
        ]
        ways.append(_ways(size, lists, whole, labels, groups))
    read = [answer for answer in answers.answers if answer.probabilities is not None]
    fits = [(answer.fits, group) for answer, group in zip(read, groups, strict=True) if answer.fits is not None]
    wordings: list[Wording] = []
    if manifest.synonyms:
        named = [manifest.names, *manifest.synonyms]
        wordings = compare(named, [whole, *stacked([answer.synonyms for answer in read])], labels, groups)
    return Summary(
        model=answers.model,
        names=manifest.names,
        judged=judged,
        unread=[
            (row, a.error or "")
            for row, a in zip(manifest.rows, answers.answers, strict=True)
            if a.probabilities is None
        ],
        ways=ways,
        kinds=_kinds(judged),
        confusions=_confusions(judged),
        none_auroc=_none_auroc(fits),
        none_documents=len(fits),
        wordings=wordings,
        seeds=seeds,
        is_by_source=manifest.has_sources,
        sources=len(set(groups)),
    )


def _none_auroc(fits: Sequence[tuple[tuple[float, float], str]]) -> Estimate | None:
    if not fits:
        return None
    pairs = np.array([pair for pair, _ in fits])
    return bootstrap(lambda at: auroc(pairs[at, 0], pairs[at, 1]), [group for _, group in fits])


def _draws(manifest: Manifest, size: int | None, seeds: int) -> list[Draws]:
    total = len(manifest.names)
    if size is None or size >= total:
        return [Draws.of(manifest.labels, total, sizes=(total,), seed=0)]
    return [Draws.of(manifest.labels, total, sizes=(size,), seed=seed) for seed in range(seeds)]


def _ways(
    size: int | None,
    lists: list[list[tuple[int, NDArray[np.int64]]]],
    whole: NDArray[np.float64],
    labels: NDArray[np.int64],
    groups: list[str],
) -> Ways:
    shape = (len(lists), len(labels))  # (seeds, documents)
    rank, confidence = np.zeros(shape, dtype=np.int64), np.zeros(shape)
    for seed, drawn in enumerate(lists):
        for document, offered in drawn:
            found = among(whole[document], offered)  # the true name stands first
            rank[seed, document] = (found[1:] >= found[0]).sum()  # a tie is no right answer
            confidence[seed, document] = found.max()
    right, top = rank == 0, rank < _TOP
    return Ways(
        title="all names" if size is None else f"{size} names",
        accuracy=bootstrap(lambda at: float(right[:, at].mean()), groups),
        by_kind=bootstrap(lambda at: macro(right[:, at].mean(axis=0), labels[at]), groups),
        top3=bootstrap(lambda at: float(top[:, at].mean()), groups),
        calibration=bootstrap(lambda at: calibration_error(confidence[:, at].ravel(), right[:, at].ravel()), groups),
        confidence=confidence.ravel(),
        right=right.ravel(),
    )


def _ranked(names: tuple[str, ...], scores: NDArray[np.float64]) -> dict[str, float]:
    order = sorted(range(len(names)), key=lambda at: (-scores[at], names[at]))
    return {names[at]: round(float(scores[at]), 6) for at in order}


def _kinds(judged: list[Judged]) -> list[Kind]:
    documents = Counter(one.name for one in judged)
    right = Counter(one.name for one in judged if one.is_right)
    return [Kind(name, documents[name], right[name]) for name in sorted(documents)]


def _confusions(judged: list[Judged]) -> list[tuple[str, str, int]]:
    found = Counter((one.name, one.prediction) for one in judged if not one.is_right)
    return [(name, answer, times) for (name, answer), times in found.most_common()]


def as_text(summary: Summary) -> str:
    """Return the figures for a terminal."""
    by = f"{summary.sources} sources" if summary.is_by_source else "each file its own source"
    documents = f"{len(summary.judged)} documents, {len(summary.kinds)} kinds, {by}"
    lines = [
        f"{summary.model}: {documents}; 95 % intervals in brackets",
        "",
        f"{'offered':10} {'accuracy':22} {'mean over kinds':22} {'top 3':22} calibration error",
    ]
    lines += [
        f"{way.title:10} {way.accuracy!s:22} {way.by_kind!s:22} {way.top3!s:22} {way.calibration}"
        for way in summary.ways
    ]
    if summary.none_auroc:
        asked = f"{summary.none_documents} documents, ten names with the true one and without"
        lines += ["", f"none-of-these AUROC ({asked}): {summary.none_auroc}"]
    for share in (0.5, 0.8):
        coverage, accuracy = summary.ways[0].selective
        at = min(int(np.searchsorted(coverage, share - 1e-9)), len(coverage) - 1)
        lines.append(
            f"the surest {coverage[at]:.0%} of the answers ({summary.ways[0].title}): {accuracy[at]:.1%} right"
        )
    lines += _wordings_as_text(summary.wordings)
    if summary.confusions:
        lines += ["", "most frequent confusions:"]
        lines += [f"  {times} x {name!r} taken for {answer!r}" for name, answer, times in summary.confusions[:12]]
    if summary.unread:
        lines += ["", f"{len(summary.unread)} documents could not be read and are in no figure:"]
        lines += [f"  {row.path} ({row.label}): {error}" for row, error in summary.unread]
    return "\n".join(lines)


def _wordings_as_text(wordings: Sequence[Wording]) -> list[str]:
    if not wordings:
        return []
    lines = ["", f"{'called by':18} {'accuracy':22} {'mean over kinds':22} against the plain names"]
    lines += [f"{one.title:18} {one.accuracy!s:22} {one.by_kind!s:22} {one.change or ''}".rstrip() for one in wordings]
    losses = sorted(
        (loss for one in wordings for loss in one.losses),
        key=lambda loss: (loss.right_by_synonym - loss.right, loss.name),
    )
    if losses:
        lines += ["", "names that lost most:"]
        lines += [
            f"  {loss.synonym!r} for {loss.name!r}: {loss.right_by_synonym} of {loss.documents} right, not {loss.right}"
            for loss in losses[:_MOST_LOSSES]
        ]
    return lines
