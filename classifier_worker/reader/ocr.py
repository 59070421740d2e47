"""Text of pages that have none, by PP-OCR models that ship inside the rapidocr wheel and run in onnxruntime.

The models are loaded at the first scan and stay while the child lives. Detection looks at a reduced
page and finds lines, skewed ones too; a few of them tell which way up the page is; recognition then
reads what `choice.py` picks within the page's budget of work.
PP-OCR glues words ("THEUNITEDSTATESOFAMERICA"): match phrases also without their spaces.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from classifier_worker.core.page import Box, Line
from classifier_worker.reader.choice import lines_within

Pixels = NDArray[np.uint8]
Corners = NDArray[np.float32]  #: (lines, 4, 2) in px, each clockwise from the top left

#: Long side of the picture that lines are cut from; small print is unreadable below it.
_PAGE_PX: Final = 1600
#: Long side of what detection sees; it costs by the area.
_DETECTION_PX: Final = 704
#: A page longer than this many times its width (a receipt) keeps its area instead of its long side.
_ELONGATED: Final = 1.5
_ELONGATED_MOST: Final = 9.0
#: Tiny pictures are enlarged for detection by at most this.
_ENLARGED_MOST: Final = 2.0
#: What detection takes: sides in multiples of this.
_STRIDE_PX: Final = 32
#: Recognition sees lines 48 px high; this is how many pixels of their width a page may cost.
_WIDTH_BUDGET_PX: Final = 7_000.0
#: Share of it for the pages after the first, which weigh less in a document's answer.
_LATER_SHARE: Final = 0.4
#: Share of it for a page whose lines cannot be read: another script, handwriting, noise.
_UNREADABLE_SHARE: Final = 0.25
_LINE_HEIGHT_PX: Final = 48
#: Lines are squeezed to this share of their width: 0.96 of the letters stay the same, for 0.6 of the time.
_SQUEEZE: Final = 0.7
_LINES_MAX: Final = 400
_CONFIDENT: Final = 0.5
#: Lines tried to find out which way up a page is, as near as possible to this cost each.
_PROBE_LINES: Final = 3
_PROBE_PX: Final = 250.0
#: A mean score of the probes above which the page is upright, and below which it is unreadable.
_UPRIGHT_SCORE: Final = 0.85
_UNREADABLE_SCORE: Final = 0.55
_TALL: Final = 1.5


@dataclass(frozen=True, slots=True)
class Seen:
    """What OCR read: lines from the top down, on the page turned counter-clockwise by `quarter_turns`.

    `legibility` is the mean score of all lines tried, those too doubtful to be told included.
    """

    lines: tuple[Line, ...] = ()
    quarter_turns: int = 0
    legibility: float = 1.0
    seconds: float = field(default=0.0, compare=False)  #: what reading took, which is nothing of what was seen


def share_of(number: int) -> float:
    """Return the share of a first page's budget that page `number` may cost."""
    return 1.0 if number == 1 else _LATER_SHARE


def page_px(width: float, height: float) -> int:
    """Return the long side in px at which OCR wants a page of these sides (any unit)."""
    return round(_PAGE_PX * _length(width, height))


def _length(width: float, height: float) -> float:
    """Return by what a long side grows because the page is long and narrow."""
    aspect = max(width, height) / max(min(width, height), 1e-6)
    return float(min(max(aspect / _ELONGATED, 1.0), _ELONGATED_MOST) ** 0.5)


@cache
def _models() -> tuple[Any, Any]:
    """Return detector and recogniser; about a second, once in a child's life."""
    from rapidocr import RapidOCR

    engine: Any = RapidOCR(
        params={
            "Global.log_level": "critical",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            # no padding, which one core pays for: neither to the longest line of a batch nor to a least width
            "Rec.rec_batch_num": 1,
            "Rec.rec_img_shape": [3, _LINE_HEIGHT_PX, _LINE_HEIGHT_PX],
        }
    )
    return engine._load_det_model(), engine._load_rec_model()


def read_page(page: Pixels, *, share: float = 1.0) -> Seen:
    """Return what can be read of a page (RGB, uint8) with this share of a first page's budget of work."""
    began = time.monotonic()
    image = np.ascontiguousarray(page[:, :, ::-1])  # the models were trained on BGR
    corners = _detect(image)
    if not len(corners):
        return Seen(seconds=time.monotonic() - began)
    lines = _Lines(image, corners)
    if _is_sideways(corners):
        lines = lines.turned(1)
    budget_px = share * _WIDTH_BUDGET_PX
    score, score_turned = lines.probe(budget_px)
    if score_turned > score:
        lines = lines.turned(2)
    if max(score, score_turned) < _UNREADABLE_SCORE:
        budget_px *= _UNREADABLE_SHARE
    read = lines.read(budget_px)
    return Seen(read, lines.quarter_turns, lines.legibility, time.monotonic() - began)


