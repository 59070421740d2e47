"""What a page shows (evidence), and how it bears on categories (channels); all numpy, no model runs here.

Owns which texts of a page are encoded, and the seven channels:
text: `body` and `title` (cosines), `cues` (lexicon phrases), `heading` (a name of the category as a line of its own),
`name` (the category's own words on the page);
structure: `structure` (how far the layout is what the lexicon expects of the category);
look: `look` (the page image through the look tower and, with the layout, through a fitted head; an image-text
tower needs no head, its score is its cosine).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classifier_worker.core.cues import CueIndex, PageText, name_evidence, page_text
from classifier_worker.core.fusion import MOST_DEVIATIONS
from classifier_worker.core.layout import TRAITS, layout_features, layout_traits
from classifier_worker.core.page import Box, Line, Page
from classifier_worker.models.categories import Category

Array = NDArray[np.float32]
Fitted = Mapping[str, Array]

#: Tokens of the pieces of a page that are encoded: they are most of a page's cost on a CPU, and chunks from
#: further down the page were measured to add nothing beside the cues.
BODY_TOKENS: Final = 128
TITLE_TOKENS: Final = 32
_TITLE_LINES: Final = 6
#: The part of a category's own words that counts where its lexicon entries speak for it already.
_NAME_OF_KNOWN: Final = 0.4
#: Weight of the layout beside the image in the look head.
_LAYOUT_SHARE: Final = 0.7
#: A page with fewer letters has no text to speak of; its text channels say nothing.
_LEAST_LETTERS: Final = 3
#: What the layout of a page without text is worth: half of its traits say only that there is none.
_WORDLESS_SHARE: Final = 0.5
_BLANK: Final = list(TRAITS).index("blank")


@dataclass(frozen=True, slots=True)
class Pieces:
    """The texts of a page that the text tower reads: (text, most tokens) each, body and title first."""

    texts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of a page without any model."""

    text: PageText
    cues: Array  #: (E,)
    headings: Array  #: (E,)
    layout: Array  #: (F,)
    traits: Array  #: (T,)
    pieces: Pieces


@dataclass(frozen=True, slots=True)
class Evidence:
    """A page's sight and its encodings."""

    sight: Sight
    texts: Array  #: (pieces, D) unit vectors of the pieces; no rows for a page without text
    look: Array  #: (K,) features of the page image


def see(page: Page, cues: CueIndex, *, cue_idf: Array | None) -> Sight:
    """Return what the page shows without a model: a few milliseconds of pure Python and numpy."""
    lines = page.lines or _lines_of(page.text)
    text = page_text(lines)
    layout = layout_features(page)
    found = cues.match(text)
    return Sight(
        text,
        cues.evidence(found, cue_idf),
        cues.heading_evidence(found),
        layout,
        layout_traits(layout),
        pieces_of(page.text, lines),
    )


def _lines_of(text: str) -> tuple[Line, ...]:
    rows = [row for row in text.splitlines() if row.strip()]
    return tuple(
        Line(row, Box(0.1, number / len(rows), 0.9, (number + 1) / len(rows)), 0.012) for number, row in enumerate(rows)
    )


def pieces_of(text: str, lines: Sequence[Line]) -> Pieces:
    """Return the pieces of a page to encode: its beginning, and its largest lines in their order."""
    if sum(letter.isalnum() for letter in text) < _LEAST_LETTERS:
        return Pieces(())
    loud = sorted(range(len(lines)), key=lambda i: (-_loudness(lines[i]), i))[:_TITLE_LINES]
    title = " ".join(lines[i].text for i in sorted(loud))
    return Pieces(((" ".join(text.split()), BODY_TOKENS), (title, TITLE_TOKENS)))


def _loudness(line: Line) -> float:
    letters = sum(letter.isalpha() for letter in line.text)
    if letters < _LEAST_LETTERS:
        return 0.0
    return line.size * (1.3 if line.box.top < 0.25 else 1.0) * (1.2 if line.is_bold else 1.0)


def channel_scores(
    evidence: Evidence, names: Sequence[str], categories: Sequence[Category], *, traits: Array, fitted: Fitted
) -> dict[str, Array]:
    """Return each channel's score for each category (C,), in deviations from what background pages show.

    `traits` (E, T) is what the lexicon's entries expect. Without fitted arrays nothing is centred.
    """
    sight = evidence.sight
    vectors = np.stack([category.vector for category in categories])
    kin = np.stack([category.kin for category in categories])
    if sight.traits[_BLANK] > 0:  # nothing to go by: all are as likely, but for what is blank by its nature
        return dict.fromkeys(("body", "cues", "structure"), MOST_DEVIATIONS * (kin @ traits[:, _BLANK]))
    raw: dict[str, Array] = {}
    if len(evidence.texts):
        raw["body"] = _cosines(evidence.texts[0], vectors, fitted.get("body_mean"))
        raw["title"] = _cosines(evidence.texts[1], vectors, fitted.get("title_mean"))
        known = kin.sum(axis=1)
        raw["cues"] = kin @ _standard(sight.cues, fitted, "cue")
        raw["heading"] = kin @ _standard(sight.headings, fitted, "heading")
        raw["name"] = name_evidence(sight.text, names) * (1.0 - (1.0 - _NAME_OF_KNOWN) * known)
    expected = traits / np.maximum(np.linalg.norm(traits, axis=1, keepdims=True), 1.0)
    told = 1.0 if len(evidence.texts) else _WORDLESS_SHARE
    raw["structure"] = told * (kin @ (expected @ _standard(sight.traits, fitted, "trait")))
    if categories[0].look is not None:
        names_look = np.stack([category.look for category in categories if category.look is not None])
        raw["look"] = _cosines(evidence.look, names_look, fitted.get("look_mean"))
    elif "look_head" in fitted:
        raw["look"] = vectors @ head_vector(head_features(evidence, fitted), fitted)
    return {name: (scores / scale(name, fitted)).astype(np.float32) for name, scores in raw.items()}


def scale(channel: str, fitted: Fitted) -> float:
    """Return one background deviation of a channel's raw scores; 1 where nothing was fitted."""
    told = fitted.get(f"{channel}_scale")
    return float(told[0]) if told is not None else 1.0


def trait_table(cues: CueIndex) -> Array:
    """Return (E, T): 1 where an entry expects a trait."""
    return np.array([[trait in entry.traits for trait in TRAITS] for entry in cues.entries], dtype=np.float32)


def _cosines(vector: Array, vectors: Array, mean: Array | None) -> Array:
    return np.asarray(vectors @ (vector if mean is None else vector - mean), dtype=np.float32)


def _standard(values: Array, fitted: Fitted, name: str) -> Array:
    mean, deviation = fitted.get(f"{name}_mean"), fitted.get(f"{name}_deviation")
    return values if mean is None or deviation is None else np.clip((values - mean) / deviation, -5.0, 5.0)


def head_features(evidence: Evidence, fitted: Fitted) -> Array:
    """Return what the look head sees (K + F,): image and layout features, standardised, each block weighed as one."""
    look, layout = _standard(evidence.look, fitted, "look"), _standard(evidence.sight.layout, fitted, "layout")
    return np.concatenate([look / np.sqrt(len(look)), _LAYOUT_SHARE * layout / np.sqrt(len(layout))])


def head_vector(features: Array, fitted: Fitted) -> Array:
    """Return the unit vector (D,) in the space of the category vectors that the fitted head sees."""
    seen = features @ fitted["look_head"] @ fitted["look_space"]
    return np.asarray(seen / max(float(np.linalg.norm(seen)), 1e-6), dtype=np.float32)
