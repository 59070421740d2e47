"""Exact evidence: which phrases of the lexicon, and which of the caller's names, stand on a page, and how large.

Owns text matching. A lexicon entry is a document type with its other names and the phrases that such
documents carry; this is general knowledge, kept in the bundle's readable files. OCR glues words, so
phrases are matched with all spaces and punctuation removed; short ones must begin or end at a word.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classifier_worker.core.page import Line

#: Letters and digits, with the vowel signs of scripts that write them as marks (Arabic to Khmer).
_WORD: Final = re.compile(r"(?:[^\W_]|[\u064b-\u065f\u0900-\u0dff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])+")

#: Letters from which a phrase may stand inside glued text; shorter ones need one or two word boundaries.
_LETTERS_FREE: Final = 9
_LETTERS_ONE_BOUNDARY: Final = 5
#: Letters of a phrase that are looked up before it is searched for.
_BEGINNING: Final = 5
#: What a phrase of an entry is worth to the kind that the entry is of: whoever offers "tax form" means a W-2 too.
_INHERITED: Final = 0.5
_INHERITED_HEADING: Final = 0.7
#: What a name of an entry is worth beside its cues (1 each) wherever it stands; as a heading it counts apart.
_NAME_WORTH: Final = 0.5
#: Names that are a smaller part of their line, for its loudness, are words in a sentence.
_LEAST_HEADING: Final = 0.5
#: A phrase that is repeated all over a page is no better than one that stands there a few times.
_MOST_OCCURRENCES: Final = 8
#: Words of names that say nothing about the kind of document.
_EMPTY_WORDS: Final = frozenset(
    (
        "a",
        "an",
        "and",
        "de",
        "der",
        "des",
        "die",
        "du",
        "for",
        "from",
        "in",
        "la",
        "le",
        "of",
        "on",
        "or",
        "the",
        "to",
        "und",
    )
)
_GENERIC_WORDS: Final = frozenset(
    ("document", "documents", "file", "form", "page", "paper", "record", "sheet", "copy", "scan", "type")
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A kind of document: its name, its other names, phrases it carries, and traits of its layout and look."""

    name: str
    synonyms: tuple[str, ...] = ()
    cues: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()
    kind_of: tuple[str, ...] = ()  #: names of the entries that it is a kind of


def words_of(text: str) -> list[str]:
    """Return the words of `text`, folded so that case, width and ligatures do not matter."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def squash(text: str) -> str:
    """Return the letters and digits of `text` alone, folded."""
    return "".join(words_of(text))


@dataclass(frozen=True, slots=True)
class PageText:
    """A page's text made ready for matching; `weights` says how loud each line is."""

    squashed: str
    word_starts: frozenset[int]
    word_ends: frozenset[int]
    line_starts: tuple[int, ...]
    weights: tuple[float, ...]
    lines: tuple[Line, ...]

    def strength(self, phrase: str) -> float:
        """Return how loudly the squashed `phrase` stands on the page: the loudest line it begins in, 0 if nowhere."""
        return max((self.weights[number] for number in self._begins_in(phrase)), default=0.0)

    def heading(self, phrase: str) -> float:
        """Return how far the squashed `phrase` is a heading: its line's loudness times its share of the line."""
        shares = (
            self.weights[number] * min(len(phrase) / max(self._letters_of(number), 1), 1.0)
            for number in self._begins_in(phrase)
        )
        return max(shares, default=0.0)

    def _letters_of(self, number: int) -> int:
        is_last = number + 1 == len(self.line_starts)
        return (len(self.squashed) if is_last else self.line_starts[number + 1]) - self.line_starts[number]

    def loudest_line(self, phrase: str) -> Line | None:
        """Return the line that gives the squashed `phrase` its strength; None when it is not on the page."""
        number = max(self._begins_in(phrase), key=lambda number: self.weights[number], default=None)
        return None if number is None else self.lines[number]

    def _begins_in(self, phrase: str) -> Iterator[int]:
        """Yield the numbers of the lines in which `phrase` begins, the first few of them."""
        found, at = 0, self.squashed.find(phrase)
        while at >= 0 and found < _MOST_OCCURRENCES:
            if self._stands_alone(phrase, at):
                yield bisect_right(self.line_starts, at) - 1
                found += 1
            at = self.squashed.find(phrase, at + 1)

    def beginnings(self) -> set[str]:
        """Return every run of one to _BEGINNING letters of the page, with which a phrase on it must begin."""
        text = self.squashed
        return {text[at : at + length] for length in range(1, _BEGINNING + 1) for at in range(len(text))}

    def _stands_alone(self, phrase: str, at: int) -> bool:
        if len(phrase) >= _LETTERS_FREE or not phrase.isascii():
            return True
        boundaries = (at in self.word_starts) + (at + len(phrase) in self.word_ends)
        return boundaries >= (1 if len(phrase) >= _LETTERS_ONE_BOUNDARY else 2)


