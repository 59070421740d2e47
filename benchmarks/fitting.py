"""The fits behind `fit_bundle`: background, look head, channel weights, temperature; arrays in, arrays out.

Everything that is judged is fitted without the documents of the judged one's source.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.corpus import Labelled
from classifier_worker.core.cues import CueIndex
from classifier_worker.evaluation.measures import Draws
from classifier_worker.models.encoder import Encoder
from classifier_worker.models.evidence import Evidence

Array = NDArray[np.float32]

RIDGE = 1.0  #: times the mean diagonal of the kernel
SHRINKAGE = 0.02  #: on the squares of the channel weights
FOLDS = 5
#: How far an entry's deviation is its own and not the mean of all: a kind whose phrases were hardly seen has none.
OWN_CUE_DEVIATION, OWN_HEADING_DEVIATION = 0.5, 0.3


@dataclass(frozen=True)
class Pages:
    """All pages of the corpus in one row each."""

    evidence: list[Evidence]
    document: NDArray[np.int64]  #: which document each page is of
    number: NDArray[np.int64]
    names: tuple[str, ...]
    labels: NDArray[np.int64]  #: (documents,) into names
    sources: NDArray[np.str_]  #: (documents,)

    @property
    def first(self) -> NDArray[np.int64]:
        """The row of each document's first page that could be read."""
        return np.unique(self.document, return_index=True)[1]


def collect(documents: Sequence[Labelled], encoder: Encoder) -> Pages:
    """Return the evidence of all pages."""
    names = tuple(sorted({document.label for document in documents}))
    evidence: list[Evidence] = []
    rows = [(at, page) for at, document in enumerate(documents) for page in document.pages]
    for start in range(0, len(rows), 8):
        evidence += encoder.evidence([encoder.prepare(page) for _, page in rows[start : start + 8]])
    return Pages(
        evidence=evidence,
        document=np.array([at for at, _ in rows]),
        number=np.array([page.number for _, page in rows]),
        names=names,
        labels=np.array([names.index(document.label) for document in documents]),
        sources=np.array([document.source for document in documents]),
    )


def fit_background(pages: Pages, cues: CueIndex) -> dict[str, Array]:
    """Return the means and deviations of every channel's ingredients; no label is used. Gives the pages their idf."""
    found = [cues.match(one.sight.text) for one in pages.evidence]
    documents = len(pages.labels)
    seen = np.zeros(len(cues.phrases))
    for document in range(documents):
        there = np.stack([found[row].strengths for row in np.flatnonzero(pages.document == document)])
        seen += (there > 0).any(axis=0)
    idf = np.log((documents + 1) / (seen + 1)).astype(np.float32)
    for at, (one, matches) in enumerate(zip(pages.evidence, found, strict=True)):
        pages.evidence[at] = replace(one, sight=replace(one.sight, cues=cues.evidence(matches, idf)))
    written = [one for one in pages.evidence if len(one.texts)]
    fitted = {
        "cue_idf": idf,
        "body_mean": np.mean([one.texts[0] for one in written], axis=0),
        "title_mean": np.mean([one.texts[1] for one in written], axis=0),
    }
    fitted |= _spread("cue", np.stack([one.sight.cues for one in written]), OWN_CUE_DEVIATION)
    fitted |= _spread("heading", np.stack([one.sight.headings for one in written]), OWN_HEADING_DEVIATION)
    fitted |= _spread("trait", np.stack([one.sight.traits for one in pages.evidence]), 1.0)
    fitted |= _spread("layout", np.stack([one.sight.layout for one in pages.evidence]), 1.0)
    fitted |= _spread("look", np.stack([one.look for one in pages.evidence]), 1.0)
    return {name: as_stored(array) for name, array in fitted.items()}


def _spread(name: str, block: Array, own: float) -> dict[str, Array]:
    deviation = block.std(axis=0)
    return {
        f"{name}_mean": block.mean(axis=0),
        f"{name}_deviation": own * deviation + (1 - own) * deviation.mean() + 1e-3,
    }


def as_stored(array: NDArray[np.floating]) -> Array:
    """Return the array as it will be read back, so that what is measured is what is shipped."""
    return array.astype(np.float16).astype(np.float32)


def head_weights(pages: Pages) -> Array:
    """Return each page's weight: documents count alike, and frequent labels less than their number."""
    count = np.bincount(pages.document)[pages.document]
    frequency = np.bincount(pages.labels)[pages.labels[pages.document]]
    return (1.0 / count / np.sqrt(frequency)).astype(np.float32)


