"""Structure: what a page's layout says about it, as plain numbers, whatever the language of its text.

Owns the list of layout features and the traits made of them. Pure numpy on a `Page`: geometry of the
lines, what is drawn, and a few sums over the pixels for pages that carry neither.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classifier_worker.core.page import Line, Page, Structure
from classifier_worker.core.patterns import PATTERNS, pattern_features

_MONEY: Final = frozenset("$€£¥₹")
_BULLETS: Final = frozenset("•▪●○■□☐☑–-*·")

#: A page without text is blank when this share of it has the colour of its paper.
_BLANK_SHARE: Final = 0.99
#: Side of the tiles in which photographs are looked for.
_TILE_PX: Final = 16
#: Least width of a stave's lines on the page, and in how many strips of a picture they are looked for.
_STAVE_WIDTH: Final = 0.2
_STRIPS: Final = 3
_STAFF_LINE_PX: Final = 3

#: Names of the features, in the order of the vector; the bundle's fitted head stands on this order.
FEATURES: Final[tuple[str, ...]] = (
    # page
    "aspect", "landscape", "small_page",
    # text
    "letters", "lines", "digits", "capitals", "money", "colons", "questions", "leaders", "bullets", "numbered",
    "line_length", "line_length_spread", "short_lines", "long_lines",
    # type and place
    "largest_type", "type_sizes", "bold", "coverage", "left_edges", "columns", "centred", "first_top", "last_bottom",
    "right_numbers",
    # drawn
    "rules", "upright_rules", "rects", "small_rects", "pictures", "picture_area", "tables", "table_cells", "fonts",
    # pixels
    "brightness", "dark", "ink", "colour", "flat", "row_regularity", "long_rows", "long_columns", "edges",
    "gutter", "ink_height", "ink_width", "ocr", "no_text", "staves", "photo", "legibility",
    "blank",
    # what the lines look like
    *PATTERNS,
)  # fmt: skip


def layout_features(page: Page) -> NDArray[np.float32]:
    """Return the page's features (F,), in the order of FEATURES, counts as logarithms, all roughly within -1..8."""
    values: dict[str, float] = {}
    values |= _page_features(page)
    values |= _text_features(page)
    values |= _type_features(page.lines)
    values |= _drawn_features(page.structure or Structure())
    values |= _pixel_features(page.image)
    values |= pattern_features([line.text.strip() for line in page.lines])
    staves = max(staves_drawn(page.structure or Structure()), staves_seen(page.image))
    values["blank"] = float(values["no_text"] > 0 and values["flat"] > _BLANK_SHARE)
    values["staves"] = math.log1p(max(staves - 1, 0))  # one alone may be a table's rules
    return np.array([values[name] for name in FEATURES], dtype=np.float32)


def _page_features(page: Page) -> dict[str, float]:
    aspect = math.log(max(page.width_points, 1.0) / max(page.height_points, 1.0))
    return {
        "aspect": min(max(aspect, -2.0), 2.0),
        "landscape": float(aspect > 0.05),
        "small_page": float(page.width_points * page.height_points < 300 * 420),
        "ocr": float(page.text_source == "ocr"),
        "no_text": float(page.text_source == "none"),
        "legibility": page.legibility,
    }


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / max(len(flags), 1)


def _text_features(page: Page) -> dict[str, float]:
    dense = [letter for letter in page.text if not letter.isspace()]
    texts = [line.text.strip() for line in page.lines if line.text.strip()]
    lengths = np.array([len(text) for text in texts] or [0], dtype=np.float64)
    count = max(len(dense), 1)
    return {
        "letters": float(np.log1p(len(dense))),
        "lines": float(np.log1p(len(texts))),
        "digits": sum(letter.isdigit() for letter in dense) / count,
        "capitals": sum(letter.isupper() for letter in dense) / max(sum(letter.isalpha() for letter in dense), 1),
        "money": _share([bool(_MONEY.intersection(text)) for text in texts]),
        "colons": _share([":" in text for text in texts]),
        "questions": _share(["?" in text for text in texts]),
        "leaders": _share(["__" in text or "...." in text or ". . ." in text for text in texts]),
        "bullets": _share([text[0] in _BULLETS for text in texts]),
        "numbered": _share([text[0].isdigit() or text[:1] == "(" for text in texts]),
        "line_length": float(np.log1p(np.median(lengths))),
        "line_length_spread": float(np.std(lengths)) / max(float(np.mean(lengths)), 1.0),
        "short_lines": _share([len(text) < 20 for text in texts]),
        "long_lines": _share([len(text) > 70 for text in texts]),
    }