class _Lines:
    """The detected lines of a page turned one way: cut from it, and recognised, once each and only when asked."""

    def __init__(self, image: Pixels, corners: Corners, quarter_turns: int = 0) -> None:
        order = _reading_order(corners)
        self._image = image
        self._corners = corners[order][:_LINES_MAX]
        sides = np.linalg.norm(self._corners - np.roll(self._corners, -1, axis=1), axis=2)
        self._widths, self._heights = sides[:, [0, 2]].max(axis=1), sides[:, [1, 3]].max(axis=1)
        # a line across the reading direction is turned when it is cut
        long, short = np.maximum(self._widths, self._heights), np.minimum(self._widths, self._heights)
        ratio = np.where(
            self._heights >= _TALL * self._widths, long / np.maximum(short, 1), self._widths / self._heights
        )
        self._costs_px: list[float] = (_SQUEEZE * _LINE_HEIGHT_PX * ratio).tolist()
        self._known: dict[int, tuple[str, float]] = {}
        self.quarter_turns = quarter_turns

    def turned(self, quarter_turns: int) -> "_Lines":
        """Return the same lines on the page turned counter-clockwise."""
        corners, image = self._corners, self._image
        for _ in range(quarter_turns):
            corners = np.stack([corners[..., 1], image.shape[1] - corners[..., 0]], axis=-1)
            # what was the top right corner is now the top left one
            corners = np.roll(corners, -1, axis=1)
            image = np.rot90(image)
        return _Lines(np.ascontiguousarray(image), corners, (self.quarter_turns + quarter_turns) % 4)

    def probe(self, budget_px: float) -> tuple[float, float]:
        """Return the mean score of a few lines as they stand and turned by half; the second is 0 when not in doubt."""
        chosen = lines_within(budget_px, self._heights.tolist(), self._costs_px) or [0]
        probes = sorted(chosen, key=lambda at: abs(self._costs_px[at] - _PROBE_PX))[:_PROBE_LINES]
        score = float(np.mean([self._recognised(at)[1] for at in probes]))
        if score >= _UPRIGHT_SCORE:
            return score, 0.0
        turned = [_recognise(np.rot90(self._cut(at), 2))[1] for at in probes]
        return score, float(np.mean(turned))

    def read(self, budget_px: float) -> tuple[Line, ...]:
        """Return the lines worth the budget that say something."""
        chosen = lines_within(budget_px, self._heights.tolist(), self._costs_px)
        found = [(at, *self._recognised(at)) for at in chosen]
        return tuple(self._line(at, text) for at, text, score in found if text and score >= _CONFIDENT)

    @property
    def legibility(self) -> float:
        """The mean score of the lines that were recognised so far, 0..1."""
        return min(float(np.mean([score for _, score in self._known.values()])), 1.0) if self._known else 1.0

    def _recognised(self, at: int) -> tuple[str, float]:
        if at not in self._known:
            self._known[at] = _recognise(self._cut(at))
        return self._known[at]

    def _cut(self, at: int) -> Pixels:
        from rapidocr.utils.process_img import get_rotate_crop_image

        cut: Pixels = get_rotate_crop_image(self._image, self._corners[at].copy())
        return cut

    def _line(self, at: int, text: str) -> Line:
        height_px, width_px = self._image.shape[:2]
        shares = np.clip(self._corners[at] / (width_px, height_px), 0.0, 1.0)
        (left, top), (right, bottom) = shares.min(axis=0).tolist(), shares.max(axis=0).tolist()
        size = min(float(self._heights[at]) / height_px, 1.0)
        return Line(text=text, box=Box(left=left, top=top, right=right, bottom=bottom), size=size)


def _detect(image: Pixels) -> Corners:
    import cv2

    detector, _ = _models()
    height_px, width_px = image.shape[:2]
    scale = min(_DETECTION_PX * _length(width_px, height_px) / max(height_px, width_px), _ENLARGED_MOST)
    small_px = [max(round(side * scale / _STRIDE_PX), 1) * _STRIDE_PX for side in (width_px, height_px)]
    small = cv2.resize(image, small_px, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    # in place and in float32: rapidocr's own preparation takes a sixth of the detector's time
    levels = small.astype(np.float32)
    mean, deviation = (np.array(numbers, dtype=np.float32) for numbers in (detector.mean, detector.std))
    levels *= np.float32(1 / 255) / deviation
    levels -= mean / deviation
    heat = detector.session(np.ascontiguousarray(levels.transpose(2, 0, 1)[None]))
    boxes, _ = detector.postprocess_op(heat, (height_px, width_px))
    return np.asarray(boxes, np.float32).reshape(-1, 4, 2)


def _recognise(line: Pixels) -> tuple[str, float]:
    """Return the text of an upright line and how sure the model is of it, 0..1."""
    import cv2
    from rapidocr.ch_ppocr_rec.typings import TextRecInput

    _, recogniser = _models()
    height_px, width_px = line.shape[:2]
    size_px = max(round(_SQUEEZE * _LINE_HEIGHT_PX * width_px / height_px), 8), _LINE_HEIGHT_PX
    method = cv2.INTER_AREA if height_px > _LINE_HEIGHT_PX else cv2.INTER_LINEAR
    found = recogniser(TextRecInput(img=[cv2.resize(line, size_px, interpolation=method)]))
    return str(found.txts[0]).strip(), float(found.scores[0])


def _is_sideways(corners: Corners) -> bool:
    """Whether most of the text, by its length, stands upright on the page: it is turned by one quarter or by three."""
    spans: NDArray[np.float32] = np.ptp(corners, axis=1)
    tall, wide = spans[:, 1] > _TALL * spans[:, 0], spans[:, 0] > _TALL * spans[:, 1]
    return float(spans[tall, 1].sum()) > float(spans[wide, 0].sum())


def _reading_order(corners: Corners) -> Sequence[int]:
    """Return the lines' positions from the top down and, where tops are nearly level, from the left."""
    tops: NDArray[np.float32] = corners[:, 0, 1]
    by_top = np.argsort(tops, kind="stable")
    level_px = 0.4 * float(np.median(np.linalg.norm(corners[:, 3] - corners[:, 0], axis=1)))
    rows = np.concatenate([[0], np.cumsum(np.diff(tops[by_top]) >= level_px)])
    return [int(at) for at in by_top[np.lexsort((corners[by_top, 0, 0], rows))]]
