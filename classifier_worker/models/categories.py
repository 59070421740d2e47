"""What the models know of a category by its name alone: vectors, and its kin among the lexicon's entries.

Owns the cache by name. A name that the lexicon knows gets its entry's cues and traits; a name that it does
not know borrows them, at reduced weight, from the entries nearest in meaning and in words.
"""

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classifier_worker.core.cues import Entry, squash, words_of

#: A name that no entry has is like those nearest in meaning and in words: likeness is the cosine plus this much of the
#: words in common; a name that contains an entry's name is at least so much like it.
_OVERLAP, _INSIDE = 0.4, 0.85
#: From this likeness on, at most so many entries share in what it borrows, which is this much at most.
_LEAST_LIKENESS, _MOST_ALIKE, _ALIKE = 0.4, 6, 0.8

#: How many of an entry's synonyms and cues its vectors are made of: files list the most telling English ones first,
#: and an English text tower makes noise of the rest.
_ENCODED_SYNONYMS, _ENCODED_CUES = 12, 24

#: Names that are several: "contracts and agreements", "act or statute", "balance sheet / income statement".
_JOINED: Final = re.compile(r"\s*[/&,;+|]\s*|\s+(?:and|or|und|oder|et|ou|y|e|o|en)\s+", re.IGNORECASE)
_BRACKETS: Final = re.compile(r"\s*[(\[][^)\]]*[)\]]")

_NEUTRAL: Final = frozenset({"document", "page", "paper", "file", "scan", "a", "an", "the", "of"})

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Category:
    """One name as the channels see it."""

    vector: Vectors  #: unit (D,): the name and what the lexicon adds to it
    kin: Vectors  #: (E,): how much of each lexicon entry it is; sums to at most 1
    look: Vectors | None  #: unit (D',) in the space of an image-text tower