def _type_features(lines: Sequence[Line]) -> dict[str, float]:
    if not lines:
        names = ("largest_type", "type_sizes", "bold", "coverage", "left_edges", "columns", "centred", "first_top")
        return dict.fromkeys((*names, "last_bottom", "right_numbers"), 0.0)
    boxes = np.array([(line.box.left, line.box.top, line.box.right, line.box.bottom) for line in lines])
    left, top, right, bottom = boxes.T
    sizes = np.array([line.size for line in lines])
    typical = max(float(np.median(sizes)), 1e-6)
    middle = np.abs((left + right) / 2 - 0.5) < 0.03
    ends_in_number = [line.text.strip()[-1:].isdigit() and line.box.right > 0.7 for line in lines]
    covered = np.zeros(100, dtype=np.float64)  # how many lines stand over each hundredth of the page's width
    for start, end in zip(left, right, strict=True):
        covered[max(int(start * 100), 0) : max(int(end * 100) + 1, 0)] += 1
    inner = covered[15:85] > 0.1 * covered.max()
    return {
        "largest_type": float(np.log(np.quantile(sizes, 0.98) / typical)),
        "type_sizes": float(np.log1p(len(np.unique(np.round(sizes, 3))))),
        "bold": _share([line.is_bold for line in lines]),
        "coverage": float(np.clip(np.sum((right - left) * (bottom - top)), 0.0, 1.5)),
        "left_edges": float(np.log1p(len(np.unique(np.round(left, 2)))) - 0.5 * np.log1p(len(lines))),
        "columns": float(1 + np.count_nonzero(np.diff(inner.astype(np.int8)) == 1)),
        "centred": float(np.mean(middle & (right - left < 0.6))),
        "first_top": float(np.clip(top.min(), 0.0, 1.0)),
        "last_bottom": float(np.clip(bottom.max(), 0.0, 1.0)),
        "right_numbers": _share(ends_in_number),
    }


def _drawn_features(structure: Structure) -> dict[str, float]:
    upright = [rule.bottom - rule.top > rule.right - rule.left for rule in structure.rules]
    small = [(r.right - r.left) < 0.05 and (r.bottom - r.top) < 0.04 for r in structure.rects]
    area = sum((i.right - i.left) * (i.bottom - i.top) for i in structure.images)
    return {
        "rules": float(np.log1p(len(upright))),
        "upright_rules": float(np.log1p(sum(upright))),
        "rects": float(np.log1p(len(small))),
        "small_rects": float(np.log1p(sum(small))),
        "pictures": float(np.log1p(len(structure.images))),
        "picture_area": float(np.clip(area, 0.0, 1.0)),
        "tables": float(np.log1p(len(structure.tables))),
        "table_cells": float(np.log1p(sum(table.rows * table.columns for table in structure.tables))),
        "fonts": float(np.log1p(len(structure.fonts))),
    }


def _ruled(dark: NDArray[np.bool_], share: float) -> int:
    """Return how many rows hold a line: a stretch of `share` of the width that is dark nearly throughout."""
    length = max(int(dark.shape[1] * share), 1)
    sums = np.cumsum(dark, axis=1, dtype=np.int16)
    fullest = np.maximum((sums[:, length:] - sums[:, :-length]).max(axis=1, initial=0), sums[:, length - 1])
    return int(np.count_nonzero(fullest > 0.9 * length))


