"""Fits what a bundle's channels need: background means, the look head, channel weights, temperature, page weight.

    python -m benchmarks.fit_bundle [--bundle FOLDER] [--corpus DIR] [--dry-run]

Writes `fitted.safetensors` and the numbers in `bundle.json` of the bundle's folder. Every figure it prints
is cross-validated by source: no page is judged by a head or by weights that saw its source. What is
written is fitted on all documents. Labels serve the look head and eight numbers; nothing of a document is
kept but means and one linear map of rank at most the number of labels. Names that the lexicon does not
know are simulated by taking the entries of a random half of the labels away.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from benchmarks.corpus import CORPUS, Labelled, read_corpus
from classifier_worker.core.cues import CueIndex
from classifier_worker.core.fusion import PageWeights, combine_pages
from classifier_worker.core.rivals import NoneScale, log_odds, rivals_of
from classifier_worker.evaluation.measures import Draws, accuracy, auroc, expected_calibration_error
from classifier_worker.models.bundle import Bundle, lexicon_digest, load_bundle, read_config
from classifier_worker.models.categories import Categories, Category
from classifier_worker.models.encoder import Encoder, EncoderSettings, Nobody
from classifier_worker.models.evidence import Evidence, channel_scores, head_features, trait_table

Array = NDArray[np.float32]

RIDGE = 1.0  #: times the mean diagonal of the kernel
SHRINKAGE = 0.02  #: on the squares of the channel weights
FOLDS = 5
NONE_SIZES = (1, 5, 10, 20)
NONE_DRAWS = 3
HALVES = 3  #: draws of labels whose entries are taken away
UNKNOWN_WEIGHT = 0.25  #: of each draw beside the whole lexicon
SEED = 20260101


@dataclass(frozen=True)
class Pages:
    """All pages of the corpus in one row each."""

    evidence: list[Evidence]
    document: NDArray[np.int64]  #: which document each page is of
    number: NDArray[np.int64]
    names: tuple[str, ...]
    labels: NDArray[np.int64]  #: (documents,) into names
    sources: NDArray[np.str_]  #: (documents,)


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
    """Return the means and deviations of every channel's ingredients; no label is used."""
    written = [found for found in pages.evidence if len(found.texts)]
    strengths = np.stack([cues.strengths(found.sight.text) for found in pages.evidence])
    documents = int(pages.document.max()) + 1
    seen = np.zeros(len(cues.phrases))
    for document in range(documents):
        seen += (strengths[pages.document == document] > 0).any(axis=0)
    idf = np.log((documents + 1) / (seen + 1)).astype(np.float32)
    for at, found in enumerate(pages.evidence):
        sight = replace(found.sight, cues=cues.evidence(found.sight.text, idf))
        pages.evidence[at] = replace(found, sight=sight)
    evidence = np.stack([found.sight.cues for found in pages.evidence if len(found.texts)])
    blocks = {
        "trait": np.stack([found.sight.traits for found in pages.evidence]),
        "layout": np.stack([found.sight.layout for found in pages.evidence]),
        "look": np.stack([found.look for found in pages.evidence]),
    }
    fitted = {
        "cue_idf": idf,
        "cue_mean": evidence.mean(axis=0),
        # half-way to the mean of all: a kind whose phrases were hardly seen has no deviation of its own to trust
        "cue_deviation": (evidence.std(axis=0) + evidence.std(axis=0).mean()) / 2,
        "body_mean": np.mean([found.texts[0] for found in written], axis=0),
        "title_mean": np.mean([found.texts[1] for found in written], axis=0),
    }
    for name, block in blocks.items():
        fitted |= {f"{name}_mean": block.mean(axis=0), f"{name}_deviation": block.std(axis=0) + 1e-3}
    return {name: _as_stored(array) for name, array in fitted.items()}


def _as_stored(array: NDArray[np.floating]) -> Array:
    """Return the array as it will be read back, so that what is measured is what is shipped."""
    return array.astype(np.float16).astype(np.float32)


