"""Is there anything to read: how much text a text layer has, whether it is garbage, whether a page is blank."""

import unicodedata
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: A text layer with fewer letters than this is a stamp, a page number or nothing.
THIN_LETTERS: Final = 40
_GARBAGE_SHARE: Final = 0.3
#: Control, private use, surrogate, unassigned: what a font without a usable Unicode map yields.
_NO_TEXT: Final = frozenset({"Cc", "Co", "Cs", "Cn"})
_CHARS_LOOKED_AT: Final = 2_000
_INK_STEP: Final = 24
_BLANK_SHARE: Final = 0.0004


def letters(text: str) -> int:
    """Return how many letters and digits are in `text`."""
    return sum(map(str.isalnum, text))


def is_garbage(text: str) -> bool:
    """Whether a large part of the text is no text at all, as from a font without a usable Unicode map."""
    sample = "".join(text[:_CHARS_LOOKED_AT].split())
    if sample.isascii() and sample.isprintable():
        return False  # nearly all pages, without a look at each letter
    bad = sum(char == "\ufffd" or unicodedata.category(char) in _NO_TEXT for char in sample)
    return bad > _GARBAGE_SHARE * len(sample)


def is_thin(text: str) -> bool:
    """Whether a text layer says too little to be believed to be the page's text."""
    # the long case first: counting the letters of each full page would cost as much as reading it
    return letters(text[: THIN_LETTERS * 50]) < THIN_LETTERS or is_garbage(text)


def is_blank(image: NDArray[np.uint8]) -> bool:
    """Whether a page (RGB, uint8) is one even colour but for specks."""
    grey = image[:, :, 1]
    paper = int(np.bincount(grey.reshape(-1), minlength=256).argmax())
    return float(np.mean((grey < max(paper - _INK_STEP, 0)) | (grey > paper + _INK_STEP))) < _BLANK_SHARE