def _pixel_features(image: NDArray[np.uint8]) -> dict[str, float]:
    grey = image[:, :, 1]  # green is most of brightness, and needs no arithmetic
    coarse = image[::2, ::2].astype(np.int16)
    small = coarse[:, :, 1]
    paper = float(np.partition(small, int(small.size * 0.8), axis=None)[int(small.size * 0.8)])
    dark = grey < paper - 64
    rows, columns = dark.mean(axis=1), dark.mean(axis=0)
    inked_rows, inked_columns = np.flatnonzero(rows > 0.005), np.flatnonzero(columns > 0.005)
    middle = columns[int(len(columns) * 0.46) : max(int(len(columns) * 0.54), int(len(columns) * 0.46) + 1)]
    edges = np.abs(np.diff(small, axis=1)).mean() + np.abs(np.diff(small, axis=0)).mean() if min(small.shape) > 1 else 0
    return {
        "brightness": float(small.mean()) / 255,
        "dark": float(paper < 128),
        "ink": float(dark.mean()),
        "colour": float((coarse.max(axis=2) - coarse.min(axis=2)).mean()) / 255,
        "flat": float(np.mean(np.abs(small - paper) < 10)),
        "row_regularity": float(np.std(rows) / (np.mean(rows) + 0.01)),
        "long_rows": math.log1p(_ruled(dark, 0.4)),
        "long_columns": math.log1p(_ruled(np.ascontiguousarray(dark.T), 0.25)),
        "edges": float(edges) / 255,
        "photo": _photo_share(grey, paper),
        "gutter": float(columns.mean() - middle.min()),
        "ink_height": float(np.ptp(inked_rows) / len(rows)) if inked_rows.size else 0.0,
        "ink_width": float(np.ptp(inked_columns) / len(columns)) if inked_columns.size else 0.0,
    }