def fit_head(features: Array, targets: Array, weights: Array, rank: int) -> tuple[Array, Array]:
    """Return a ridge map from features to target vectors as two factors, (K, rank) and (rank, D)."""
    mean = np.average(targets, axis=0, weights=weights)
    root = np.sqrt(weights)[:, None]
    rows, wanted = features * root, (targets - mean) * root
    kernel = rows @ rows.T
    kernel[np.diag_indices_from(kernel)] += RIDGE * np.trace(kernel) / len(kernel)
    whole = rows.T @ np.linalg.solve(kernel, wanted)
    left, sizes, right = np.linalg.svd(whole, full_matrices=False)
    rank = min(rank, len(sizes))
    return _as_stored(left[:, :rank] * np.sqrt(sizes[:rank])), _as_stored(np.sqrt(sizes[:rank])[:, None] * right[:rank])


def head_weights(pages: Pages) -> Array:
    """Return each page's weight: documents count alike, and frequent labels less than their number."""
    count = np.bincount(pages.document)[pages.document]
    frequency = np.bincount(pages.labels)[pages.labels[pages.document]]
    return (1.0 / count / np.sqrt(frequency)).astype(np.float32)


def unseen_looks(pages: Pages, features: Array, vectors: Array, scored: Array | None = None) -> Array:
    """Return each page's look scores (pages, C) by a head that saw nothing of its source.

    `vectors` are those of the labels; `scored` those of other names to score.
    """
    wanted = vectors if scored is None else scored
    targets, weights = vectors[pages.labels[pages.document]], head_weights(pages)
    sources = pages.sources[pages.document]
    scores = np.zeros((len(features), len(wanted)), dtype=np.float32)
    for source in np.unique(sources):
        theirs = sources == source
        head, space = fit_head(features[~theirs], targets[~theirs], weights[~theirs], len(vectors))
        seen = features[theirs] @ head @ space
        scores[theirs] = seen / np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-6) @ wanted.T
    return scores


def categories_without(
    cues: CueIndex,
    removed: set[int],
    *,
    names: tuple[str, ...],
    lexicon: Array,
    encode: Callable[[Sequence[str]], Array],
) -> list[Category]:
    """Return the categories as they would be if the lexicon lacked the entries `removed`."""
    kept = [number for number in range(len(cues.entries)) if number not in removed]
    categories = Categories(
        CueIndex([cues.entries[number] for number in kept]), encode=encode, encode_look=None, capacity=len(names)
    )
    categories.learn_lexicon(lexicon[kept])
    whole = []
    for category in categories.look_up(names):
        kin = np.zeros(len(cues.entries), dtype=np.float32)
        kin[kept] = category.kin
        whole.append(replace(category, kin=kin))
    return whole


def channels_of(
    pages: Pages, names: tuple[str, ...], categories: list[Category], *, fitted: dict[str, Array], traits: Array
) -> dict[str, Array]:
    """Return each channel's scores (pages, C); a page without text has zeros in the text channels."""
    found = [channel_scores(e, names, categories, traits=traits, fitted=fitted) for e in pages.evidence]
    nothing = np.zeros(len(names), dtype=np.float32)
    channels = {name for scores in found for name in scores}
    return {name: np.stack([scores.get(name, nothing) for scores in found]) for name in sorted(channels)}


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