class Categories:
    """Categories by name, the most recently used kept; one thread uses it."""

    def __init__(
        self,
        entries: Sequence[Entry],
        *,
        encode: Callable[[Sequence[str]], Vectors],
        encode_look: Callable[[Sequence[str]], Vectors] | None,
        capacity: int,
    ) -> None:
        self._entries = entries
        self._encode = encode
        self._encode_look = encode_look
        self._capacity = capacity
        self._known: OrderedDict[str, Category] = OrderedDict()
        self._by_phrase: dict[str, set[int]] = {}
        self._by_word: dict[str, set[int]] = {}
        self._rarities: dict[str, float] = {}
        self._contents: list[list[tuple[set[str], float]]] = []  #: words and rarity of each name of each entry
        self.entry_names: Vectors = np.zeros((0, 0), dtype=np.float32)
        self.entry_vectors: Vectors = np.zeros((0, 0), dtype=np.float32)

    def learn_lexicon(self, entry_vectors: Vectors | None = None) -> None:
        """Encode the lexicon once; `entry_vectors` (E, 2, D) are the encodings that a fitted bundle carries."""
        for number, entry in enumerate(self._entries):
            for phrase in entry.synonyms:
                self._by_phrase.setdefault(_key(phrase), set()).add(number)
        named = [[_content(name) for name in (entry.name, *entry.synonyms)] for entry in self._entries]
        for number, contents in enumerate(named):
            for word in set().union(*contents):
                self._by_word.setdefault(word, set()).add(number)
        count = len(self._entries) + 1
        self._rarities = {word: math.log(count / (len(owners) + 0.5)) for word, owners in self._by_word.items()}
        self._contents = [[(words, self._rarity(words)) for words in contents] for contents in named]
        for number, entry in enumerate(self._entries):
            self._by_phrase[_key(entry.name)] = {number}
        both = self.encode_lexicon() if entry_vectors is None else entry_vectors
        self.entry_names, self.entry_vectors = both[:, 0], both[:, 1]

    def encode_lexicon(self) -> Vectors:
        """Return (E, 2, D): the unit vector of each entry's names, and that of its cues."""
        texts: list[str] = []
        spans = []
        for entry in self._entries:
            names = [entry.name, *entry.synonyms[:_ENCODED_SYNONYMS]]
            cues = list(entry.cues[:_ENCODED_CUES]) or [entry.name]
            spans.append((len(texts), len(texts) + len(names), len(texts) + len(names) + len(cues)))
            texts += [*names, *cues]
        vectors = self._encode(texts)
        means = [(vectors[a:b].mean(axis=0), vectors[b:c].mean(axis=0)) for a, b, c in spans]
        return _unit(np.array(means, dtype=np.float32))

    def of_entries(self) -> list[Category]:
        """Return the lexicon's entries as categories; but for an image-text tower, nothing is encoded for it."""
        names = [entry.name for entry in self._entries]
        vectors = _unit(1.5 * self.entry_names + self.entry_vectors)
        looks = self._encode_look(names) if self._encode_look else [None] * len(names)
        kin = np.eye(len(names), dtype=np.float32)
        return [Category(*parts) for parts in zip(vectors, kin, looks, strict=True)]

    def look_up(self, names: Sequence[str]) -> list[Category]:
        """Return each name's category; unknown ones are encoded together."""
        fresh = [name for name in dict.fromkeys(names) if name not in self._known]
        if fresh:
            self._known.update(zip(fresh, self._describe(fresh), strict=True))
        found = [self._known[name] for name in names]
        for name in names:
            self._known.move_to_end(name)
        while len(self._known) > max(self._capacity, len(names)):
            self._known.popitem(last=False)
        return found

    def _describe(self, names: Sequence[str]) -> list[Category]:
        plain = [" ".join(name.replace("_", " ").replace("-", " ").split()) for name in names]
        bare = self._encode(plain)
        kin = np.stack([self._kin(name, vector) for name, vector in zip(plain, bare, strict=True)])
        known = kin.sum(axis=1, keepdims=True)
        vectors = _unit(bare + (kin @ self.entry_names) * 0.5 + (kin @ self.entry_vectors))
        vectors = np.where(known > 0, vectors, bare).astype(np.float32)
        looks = self._encode_look(plain) if self._encode_look else [None] * len(names)
        return [Category(*parts) for parts in zip(vectors, kin, looks, strict=True)]

    def _kin(self, name: str, vector: Vectors) -> Vectors:
        kin = np.zeros(len(self._entries), dtype=np.float32)
        if owners := self._same(name):  # a word that several entries claim, as "Kontoauszug" is, means each in part
            kin[list(owners)] = 1.0 / len(owners)
            return kin
        likeness = self.entry_names @ vector + _OVERLAP * self._overlap(name)
        for owner in self._inside(name):
            likeness[owner] = max(likeness[owner], _INSIDE)
        nearest = np.argsort(-likeness, kind="stable")[:_MOST_ALIKE]
        nearness = np.clip((likeness[nearest] - _LEAST_LIKENESS) / (1 - _LEAST_LIKENESS), 0.0, 1.0) ** 2
        if nearness.sum() > 0:
            kin[nearest] = _ALIKE * nearness.max() ** 0.5 * nearness / nearness.sum()
        return kin

    def _same(self, name: str) -> set[int]:
        """Return the entries that the whole name means: as it stands, without what is in brackets, or all its parts."""
        for whole in (name, _BRACKETS.sub(" ", name)):
            if owners := self._by_phrase.get(_key(whole)):
                return owners
        parts = [self._by_phrase.get(_key(part)) for part in _JOINED.split(name) if part.strip()]
        known = [owners for owners in parts if owners]
        return set().union(*known) if len(known) == len(parts) else set()

    def _overlap(self, name: str) -> Vectors:
        """Return how far each entry's best name has the same words (E,): Dice's coefficient, rare words heavier."""
        words = _content(name)
        own = self._rarity(words)
        scores = np.zeros(len(self._entries), dtype=np.float32)
        for number in set().union(*(self._by_word.get(word, ()) for word in words)):
            for other, rarity in self._contents[number]:
                if common := words & other:
                    both = 2 * self._rarity(common) / (own + rarity)
                    scores[number] = max(scores[number], both)
        return scores

    def _rarity(self, words: Collection[str]) -> float:
        most = math.log((len(self._entries) + 1) / 0.5)  # of a word that no entry has
        return sum([self._rarities.get(word, most) for word in words])

    def _inside(self, name: str) -> set[int]:
        """Return the entries whose phrase is the longest run of words within `name`, the last of several runs."""
        words = words_of(name)
        for length in range(len(words) - 1, 0, -1):
            for start in range(len(words) - length, -1, -1):
                owners = self._by_phrase.get(_key(" ".join(words[start : start + length])))
                if owners:
                    return owners
        return set()


def _key(phrase: str) -> str:
    """Return a phrase's key: folded, without words that any document may have, in the singular."""
    words = [_singular(word) for word in words_of(phrase)]
    return squash("".join([word for word in words if word not in _NEUTRAL] or words))


def _content(phrase: str) -> set[str]:
    return {_singular(word) for word in words_of(phrase)} - _NEUTRAL


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _unit(vectors: Vectors) -> Vectors:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), dtype=np.float32)
