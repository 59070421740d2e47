"""What the models know of a category by its name alone: vectors, and its kin among the lexicon's entries.

Owns the cache by name. A name that the lexicon knows gets its entry's cues and traits; a name that it does
not know borrows them, at reduced weight, from entries that it contains as words and from those nearest
in meaning.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classifier_worker.core.cues import CueIndex, squash, words_of

#: Templates whose mean stands for a bare name; "{}" is the name.
TEMPLATES: Final = ("{}", "this document is a {}")
#: How much of an entry a name gets: the entry's own name, one of several words inside the name, mere likeness.
_SAME, _INSIDE, _ALIKE = 1.0, 0.7, 0.5
#: Entries are alike from this cosine on, and at most so many of them.
_LEAST_COSINE, _MOST_ALIKE = 0.5, 3

_NEUTRAL: Final = frozenset({"document", "documents", "page", "paper", "file", "scan", "a", "an", "the", "of"})

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
        cues: CueIndex,
        *,
        encode: Callable[[Sequence[str]], Vectors],
        encode_look: Callable[[Sequence[str]], Vectors] | None,
        capacity: int,
    ) -> None:
        self._cues = cues
        self._encode = encode
        self._encode_look = encode_look
        self._capacity = capacity
        self._known: OrderedDict[str, Category] = OrderedDict()
        self._by_phrase: dict[str, int] = {}
        self.entry_names: Vectors = np.zeros((0, 0), dtype=np.float32)
        self.entry_vectors: Vectors = np.zeros((0, 0), dtype=np.float32)

    def learn_lexicon(self, entry_vectors: Vectors | None = None) -> None:
        """Encode the lexicon once; `entry_vectors` (E, 2, D) are the encodings that a fitted bundle carries."""
        for number, entry in enumerate(self._cues.entries):
            for phrase in entry.synonyms:
                self._by_phrase.setdefault(_key(phrase), number)
        for number, entry in enumerate(self._cues.entries):
            self._by_phrase[_key(entry.name)] = number
        both = self.encode_lexicon() if entry_vectors is None else entry_vectors
        self.entry_names, self.entry_vectors = both[:, 0], both[:, 1]

    def encode_lexicon(self) -> Vectors:
        """Return (E, 2, D): the unit vector of each entry's names, and that of its cues."""
        texts: list[str] = []
        spans = []
        for entry in self._cues.entries:
            names, cues = [entry.name, *entry.synonyms], list(entry.cues) or [entry.name]
            spans.append((len(texts), len(texts) + len(names), len(texts) + len(names) + len(cues)))
            texts += [*names, *cues]
        vectors = self._encode(texts)
        means = [(vectors[a:b].mean(axis=0), vectors[b:c].mean(axis=0)) for a, b, c in spans]
        return _unit(np.array(means, dtype=np.float32))

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
        texts = [template.format(name) for name in plain for template in TEMPLATES]
        bare = _unit(self._encode(texts).reshape(len(names), len(TEMPLATES), -1).mean(axis=1))
        kin = np.stack([self._kin(name, vector) for name, vector in zip(plain, bare, strict=True)])
        known = kin.sum(axis=1, keepdims=True)
        vectors = _unit(bare + (kin @ self.entry_names) * 0.5 + (kin @ self.entry_vectors))
        vectors = np.where(known > 0, vectors, bare).astype(np.float32)
        looks = self._encode_look(plain) if self._encode_look else [None] * len(names)
        return [Category(*parts) for parts in zip(vectors, kin, looks, strict=True)]

    def _kin(self, name: str, vector: Vectors) -> Vectors:
        kin = np.zeros(len(self._cues.entries), dtype=np.float32)
        same = self._by_phrase.get(_key(name))
        if same is not None:
            kin[same] = _SAME
            return kin
        inside = self._inside(name)
        if inside is not None:
            kin[inside] = _INSIDE
            return kin
        cosines = self.entry_names @ vector
        nearest = np.argsort(-cosines, kind="stable")[:_MOST_ALIKE]
        nearness = np.clip((cosines[nearest] - _LEAST_COSINE) / (1 - _LEAST_COSINE), 0.0, None)
        if nearness.sum() > 0:
            kin[nearest] = _ALIKE * nearness.max() ** 0.5 * nearness / nearness.sum()
        return kin

    def _inside(self, name: str) -> int | None:
        """Return the entry whose phrase is the longest run of words within `name`, the last of several."""
        words = words_of(name)
        for length in range(len(words) - 1, 0, -1):
            for start in range(len(words) - length, -1, -1):
                number = self._by_phrase.get(_key(" ".join(words[start : start + length])))
                if number is not None:
                    return number
        return None


def _key(phrase: str) -> str:
    """Return a phrase's key: folded, without words that any document may have, without a plural's s."""
    words = [word for word in words_of(phrase) if word not in _NEUTRAL] or words_of(phrase)
    return squash(
        "".join(
            word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words
        )
    )


def _unit(vectors: Vectors) -> Vectors:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), dtype=np.float32)
