"""What a reader child hands to its worker: the pages of a document as text, structure and pixels.

Plain data between the wall of the reader and the wall of the models. Boxes are fractions of the
page, 0..1, origin top left, so that nothing downstream depends on points, dpi or pixels.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle on the page: fractions of its width and height, origin top left."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text as it stands on the page.

    `size` is the height of the type as a fraction of the page height.
    """

    text: str
    box: Box
    size: float
    is_bold: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A ruled or aligned table: its place and its number of rows and columns."""

    box: Box
    rows: int
    columns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """What pdfplumber found drawn on the page besides the text; each tuple is bounded in length."""

    rules: tuple[Box, ...] = ()  #: thin horizontal or vertical lines
    rects: tuple[Box, ...] = ()  #: drawn rectangles, such as form boxes and cells
    images: tuple[Box, ...] = ()  #: embedded pictures
    tables: tuple[Table, ...] = ()
    fonts: tuple[str, ...] = ()  #: distinct font names


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page that could be read.

    `image` is RGB, uint8, shape (height_px, width_px, 3), its long side at most the size asked for.
    `structure` is None where pdfplumber was not asked, failed, or ran over its time (scans have an empty one).
    `legibility` is how sure OCR was of the lines it looked at (mean, 0..1): low for handwriting, 1 for a text layer.
    `ocr_seconds` is what OCR took, whether or not its text was taken.
    """

    number: int  #: 1 for the first
    width_points: float
    height_points: float
    text: str
    text_source: Literal["layer", "ocr", "none"]
    lines: tuple[Line, ...]
    structure: Structure | None
    image: NDArray[np.uint8]
    legibility: float = 1.0
    ocr_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadPage:
    """One page that could not be read, and a sentence that says why."""

    number: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingTimes:
    """Where the time of reading a document went, in seconds; fetching its bytes and handing its pages on excluded."""

    reader_wait: float = 0.0  #: until a reader was free
    read: float = 0.0  #: without OCR
    ocr: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The pages read (the first few, unread ones included) of `total_pages` in the document."""

    total_pages: int
    is_image: bool  #: a single picture, whose result has no `page_results`
    pages: tuple[Page | UnreadPage, ...]
    times: ReadingTimes = ReadingTimes()