def page_text(lines: Sequence[Line]) -> PageText:
    """Return the page's lines ready for matching: large, bold and high lines are louder."""
    typical = float(np.median([line.size for line in lines])) if lines else 1.0
    pieces: list[str] = []
    starts, ends, line_starts, weights = [], [], [], []
    at = 0
    for line in lines:
        line_starts.append(at)
        larger = min(max(line.size / max(typical, 1e-6) - 1.0, 0.0), 2.0)
        high = 0.5 if line.box.top < 0.2 else 0.0
        weights.append(1.0 + larger + high + (0.25 if line.is_bold else 0.0))
        for word in words_of(line.text):
            starts.append(at)
            pieces.append(word)
            at += len(word)
            ends.append(at)
    return PageText(
        "".join(pieces), frozenset(starts), frozenset(ends), tuple(line_starts), tuple(weights), tuple(lines)
    )


@dataclass(frozen=True, slots=True)
class Matches:
    """Which phrases of a lexicon stand on a page."""

    strengths: NDArray[np.float32]  #: (P,) how loudly each phrase stands on the page
    headings: NDArray[np.float32]  #: (P,) how far each entry's name or synonym is a heading; 0 for cues


class CueIndex:
    """All phrases of a lexicon, matched against a page in one pass."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)
        number_of = {entry.name: number for number, entry in enumerate(self.entries)}
        worth: dict[str, dict[int, float]] = {}
        named: set[tuple[str, int]] = set()
        for number, entry in enumerate(self.entries):
            for phrase in map(squash, entry.cues):
                worth.setdefault(phrase, {})[number] = 1.0
            for phrase in map(squash, (entry.name, *entry.synonyms)):
                worth.setdefault(phrase, {}).setdefault(number, _NAME_WORTH)
                named.add((phrase, number))
        worth = {
            phrase: owners for phrase, owners in worth.items() if len(phrase) > 1 or (phrase and not phrase.isascii())
        }
        self.phrases = tuple(worth)
        #: (E, E): 1 where the row's entry is of the column's kind, itself included
        self.kinds = np.eye(len(self.entries), dtype=np.float32)
        for number, entry in enumerate(self.entries):
            self.kinds[number, [number_of[parent] for parent in entry.kind_of if parent in number_of]] = 1.0
        self._kinds_of = np.argwhere(self.kinds - np.eye(len(self.entries)) > 0).tolist()  # (child, parent)
        pairs = [
            (row, number, share, (phrase, number) in named)
            for row, phrase in enumerate(self.phrases)
            for number, share in self._shares(worth[phrase]).items()
        ]
        #: what phrase `rows` is worth to entry `owners`, in pairs, for a table would be nearly empty
        self._rows, self._owners = np.array([pair[:2] for pair in pairs], dtype=np.int64).reshape(-1, 2).T
        self._worth = np.array([pair[2] for pair in pairs], dtype=np.float32)
        self._is_name = np.array([pair[3] for pair in pairs], dtype=np.bool_)
        self._named = np.bincount(self._rows, weights=self._is_name, minlength=len(self.phrases)) > 0
        #: rows of the phrases that begin with these letters: most of a lexicon can be told absent at once
        self._by_beginning: dict[str, list[int]] = {}
        for row, phrase in enumerate(self.phrases):
            self._by_beginning.setdefault(phrase[:_BEGINNING], []).append(row)

    def _shares(self, owners: Mapping[int, float]) -> dict[int, float]:
        """Return what a phrase is worth to its owners and to their kinds; the more owners, the less."""
        rarity = float(np.log(1.0 + len(self.entries) / len(owners)))
        shares = {number: worth * rarity for number, worth in owners.items()}
        for number, worth in owners.items():
            for parent in np.flatnonzero(self.kinds[number]).tolist():
                shares[parent] = max(shares.get(parent, 0.0), _INHERITED * worth * rarity)
        return shares

    def match(self, page: PageText) -> Matches:
        """Return which phrases stand on the page."""
        found = Matches(*np.zeros((2, len(self.phrases)), dtype=np.float32))
        for beginning in self._by_beginning.keys() & page.beginnings():
            for row in self._by_beginning[beginning]:
                found.strengths[row] = page.strength(self.phrases[row])
                if found.strengths[row] and self._named[row]:
                    found.headings[row] = page.heading(self.phrases[row])
        return found

    def heading_evidence(self, found: Matches) -> NDArray[np.float32]:
        """Return how far a name of each entry, or of one of its kinds, stands on the page as a heading (E,)."""
        there = self._is_name & (found.headings[self._rows] >= _LEAST_HEADING)
        own = np.zeros(len(self.entries), dtype=np.float32)
        np.maximum.at(own, self._owners[there], found.headings[self._rows[there]])
        whole = own.copy()
        for child, parent in self._kinds_of:
            whole[parent] = max(whole[parent], _INHERITED_HEADING * own[child])
        return whole

    def evidence(self, found: Matches, idf: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the evidence for each entry (E,): summed worth of its phrases, dampened.

        `idf` (P,) says how rare each phrase is on unrelated pages; without it all count alike.
        """
        told = found.strengths if idf is None else found.strengths * idf
        there = np.flatnonzero(told[self._rows])
        sums = np.bincount(
            self._owners[there], told[self._rows[there]] * self._worth[there], minlength=len(self.entries)
        )
        return np.asarray(np.sqrt(sums), dtype=np.float32)

    def telling_lines(
        self, page: PageText, kin: NDArray[np.float32], idf: NDArray[np.float32] | None, *, most: int
    ) -> list[Line]:
        """Return the lines with the phrases that speak loudest for a category that is `kin` (E,) to the entries."""
        worth = self.match(page).strengths * np.bincount(
            self._rows, self._worth * kin[self._owners], minlength=len(self.phrases)
        )
        if idf is not None:
            worth = worth * idf
        found: dict[Line, None] = {}
        for row in np.argsort(-worth, kind="stable"):
            line = page.loudest_line(self.phrases[row]) if worth[row] > 0 else None
            if line is None or len(found) == most:
                break
            found[line] = None
        return list(found)


def name_evidence(
    page: PageText, names: Sequence[str], worth: Mapping[str, float] | None = None
) -> NDArray[np.float32]:
    """Return how loudly each of `names` itself stands on the page (C,): the whole name, or else its telling words.

    `worth` gives words that are common on unrelated pages a smaller part (1 when missing).
    """
    known: dict[str, float] = {}

    def strength(phrase: str) -> float:
        if phrase not in known:
            known[phrase] = page.strength(phrase)
        return known[phrase]

    scores = np.zeros(len(names), dtype=np.float32)
    for number, name in enumerate(names):
        words = [word for word in words_of(name) if word not in _EMPTY_WORDS]
        telling = [word for word in words if word not in _GENERIC_WORDS] or words
        if not telling:
            continue
        share = sum(strength(word) * (worth or {}).get(word, 1.0) for word in telling) / len(words)
        whole = strength("".join(words_of(name))) * (
            1.0 if telling != words or len(words) > 1 else (worth or {}).get(telling[0], 1.0)
        )
        scores[number] = max(whole, 0.5 * share)
    return scores