def _photo_share(grey: NDArray[np.uint8], paper: float) -> float:
    """Return the share of the page's tiles that look like a photograph: many middle tones, little paper."""
    height, width = (side // _TILE_PX * _TILE_PX for side in grey.shape)
    if not height or not width:
        return 0.0
    grid = grey[:height, :width].reshape(height // _TILE_PX, _TILE_PX, width // _TILE_PX, _TILE_PX)
    tiles = grid.transpose(0, 2, 1, 3).reshape(-1, _TILE_PX * _TILE_PX).astype(np.int16)
    spread = tiles.std(axis=1)
    is_paper = np.mean(np.abs(tiles - paper) < 12, axis=1) > 0.3
    return float(np.mean((spread > 4) & (spread < 60) & ~is_paper))


def staves_drawn(structure: Structure) -> int:
    """Return how many staves of music the drawn rules make."""
    rows = sorted((r.top + r.bottom) / 2 for r in structure.rules if r.right - r.left > _STAVE_WIDTH)
    return _count_staves(np.array(rows) * 512)


def staves_seen(image: NDArray[np.uint8]) -> int:
    """Return how many staves of music the picture shows: the most that a third of its width shows.

    Thirds, because a page that is skewed a little still has level lines within them.
    """
    grey = image[:, :, 1]
    most = 0
    for share in range(_STRIPS):
        strip = grey[:, share * grey.shape[1] // _STRIPS : (share + 1) * grey.shape[1] // _STRIPS]
        if strip.shape[1] < 2 * _STRIPS:
            return 0
        paper = float(np.partition(strip, int(strip.size * 0.8), axis=None)[int(strip.size * 0.8)])
        flat = np.flatnonzero(_longest_runs(strip < paper - 40) > 0.6 * strip.shape[1])
        groups = np.split(flat, np.flatnonzero(np.diff(flat) > 1) + 1)
        rows = np.array([group.mean() for group in groups if 0 < len(group) <= _STAFF_LINE_PX])
        most = max(most, _count_staves(rows))
    return most


def _longest_runs(dark: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the longest run of dark pixels in each row."""
    run: NDArray[np.int32] = np.zeros(dark.shape[0], dtype=np.int32)
    longest = run.copy()
    for column in dark.T:
        run = np.where(column, run + 1, 0)
        np.maximum(longest, run, out=longest)
    return longest


def _count_staves(rows: NDArray[np.float64]) -> int:
    """Return how often exactly five level lines (at `rows`, px, rising) stand at one close distance."""
    gaps = np.concatenate([[np.inf], np.diff(rows), [np.inf]])
    found = at = 0
    while at + 5 <= len(rows):
        inner = gaps[at + 1 : at + 5]
        pitch = float(inner.mean())
        is_even = 1.9 <= pitch <= 10 and float(np.ptp(inner)) <= 1.01
        is_alone = min(gaps[at], gaps[at + 5]) > 1.5 * pitch
        found, at = (found + 1, at + 5) if is_even and is_alone else (found, at + 1)
    return found


#: What lexicon entries may expect of a page's layout and look, each a number that is higher the more it is so.
#: They are compared with the same number on background pages, so only their order matters.
TRAITS: Final[Mapping[str, Callable[[Mapping[str, float]], float]]] = {
    "landscape": lambda f: f["aspect"],
    "narrow": lambda f: -f["aspect"],
    "card": lambda f: f["landscape"] - 0.5 * f["lines"] / 3 - f["coverage"] + f["small_page"],
    "tabular": lambda f: f["table_cells"] / 4 + f["right_numbers"] * 2 + f["long_rows"] / 4,
    "columns": lambda f: f["columns"] + 4 * f["gutter"],
    "boxes": lambda f: (f["rects"] + f["small_rects"]) / 3 + f["long_columns"] / 3,
    "dense": lambda f: f["letters"] + 2 * f["coverage"],
    "sparse": lambda f: -f["letters"] - 2 * f["coverage"],
    "digits": lambda f: f["digits"],
    "money": lambda f: f["money"] + f["right_numbers"] / 2,
    "large_type": lambda f: f["largest_type"],
    "prose": lambda f: f["long_lines"] + f["line_length"] / 4,
    "right_numbers": lambda f: f["right_numbers"],
    "short_lines": lambda f: f["short_lines"],
    "centred": lambda f: f["centred"],
    "colour": lambda f: f["colour"],
    "picture": lambda f: f["picture_area"] - f["flat"],
    "drawing": lambda f: f["rules"] / 3 - f["letters"] / 4 + f["edges"] * 3,
    "staves": lambda f: min(f["staves"], 1.8),
    "wordless": lambda f: f["no_text"] * 3 - f["letters"],
    "fields": lambda f: f["colons"] + f["leaders"] + f["small_rects"] / 4,
    "numbered": lambda f: f["numbered"],
    "questions": lambda f: f["questions"],
    "bullets": lambda f: f["bullets"],
    "photographed": lambda f: f["ocr"] - f["flat"],
    "portrait": lambda f: min(f["photo"], 0.3),
    "illegible": lambda f: -f["legibility"],
    "dated_rows": lambda f: f["dated_rows"],
    "times": lambda f: f["times"],
    "amounts": lambda f: f["amounts"],
    "citations": lambda f: f["citations"],
    "sections": lambda f: f["sections"],
    "machine_readable": lambda f: min(f["machine_readable"], 0.1),
    "code": lambda f: f["code"],
    "formulas": lambda f: f["formulas"],
    "contact": lambda f: f["contact"],
    "capitals": lambda f: f["capital_lines"],
    "quotes": lambda f: f["quotes"],
    "units": lambda f: f["units"],
    "designators": lambda f: f["designators"],
    "spans": lambda f: f["spans"],
    "blank": lambda f: f["blank"],
}


def layout_traits(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the page's traits (T,), in the order of TRAITS, from its features (F,)."""
    named = dict(zip(FEATURES, features.tolist(), strict=True))
    return np.array([trait(named) for trait in TRAITS.values()], dtype=np.float32)
