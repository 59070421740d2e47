"""Fits what a bundle's channels need: background means, the look head, channel weights, temperature, page weight.

    python -m benchmarks.fit_bundle [--bundle FOLDER] [--corpus DIR] [--dry-run]

Writes `fitted.safetensors` and the numbers in `bundle.json` of the bundle's folder. Every figure it prints
is cross-validated by source: no page is judged by a head or by weights that saw its source. What is
written is fitted on all documents. Labels serve the look head and a dozen numbers; nothing of a document is
kept but means and one linear map of rank at most the number of labels. Names that the lexicon does not
know are simulated by taking the entries of a random half of the labels away.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from benchmarks.conditions import Condition, Encoders, channels_of, conditions_of
from benchmarks.corpus import CORPUS, read_corpus
from benchmarks.fitting import (
    FOLDS,
    Array,
    Pages,
    UnseenHeads,
    as_stored,
    collect,
    fit_background,
    fit_head,
    fit_temperature,
    fit_weights,
    folds_of,
    head_weights,
)
from classifier_worker.core.fusion import MOST_DEVIATIONS, PageWeights, combine_pages
from classifier_worker.core.rivals import NoneScale, log_odds, rivals_of
from classifier_worker.evaluation.measures import (
    Draws,
    Estimate,
    accuracy,
    auroc,
    bootstrap,
    expected_calibration_error,
    macro,
)
from classifier_worker.models.bundle import Bundle, lexicon_digest, load_bundle, read_config
from classifier_worker.models.categories import Categories
from classifier_worker.models.encoder import Encoder, EncoderSettings, Nobody
from classifier_worker.models.evidence import head_features, trait_table

NONE_SIZES = (1, 5, 10, 20)
NONE_DRAWS = 3
SEED = 20260101
PAGE_WEIGHTS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
#: Which of the three ways to look at a page each channel is of.
WAYS = {
    "text": ("body", "title", "cues", "heading", "name"),
    "structure": ("structure",),
    "look": ("look",),
}


@dataclass(frozen=True)
class Judged:
    """Channels of every condition in stacks (pages, C, channels), and how weights are fitted on them."""

    pages: Pages
    conditions: list[Condition]
    stacks: list[Array]
    channels: list[str]
    draws: Draws

    def weights(self, kept: NDArray[np.bool_] | None = None, only: Sequence[int] = ()) -> NDArray[np.float64]:
        """Return the weights fitted on the first pages of the documents `kept`, channels other than `only` being 0."""
        columns = list(only) or list(range(len(self.channels)))
        fitted = [
            (stack[self.pages.first][:, :, columns], condition.weight)
            for stack, condition in zip(self.stacks, self.conditions, strict=True)
            if condition.weight
        ]
        weights = np.zeros(len(self.channels))
        draws = self.draws if kept is None else self.draws.only(kept)
        weights[columns] = fit_weights(fitted, self.pages.labels, draws)
        return weights

    def unseen(self, only: Sequence[int] = ()) -> list[Array]:
        """Return each condition's logits (pages, C) by weights that saw nothing of the page's fold."""
        folds = folds_of(self.pages.sources)
        logits = [np.zeros(stack.shape[:2], dtype=np.float32) for stack in self.stacks]
        for fold in range(FOLDS):
            weights = self.weights(folds != fold, only)
            theirs = folds[self.pages.document] == fold
            for found, stack in zip(logits, self.stacks, strict=True):
                found[theirs] = stack[theirs] @ weights
        return logits


def documents_of(pages: Pages, logits: Array, *, temperature: float, first: float) -> NDArray[np.float64]:
    """Return the probabilities of whole documents (documents, C)."""
    scaled = logits.astype(np.float64) / temperature
    odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    weights = PageWeights(first=first)
    return np.stack(
        [
            combine_pages([(int(pages.number[row]), probabilities[row]) for row in rows], weights)
            for rows in (np.flatnonzero(pages.document == document) for document in range(len(pages.labels)))
        ]
    )


def fit(pages: Pages, bundle: Bundle, encoder: Encoder) -> tuple[dict[str, Array], dict[str, object]]:
    """Return the fitted arrays and the numbers for bundle.json, and print what cross-validation says of them."""
    cues, traits = bundle.cues, trait_table(bundle.cues)
    has_names = bundle.look.has_names
    encoders = Encoders(encoder.encode_names, encoder.encode_look_names if has_names else None)
    whole = Categories(cues.entries, encode=encoders.text, encode_look=encoders.look, capacity=len(pages.names))
    lexicon = as_stored(whole.encode_lexicon())
    fitted = fit_background(pages, cues)
    conditions = conditions_of(pages.names, cues, lexicon=lexicon, encoders=encoders, seed=SEED)
    vectors = np.stack([category.vector for category in conditions[0].categories])
    features = np.stack([head_features(found, fitted) for found in pages.evidence])
    heads = UnseenHeads(pages, features)

    raw = []
    for condition in conditions:
        channels = channels_of(pages, condition, fitted=fitted, traits=traits)
        offered = np.stack([category.vector for category in condition.categories])
        # a shipped head was fitted to the vectors of the names as they are, whatever words are offered
        targets = offered if condition.names == pages.names else vectors
        raw.append(channels if has_names else channels | {"look": heads.scores(targets, offered)})
    written = np.array([len(found.texts) > 0 for found in pages.evidence])
    names = sorted(raw[0])
    scales = {name: float(raw[0][name][written].std()) for name in names}
    fitted |= {f"{name}_scale": np.array([scale], dtype=np.float32) for name, scale in scales.items()}

    def stacked(channels: dict[str, Array]) -> Array:
        clipped = [np.clip(channels[name] / scales[name], -MOST_DEVIATIONS, MOST_DEVIATIONS) for name in names]
        return np.stack(clipped, axis=-1).astype(np.float32)

    draws = Draws.of(pages.labels, len(pages.names), sizes=(len(pages.names), 20, 10, 10, 5, 5), seed=SEED)
    judged = Judged(pages, conditions, [stacked(channels) for channels in raw], names, draws)
    unseen, final = judged.unseen(), judged.weights()
    temperature = fit_temperature(unseen[0][pages.first], draws)
    page_weight = fit_page_weight(pages, unseen[0], temperature)
    for condition, logits in zip(conditions, unseen, strict=True):
        whole_documents = documents_of(pages, logits, temperature=temperature, first=page_weight)
        print(f"  {condition.title:28} {accuracy(whole_documents, pages.labels)}")
    show_ablation(judged, page_weight)

    entries = tuple(entry.name for entry in cues.entries)
    whole.learn_lexicon(lexicon)
    rivals = Condition("the lexicon's entries", entries, whole.of_entries())
    rival_vectors = np.stack([entry.vector for entry in rivals.categories])
    against = channels_of(pages, rivals, fitted=fitted, traits=traits)
    if not has_names:
        against["look"] = heads.scores(vectors, rival_vectors)
    kin = np.stack([category.kin for category in conditions[0].categories])
    ask = NoneAsked(cues.kinds, kin, vectors @ rival_vectors.T, temperature)
    none_scale = ask.fit(
        unseen[0][pages.first], (stacked(against) @ final)[pages.first].astype(np.float32), pages.labels
    )

    fitted |= {"entry_vectors": lexicon, "lexicon_digest": lexicon_digest(cues)}
    if not has_names:  # an image-text tower brings its own vectors for names and needs no head
        targets = vectors[pages.labels[pages.document]]
        head, space = fit_head(features, targets, head_weights(pages), len(vectors))
        fitted |= {"look_head": head, "look_space": space}
    channels = {name: round(weight, 3) for name, weight in zip(names, final.tolist(), strict=True)}
    return fitted, {
        "temperature": temperature,
        "channels": channels,
        "first_page_weight": page_weight,
        "none_scale": asdict(none_scale),
    }


def fit_page_weight(pages: Pages, logits: Array, temperature: float) -> float:
    """Return the weight of page 1, by log loss of the whole documents that have several pages."""
    best, least = PAGE_WEIGHTS[0], np.inf
    many = np.bincount(pages.document) > 1
    for weight in PAGE_WEIGHTS:
        probabilities = documents_of(pages, logits, temperature=temperature, first=weight)
        loss = -np.log(probabilities[np.arange(len(pages.labels)), pages.labels] + 1e-9)[many].mean()
        error = expected_calibration_error(probabilities, pages.labels)
        told = f"{accuracy(probabilities, pages.labels)}, ECE {error:.3f}"
        print(f"  page 1 weighs {weight}: {told}, log loss of several pages {loss:.3f}")
        if loss < least:
            best, least = weight, float(loss)
    return best


def show_ablation(judged: Judged, page_weight: float) -> None:
    """Print what each way to look at a page adds: weights fitted anew for each part of the channels."""
    ways = list(WAYS)
    parts = [ways, *([way] for way in ways), *([w for w in ways if w != left] for left in ways)]
    for part in parts:
        show_part(judged, " + ".join(part), [name for way in part for name in WAYS[way]], page_weight)
    for name in WAYS["text"]:  # the others are a way each, and shown above
        show_part(judged, f"{name} alone", [name], page_weight)
        show_part(judged, f"all but {name}", [other for other in judged.channels if other != name], page_weight)


def show_part(judged: Judged, title: str, channels: Sequence[str], page_weight: float) -> None:
    """Print the accuracy by these channels alone, with intervals over drawn sources."""
    pages = judged.pages
    logits = judged.unseen([judged.channels.index(name) for name in channels])[0]
    temperature = fit_temperature(logits[pages.first], judged.draws)
    right = documents_of(pages, logits, temperature=temperature, first=page_weight).argmax(axis=1) == pages.labels
    groups: list[str] = pages.sources.tolist()
    every: Estimate = bootstrap(lambda at: float(right[at].mean()), groups)
    by_kind = bootstrap(lambda at: macro(right[at].astype(np.float64), pages.labels[at]), groups)
    print(f"  {title:28} all names {every}, mean over kinds {by_kind}")


@dataclass(frozen=True)
class NoneAsked:
    """Lists of names with and without the true one, asked whether one fits."""

    kinds: Array  #: (E, E)
    kin: Array  #: (C, E): how much of each entry the names of the corpus own
    cosines: Array  #: (C, E): how alike they are
    temperature: float

    def fit(self, logits: Array, against: Array, labels: NDArray[np.int64]) -> NoneScale:
        """Return the Platt scaling of names against rivals, fitted on lists with and without the true name."""
        rng = np.random.default_rng(SEED)
        odds: list[float] = []
        is_none: list[float] = []
        for size in NONE_SIZES:
            present: list[float] = []
            absent: list[float] = []
            for _ in range(NONE_DRAWS):
                for document, label in enumerate(labels.tolist()):
                    others = rng.choice(np.delete(np.arange(logits.shape[1]), label), size, replace=False)
                    for found, offered in ((present, np.append(others[1:], label)), (absent, others)):
                        mask = rivals_of(self.kin[offered], self.kinds, self.cosines[offered])
                        if mask.any():
                            odd = log_odds(logits[document, offered], against[document, mask], self.temperature)
                            found.append(odd)
            if not present or not absent:
                continue  # a lexicon with hardly more than the offered names has no rivals
            print(f"  none of {size}: AUROC {auroc(np.array(present), np.array(absent)):.3f}")
            odds += [*present, *absent]
            is_none += [0.0] * len(present) + [1.0] * len(absent)
        return _platt(torch.tensor(odds), torch.tensor(is_none)) if odds else NoneScale()


def _platt(odds: torch.Tensor, is_none: torch.Tensor) -> NoneScale:
    numbers = torch.tensor([1.0, 0.0], requires_grad=True)
    optimizer = torch.optim.LBFGS([numbers], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(-(numbers[0] * odds + numbers[1]), is_none)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    slope, offset = numbers.tolist()
    return NoneScale(round(slope, 3), round(offset, 3))


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
