"""How the names are offered while a bundle is fitted and judged: as they are, in other words, or unknown."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.fitting import Array, Pages
from classifier_worker.core.cues import CueIndex
from classifier_worker.models.categories import Categories, Category
from classifier_worker.models.evidence import channel_scores

#: Written before anything was tuned: label and another name for it, three a label, from near to far.
SYNONYMS = Path(__file__).with_name("synonyms.csv")
HALVES = 3  #: draws of labels whose entries are taken away
UNKNOWN_WEIGHT = 0.25  #: of each draw in the fit, beside the whole lexicon

Encode = Callable[[Sequence[str]], Array]


@dataclass(frozen=True)
class Condition:
    """One way to offer the names; `weight` in the fit, 0 for those that are only judged."""

    title: str
    names: tuple[str, ...]
    categories: list[Category]
    weight: float = 0.0


@dataclass(frozen=True)
class Encoders:
    """How names become vectors; `look` in the space of an image-text tower, None for a tower without names."""

    text: Encode
    look: Encode | None


def categories_without(
    cues: CueIndex, removed: set[int], *, names: tuple[str, ...], lexicon: Array, encoders: Encoders
) -> list[Category]:
    """Return the categories as they would be if the lexicon lacked the entries `removed`."""
    kept = [number for number in range(len(cues.entries)) if number not in removed]
    categories = Categories(
        [cues.entries[number] for number in kept],
        encode=encoders.text,
        encode_look=encoders.look,
        capacity=len(names),
    )
    categories.learn_lexicon(lexicon[kept])
    whole = []
    for category in categories.look_up(names):
        kin = np.zeros(len(cues.entries), dtype=np.float32)
        kin[kept] = category.kin
        whole.append(replace(category, kin=kin))
    return whole


def conditions_of(
    names: tuple[str, ...], cues: CueIndex, *, lexicon: Array, encoders: Encoders, seed: int
) -> list[Condition]:
    """Return the names as they are, with half and with all of their entries removed, and in other words."""

    def without(removed: set[int], offered: tuple[str, ...] = names) -> list[Category]:
        return categories_without(cues, removed, names=offered, lexicon=lexicon, encoders=encoders)

    known = without(set())
    own = [set(np.flatnonzero(category.kin == 1).tolist()) for category in known]
    rng = np.random.default_rng(seed)
    conditions = [Condition("names as they are", names, known, 1.0)]
    for _ in range(HALVES):
        half = rng.choice(len(names), len(names) // 2, replace=False)
        removed = set().union(*(own[at] for at in half))
        conditions.append(Condition("half of the entries removed", names, without(removed), UNKNOWN_WEIGHT))
    conditions.append(Condition("all their entries removed", names, without(set().union(*own))))
    for offered in other_words(names):
        conditions.append(Condition("in other words", offered, without(set(), offered)))
    return conditions


def other_words(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the names in each set of the table of synonyms; none when a name is not in the table."""
    found: dict[str, list[str]] = {}
    with SYNONYMS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["label"], []).append(row["synonym"])
    if not found.keys() >= set(names):
        return []
    return list(zip(*(found[name] for name in names), strict=True))


def channels_of(pages: Pages, offered: Condition, *, fitted: dict[str, Array], traits: Array) -> dict[str, Array]:
    """Return each channel's scores (pages, C); a page without text has zeros in the text channels."""
    found = [
        channel_scores(one, offered.names, offered.categories, traits=traits, fitted=fitted) for one in pages.evidence
    ]
    nothing = np.zeros(len(offered.names), dtype=np.float32)
    channels = {name for scores in found for name in scores}
    return {name: np.stack([scores.get(name, nothing) for scores in found]) for name in sorted(channels)}
