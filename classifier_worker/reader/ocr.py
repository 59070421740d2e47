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
_WIDTH_BUDGET_PX: Final = 10_000
_LINE_HEIGHT_PX: Final = 48
#: Lines are squeezed to this share of their width: 0.96 of the letters stay the same, for 0.6 of the time.
_SQUEEZE: Final = 0.7
_LINES_MAX: Final = 200
_CONFIDENT: Final = 0.5
#: Lines tried to find out which way up a page is, and the score below which it is in doubt.
_PROBE_LINES: Final = 4
_UPRIGHT_SCORE: Final = 0.8
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
        """Width in pixels at which recognition sees the line."""
        return float(_SQUEEZE * _LINE_HEIGHT_PX * self.pixels.shape[1] / max(self.pixels.shape[0], 1))


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
            # no padding, which one core pays for: neither to the longest line of a batch nor to a least width
            "Rec.rec_batch_num": 1,
            "Rec.rec_img_shape": [3, _LINE_HEIGHT_PX, _LINE_HEIGHT_PX],
        }
    )
    return engine._load_det_model(), engine._load_rec_model()


def read_lines(page: Pixels) -> tuple[Line, ...]:
    """Return the lines of a page (RGB, uint8) from the top down; boxes are those of the page turned upright."""
    image = np.ascontiguousarray(page[:, :, ::-1])  # the models were trained on BGR
    cuts = _detect(image)
    if not cuts:
        return ()
    if _is_sideways(cuts):
        image = np.ascontiguousarray(np.rot90(image))
        cuts = _detect(image)
    chosen = _within_budget(cuts)
    texts, scores = _recognise([cuts[index].pixels for index in chosen])
    if chosen and sum(scores) / len(scores) < _UPRIGHT_SCORE and _is_upside_down(cuts):
        image = np.ascontiguousarray(np.rot90(image, 2))
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
    import cv2

    _, recogniser = _models()
    lines = []
    for line in pixels:
        width_px = max(round(_SQUEEZE * _LINE_HEIGHT_PX * line.shape[1] / line.shape[0]), 8)
        is_reduced = line.shape[0] > _LINE_HEIGHT_PX
        lines.append(
            cv2.resize(
                line, (width_px, _LINE_HEIGHT_PX), interpolation=cv2.INTER_AREA if is_reduced else cv2.INTER_LINEAR
            )
        )
    found = recogniser(TextRecInput(img=lines))
    return [str(text) for text in found.txts], [float(score) for score in found.scores]


def _is_sideways(cuts: list[_Cut]) -> bool:
    """Whether most lines stand upright on the page: it is turned by one quarter or by three."""
    tall = sum(float(np.ptp(cut.corners[:, 1])) > _TALL * float(np.ptp(cut.corners[:, 0])) for cut in cuts)
    return tall > len(cuts) / 2


def _is_upside_down(cuts: list[_Cut]) -> bool:
    """Whether the largest lines read better when they are turned by half."""
    probes = sorted(cuts, key=lambda cut: -cut.pixels.size)[:_PROBE_LINES]
    _, upright = _recognise([cut.pixels for cut in probes])
    _, turned = _recognise([np.ascontiguousarray(np.rot90(cut.pixels, 2)) for cut in probes])
    return sum(turned) > sum(upright) + 0.1 * len(probes)


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
