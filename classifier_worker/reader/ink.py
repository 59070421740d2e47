"""Is there anything to read: how much text a text layer has, whether it is garbage, whether a page is blank."""

import re
import unicodedata
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: A text layer with fewer letters than this is a stamp, a page number or nothing.
THIN_LETTERS: Final = 40
#: On a scan, a layer with fewer than this may be a stamp ("Case 1:23 Document 4 Filed 05/06/24") over unread pages.
STAMP_LETTERS: Final = 300
_GARBAGE_SHARE: Final = 0.3
#: Control, private use, surrogate, unassigned: what a font without a usable Unicode map yields.
_NO_TEXT: Final = frozenset({"Cc", "Co", "Cs", "Cn"})
_CHARS_LOOKED_AT: Final = 2_000
#: How scrambled text is told: in so many letters at least, fewer vowels than this, and so many words with such a run.
_SCRAMBLED_LETTERS: Final = 100
_VOWEL_SHARE: Final = 0.22
_RUN_SHARE: Final = 0.15
_VOWELS: Final = frozenset("aeiouyàáâãäåæèéêëìíîïòóôõöøùúûüýœ")
_LATIN_WORD: Final = re.compile(r"[a-zà-öø-ÿœ]{2,}")
_CONSONANTS: Final = re.compile(r"[bcdfghjklmnpqrstvwxz]{5}")
_INK_STEP: Final = 24
_BLANK_SHARE: Final = 0.0004


def letters(text: str) -> int:
    """Return how many letters and digits are in `text`."""
    return sum(map(str.isalnum, text))


def is_garbage(text: str) -> bool:
    """Whether a large part of the text is no text at all, as from a font without a usable Unicode map."""
    if _is_scrambled(text[:_CHARS_LOOKED_AT]):
        return True
    sample = "".join(text[:_CHARS_LOOKED_AT].split())
    if sample.isascii() and sample.isprintable():
        return False  # nearly all pages, without a look at each letter
    bad = sum(char == "\ufffd" or unicodedata.category(char) in _NO_TEXT for char in sample)
    return bad > _GARBAGE_SHARE * len(sample)


def _is_scrambled(text: str) -> bool:
    """Whether Latin letters stand for others, as from a font with a wrong Unicode map ("Opnbddchmfr ne sgd").

    Words of every language in Latin script have vowels. Part numbers and abbreviations have few too, but they are
    short: long runs of consonants are what they do not have.
    """
    words = _LATIN_WORD.findall(text.lower())
    letters_in_all = sum(map(len, words))
    if letters_in_all < _SCRAMBLED_LETTERS:
        return False
    vowels = sum(letter in _VOWELS for word in words for letter in word)
    runs = sum(_CONSONANTS.search(word) is not None for word in words)
    return vowels < _VOWEL_SHARE * letters_in_all and runs > _RUN_SHARE * len(words)


def is_stamp(text: str) -> bool:
    """Whether a text layer is so short that on a scanned page it cannot be all of its text."""
    return letters(text[: STAMP_LETTERS * 5]) < STAMP_LETTERS


def is_thin(text: str) -> bool:
    """Whether a text layer says too little to be believed to be the page's text."""
    # the long case first: counting the letters of each full page would cost as much as reading it
    return letters(text[: THIN_LETTERS * 50]) < THIN_LETTERS or is_garbage(text)


def is_blank(image: NDArray[np.uint8]) -> bool:
    """Whether a page (RGB, uint8) is one even colour but for specks."""
    grey = image[:, :, 1]
    paper = int(np.bincount(grey.reshape(-1), minlength=256).argmax())
    return float(np.mean((grey < max(paper - _INK_STEP, 0)) | (grey > paper + _INK_STEP))) < _BLANK_SHARE
