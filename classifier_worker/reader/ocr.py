"""Text of pages that have none, by PP-OCR models that ship inside the rapidocr wheel and run in onnxruntime.

The models are loaded at the first scan and stay while the child lives. Detection looks at a reduced
page; recognition costs by the length of the text, so a page has a budget of it, spent on the largest
type first and then from the top down: a page of fine print keeps its headings. The budget is an
amount of work, not of time, so that a busy machine reads the same text as an idle one.
PP-OCR glues words ("THEUNITEDSTATESOFAMERICA"): match phrases also without their spaces.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from classifier_worker.core.page import Box, Line

Pixels = NDArray[np.uint8]

#: Long side of the picture that lines are cut from; small print is unreadable below it.
PAGE_PX: Final = 1600
_DETECTION_PX: Final = 960
#: Recognition sees lines 48 px high; this is how many pixels of their width a page may cost.
_WIDTH_BUDGET_PX: Final = 12_000
_LINE_HEIGHT_PX: Final = 48
_LINES_MAX: Final = 200
_CONFIDENT: Final = 0.5
#: Lines tried to find out which way up a page is, and the score below which it is in doubt.
_PROBE_LINES: Final = 4
_UPRIGHT_SCORE: Final = 0.7
_TALL: Final = 1.5


@dataclass(frozen=True, slots=True)
class _Cut:
    """A detected line: its corners on the page (4 points, px, clockwise from top left) and the upright pixels."""

    corners: NDArray[np.float32]
    pixels: Pixels

    @property
    def height(self) -> float:
        return float(np.linalg.norm(self.corners[3] - self.corners[0]))

    @property
    def cost_px(self) -> float:
        return float(_LINE_HEIGHT_PX * self.pixels.shape[1] / max(self.pixels.shape[0], 1))


@cache
def _models() -> tuple[Any, Any]:
    """Return detector and recogniser; about a second, once in a child's life."""
    from rapidocr import RapidOCR

    engine: Any = RapidOCR(
        params={
            "Global.log_level": "critical",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Det.limit_type": "max",
            "Det.limit_side_len": _DETECTION_PX,
            "Rec.rec_batch_num": 1,  # a batch is padded to its longest line, which one core pays for
        }
    )
    return engine._load_det_model(), engine._load_rec_model()


def read_lines(page: Pixels) -> tuple[Line, ...]:
    """Return the lines of a page (RGB, uint8) from the top down; boxes are those of the page turned upright."""
    image = np.ascontiguousarray(page[:, :, ::-1])  # the models were trained on BGR
    cuts = _detect(image)
    if not cuts:
        return ()
    turns = _quarter_turns(cuts)
    if turns:
        image = np.ascontiguousarray(np.rot90(image, turns))
        cuts = _detect(image)
    chosen = _within_budget(cuts)
    texts, scores = _recognise([cuts[index].pixels for index in chosen])
    height_px, width_px = image.shape[:2]
    return tuple(
        _line(text, cuts[index], width_px, height_px)
        for index, text, score in zip(chosen, texts, scores, strict=True)
        if text.strip() and score >= _CONFIDENT
    )


def _detect(image: Pixels) -> list[_Cut]:
    from rapidocr.utils.process_img import get_rotate_crop_image

    detector, _ = _models()
    found = detector(image)
    if found.boxes is None:
        return []
    return [
        _Cut(corners, get_rotate_crop_image(image, corners.copy()))
        for corners in np.asarray(found.boxes, np.float32)[:_LINES_MAX]
    ]


def _recognise(pixels: list[Pixels]) -> tuple[list[str], list[float]]:
    from rapidocr.ch_ppocr_rec.typings import TextRecInput

    if not pixels:
        return [], []
    _, recogniser = _models()
    found = recogniser(TextRecInput(img=pixels))
    return [str(text) for text in found.txts], [float(score) for score in found.scores]


def _quarter_turns(cuts: list[_Cut]) -> int:
    """Return how often to turn the page counter-clockwise (numpy.rot90) until its text stands upright."""
    probes = sorted(cuts, key=lambda cut: -cut.pixels.size)[:_PROBE_LINES]
    tall = sum(float(np.ptp(cut.corners[:, 1])) > _TALL * float(np.ptp(cut.corners[:, 0])) for cut in cuts)
    # a tall box was cut turned by one quarter counter-clockwise already
    base = 1 if tall > len(cuts) / 2 else 0
    upright = _score(probes, 0)
    if upright >= _UPRIGHT_SCORE:
        return base
    return base + 2 if _score(probes, 2) > upright + 0.1 else base


def _score(cuts: list[_Cut], turns: int) -> float:
    _, scores = _recognise([np.ascontiguousarray(np.rot90(cut.pixels, turns)) for cut in cuts])
    return sum(scores) / len(scores)


def _within_budget(cuts: list[_Cut]) -> list[int]:
    """Return which lines to recognise, in reading order: the largest type first while the budget lasts."""
    if sum(cut.cost_px for cut in cuts) <= _WIDTH_BUDGET_PX:
        return list(range(len(cuts)))
    body = float(np.median([cut.height for cut in cuts]))
    by_worth = sorted(range(len(cuts)), key=lambda index: (cuts[index].height <= 1.3 * body, index))
    chosen, spent = [], 0.0
    for index in by_worth:
        spent += cuts[index].cost_px
        if spent > _WIDTH_BUDGET_PX:
            break
        chosen.append(index)
    return sorted(chosen)


def _line(text: str, cut: _Cut, width_px: int, height_px: int) -> Line:
    left, top = (max(float(value), 0.0) for value in cut.corners.min(axis=0))
    right, bottom = (float(value) for value in cut.corners.max(axis=0))
    return Line(
        text=text.strip(),
        box=Box(
            left=min(left / width_px, 1.0),
            top=min(top / height_px, 1.0),
            right=min(right / width_px, 1.0),
            bottom=min(bottom / height_px, 1.0),
        ),
        size=min(cut.height / height_px, 1.0),
    )