def fit_head(features: Array, targets: Array, weights: Array, rank: int) -> tuple[Array, Array]:
    """Return a ridge map from features to target vectors as two factors, (K, rank) and (rank, D)."""
    mean = np.average(targets, axis=0, weights=weights)
    root = np.sqrt(weights)[:, None]
    whole = (features * root).T @ np.linalg.solve(_kernel(features, weights), (targets - mean) * root)
    left, sizes, right = np.linalg.svd(whole, full_matrices=False)
    rank = min(rank, len(sizes))
    return as_stored(left[:, :rank] * np.sqrt(sizes[:rank])), as_stored(np.sqrt(sizes[:rank])[:, None] * right[:rank])


def _kernel(features: Array, weights: Array) -> Array:
    rows = features * np.sqrt(weights)[:, None]
    kernel = rows @ rows.T
    kernel[np.diag_indices_from(kernel)] += RIDGE * np.trace(kernel) / len(kernel)
    return kernel


class UnseenHeads:
    """What each page's look says by a head that saw nothing of the page's source, for any vectors of the labels.

    One solution for each source serves all of them, since a ridge's answer is linear in its targets.
    """

    def __init__(self, pages: Pages, features: Array) -> None:
        self._targets = pages.labels[pages.document]
        self._weights = head_weights(pages)
        self._influence = np.zeros((len(features), len(features)), dtype=np.float32)
        sources = pages.sources[pages.document]
        for source in np.unique(sources):
            theirs = sources == source
            others, roots = features[~theirs], np.sqrt(self._weights[~theirs])
            solved = np.linalg.solve(
                _kernel(others, self._weights[~theirs]), roots[:, None] * (others @ features[theirs].T)
            )
            self._influence[np.ix_(theirs, ~theirs)] = (solved * roots[:, None]).T

    def scores(self, vectors: Array, scored: Array | None = None) -> Array:
        """Return the scores (pages, C): `vectors` are those of the labels, `scored` those of other names to score."""
        targets = vectors[self._targets]
        # each head is centred by its own sources' mean
        share = (self._influence != 0) * self._weights
        means = share @ targets / share.sum(axis=1, keepdims=True)
        seen = self._influence @ targets - self._influence.sum(axis=1, keepdims=True) * means
        seen /= np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-6)
        return np.asarray(seen @ (vectors if scored is None else scored).T, dtype=np.float32)


def fit_weights(stacks: list[tuple[Array, float]], labels: NDArray[np.int64], draws: Draws) -> NDArray[np.float64]:
    """Return channel weights, none negative, by logistic regression over many lists of names.

    `stacks` are (documents, C, channels) of first pages, each with the weight of its condition.
    """
    frequency = np.bincount(labels)[labels].astype(np.float64)
    share = frequency**-0.5 / np.mean(frequency**-0.5)

    longest = stacks[0][0].shape[1]
    rows, parts = [], []
    for stack, condition in stacks:
        for document, offered in draws.lists:
            padded = np.full((longest, stack.shape[-1]), np.nan, dtype=np.float32)
            padded[: len(offered)] = stack[document, offered]  # the true name stands first
            rows.append(padded)
            parts.append(condition * share[document])
    offers = torch.from_numpy(np.stack(rows))  # (lists, names, channels)
    absent = offers[..., 0].isnan()
    offers = offers.nan_to_num()
    mass = torch.tensor(parts, dtype=torch.float32)
    roots = torch.full((offers.shape[-1],), 0.7, requires_grad=True)  # squared, so that no weight is negative
    optimizer = torch.optim.LBFGS([roots], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = (offers @ roots**2).masked_fill(absent, -torch.inf)
        value = -(mass * logits.log_softmax(dim=1)[:, 0]).sum() / mass.sum() + SHRINKAGE * (roots**4).sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return np.asarray((roots**2).detach().numpy(), dtype=np.float64)


def folds_of(sources: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return a fold for each document such that a source is in one fold, and folds are of like size."""
    order = sorted(set(sources.tolist()), key=lambda source: (-int((sources == source).sum()), source))
    fold = {source: number % FOLDS for number, source in enumerate(order)}
    return np.array([fold[source] for source in sources.tolist()])


def fit_temperature(logits: Array, draws: Draws) -> float:
    """Return the temperature of the least log loss over the drawn lists of names."""

    def loss(temperature: float) -> float:
        total = 0.0
        for document, offered in draws.lists:
            scaled = logits[document, offered].astype(np.float64) / temperature
            total -= float(scaled[0] - np.logaddexp.reduce(scaled))
        return total

    candidates: list[float] = np.geomspace(0.3, 3.0, 60).tolist()
    best: float = min(candidates, key=loss)
    return round(best, 3)