def fit(pages: Pages, bundle: Bundle, encoder: Encoder) -> tuple[dict[str, Array], dict[str, object]]:
    """Return the fitted arrays and the numbers for bundle.json, and print what cross-validation says of them."""
    cues, traits = bundle.cues, trait_table(bundle.cues)
    whole = Categories(cues, encode=encoder.encode_names, encode_look=None, capacity=len(pages.names))
    lexicon = _as_stored(whole.encode_lexicon())
    fitted = fit_background(pages, cues)
    known = categories_without(cues, set(), names=pages.names, lexicon=lexicon, encode=encoder.encode_names)
    vectors = np.stack([category.vector for category in known])
    features = np.stack([head_features(found, fitted) for found in pages.evidence])

    rng = np.random.default_rng(SEED)
    own = [set(np.flatnonzero(category.kin == 1).tolist()) for category in known]
    halves = [rng.choice(len(pages.names), len(pages.names) // 2, replace=False) for _ in range(HALVES)]
    conditions = [known] + [
        categories_without(
            cues,
            set().union(*(own[at] for at in half)),
            names=pages.names,
            lexicon=lexicon,
            encode=encoder.encode_names,
        )
        for half in halves
    ]
    raw = []
    for categories in conditions:
        channels = channels_of(pages, pages.names, categories, fitted=fitted, traits=traits)
        channels["look"] = unseen_looks(pages, features, np.stack([category.vector for category in categories]))
        raw.append(channels)
    written = np.array([len(found.texts) > 0 for found in pages.evidence])
    names = sorted(raw[0])
    scales = {name: float(raw[0][name][written].std()) for name in names}
    fitted |= {f"{name}_scale": np.array([scale], dtype=np.float32) for name, scale in scales.items()}
    stacks = [np.stack([np.clip(channels[name] / scales[name], -6, 6) for name in names], axis=-1) for channels in raw]
    rivals = Rivals.of(pages, known, encoder, cues=cues, lexicon=lexicon, fitted=fitted, traits=traits)
    rivals.channels["look"] = unseen_looks(pages, features, vectors, rivals.vectors) / scales["look"]

    documents = range(len(pages.labels))
    first = np.array([int(np.flatnonzero(pages.document == document)[0]) for document in documents])
    draws = Draws.of(pages.labels, len(pages.names), sizes=(len(pages.names), 20, 10, 10, 5, 5), seed=SEED)
    folds = folds_of(pages.sources)
    shares = [1.0] + [UNKNOWN_WEIGHT] * HALVES
    unseen = [np.zeros(stack.shape[:2], dtype=np.float32) for stack in stacks]
    for fold in range(FOLDS):
        theirs = folds == fold
        weights = fit_weights(
            [(stack[first], share) for stack, share in zip(stacks, shares, strict=True)],
            pages.labels,
            draws.only(~theirs),
        )
        for logits, stack in zip(unseen, stacks, strict=True):
            logits[theirs[pages.document]] = stack[theirs[pages.document]] @ weights
    final = fit_weights(
        [(stack[first], share) for stack, share in zip(stacks, shares, strict=True)], pages.labels, draws
    )
    temperature = fit_temperature(unseen[0][first], draws)
    print("cross-validated by source, first pages:")
    for title, logits in [
        ("every name in the lexicon", unseen[0]),
        *[("half of the names in it", u) for u in unseen[1:]],
    ]:
        print(f"  {title:26} {accuracy(logits[first], pages.labels)}")
    for name, column in zip(names, np.moveaxis(stacks[0], -1, 0), strict=True):
        print(f"  {name + ' alone':26} {accuracy(column[first], pages.labels)}")
    for at, name in enumerate(names):
        without = unseen[0] - stacks[0][..., at] * final[at]
        print(f"  {'without ' + name:26} {accuracy(without[first], pages.labels)}")
    against = np.sum([np.clip(rivals.channels[name], -6, 6) * final[at] for at, name in enumerate(names)], axis=0)
    none_scale = fit_none(unseen[0][first], against[first], rivals, labels=pages.labels, temperature=temperature)
    page_weight = fit_page_weight(pages, unseen[0], temperature)
    head, space = fit_head(features, vectors[pages.labels[pages.document]], head_weights(pages), len(vectors))
    fitted |= {"look_head": head, "look_space": space, "entry_vectors": lexicon, "lexicon_digest": lexicon_digest(cues)}
    channels = {name: round(weight, 3) for name, weight in zip(names, final.tolist(), strict=True)}
    return fitted, {
        "temperature": temperature,
        "channels": channels,
        "first_page_weight": page_weight,
        "none_scale": asdict(none_scale),
    }


@dataclass(frozen=True, slots=True)
class Rivals:
    """The lexicon's entries as rivals of the corpus' names."""

    channels: dict[str, Array]  #: (pages, E) each
    vectors: Array  #: (E, D)
    kin: Array  #: (C, E): how much of each entry the names of the corpus own
    cosines: Array  #: (C, E): how alike they are

    @classmethod
    def of(
        cls,
        pages: Pages,
        known: list[Category],
        encoder: Encoder,
        *,
        cues: CueIndex,
        lexicon: Array,
        fitted: dict[str, Array],
        traits: Array,
    ) -> "Rivals":
        """Return what every page says of every entry, but for the look, which the caller adds."""
        names = tuple(entry.name for entry in cues.entries)
        entries = categories_without(cues, set(), names=names, lexicon=lexicon, encode=encoder.encode_names)
        vectors = np.stack([entry.vector for entry in entries])
        return cls(
            channels_of(pages, names, entries, fitted=fitted, traits=traits),
            vectors,
            np.stack([category.kin for category in known]),
            np.stack([category.vector for category in known]) @ vectors.T,
        )


def fit_none(
    logits: Array, against: Array, rivals: Rivals, *, labels: NDArray[np.int64], temperature: float
) -> NoneScale:
    """Return the Platt scaling of names against rivals, fitted on lists with and without the true name."""
    rng = np.random.default_rng(SEED)
    odds: dict[int, tuple[list[float], list[float]]] = {size: ([], []) for size in NONE_SIZES}
    for size, (present, absent) in odds.items():
        for _ in range(NONE_DRAWS):
            for document, label in enumerate(labels.tolist()):
                others = rng.choice(np.delete(np.arange(logits.shape[1]), label), size, replace=False)
                for found, offered in ((present, np.append(others[1:], label)), (absent, others)):
                    mask = rivals_of(rivals.kin[offered], rivals.cosines[offered])
                    found.append(log_odds(logits[document, offered], against[document, mask], temperature))
    for size, (present, absent) in odds.items():
        print(f"  none of {size}: AUROC {auroc(np.array(present), np.array(absent)):.3f}")
    x = torch.tensor([s for present, absent in odds.values() for s in (*present, *absent)])
    is_none = torch.tensor([i for present, absent in odds.values() for i in [0.0] * len(present) + [1.0] * len(absent)])
    numbers = torch.tensor([1.0, 0.0], requires_grad=True)
    optimizer = torch.optim.LBFGS([numbers], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(-(numbers[0] * x + numbers[1]), is_none)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    slope, offset = numbers.tolist()
    return NoneScale(round(slope, 3), round(offset, 3))


def fit_page_weight(pages: Pages, logits: Array, temperature: float) -> float:
    """Return the weight of page 1, by log loss of the whole documents that have several pages."""
    scaled = logits.astype(np.float64) / temperature
    odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    page_probabilities = odds / odds.sum(axis=1, keepdims=True)
    rows_of = [np.flatnonzero(pages.document == document) for document in range(len(pages.labels))]
    best, least = 0.6, np.inf
    for weight in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        read = [[(int(pages.number[row]), page_probabilities[row]) for row in rows] for rows in rows_of]
        probabilities = np.stack([combine_pages(rows, PageWeights(first=weight)) for rows in read])
        many = np.bincount(pages.document) > 1
        loss = -np.log(probabilities[np.arange(len(pages.labels)), pages.labels] + 1e-9)[many].mean()
        error = expected_calibration_error(probabilities, pages.labels)
        told = f"{accuracy(probabilities, pages.labels)}, ECE {error:.3f}"
        print(f"  page 1 weighs {weight}: {told}, log loss of several pages {loss:.3f}")
        if loss < least:
            best, least = weight, float(loss)
    return best


def main() -> None:
    """Fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", type=Path, default=Path(__file__).parents[1] / "classifier_worker/bundles/default")
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    told = parser.parse_args()
    path = told.bundle / "bundle.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    fitted_name = config.get("fitted") or "fitted.safetensors"
    bundle = load_bundle(str(told.bundle), is_fitted=False)
    encoder = Encoder(bundle, EncoderSettings(), Nobody())
    fitted, numbers = fit(collect(list(read_corpus(told.corpus)), encoder), bundle, encoder)
    print(json.dumps(numbers, indent=2))
    if told.dry_run:
        return
    exact = ("lexicon_digest", "_scale")
    arrays = {n: a.astype(np.float32 if n.endswith(exact) else np.float16) for n, a in fitted.items()}
    save_file(arrays, told.bundle / fitted_name)
    path.write_text(json.dumps(config | numbers | {"fitted": fitted_name}, indent=2) + "\n", encoding="utf-8")
    read_config(told.bundle)


if __name__ == "__main__":
    main()
