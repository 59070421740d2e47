"""A PDF through PDFium: text lines with boxes and type, and the picture of a page at a pixel size.

Rendering aims at a number of pixels, never at a dpi: a page may be 2^31 points high. PDFium is not
thread-safe and this process has one thread. Structure comes from `structure.py`, text of scanned
pages from `ocr.py`, whose models are loaded when a page first needs them.
"""

import ctypes
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as raw
from numpy.typing import NDArray

from classifier_worker.core.page import Box, Line, Page, Structure
from classifier_worker.reader import ink, ocr
from classifier_worker.reader.pages import PageFault
from classifier_worker.reader.wire import LINES_MAX, TEXT_CHARS_MAX, ReadRequest
from schemas.errors import DocfleetError, ErrorCode

#: FPDF_GetLastError
_ERROR_FORMAT: Final = 3
_ERROR_PASSWORD: Final = 4
_ERROR_SECURITY: Final = 5
_RENDER_FLAGS: Final = raw.FPDF_ANNOT | raw.FPDF_REVERSE_BYTE_ORDER | raw.FPDF_RENDER_LIMITEDIMAGECACHE
_BOLD_WEIGHT: Final = 600
_BOLD_WORDS: Final = ("bold", "black", "heavy")
_FONT_NAME_BYTES: Final = 128
#: Letters turned into outlines: fewer paths than this are rules and boxes.
_PATHS_OF_DRAWN_TEXT: Final = 30
#: A picture over this share of a page is a scan of it.
_SCAN_SHARE: Final = 0.6
#: Letters whose direction tells which way up a page is, and the share of them that must agree.
_LETTERS_ASKED: Final = 24
_ONE_WAY_SHARE: Final = 0.7
_SPACE: Final = 0x20
#: Beyond this many drawn objects a page is certainly not empty; counting on would cost time.
_OBJECTS_LOOKED_AT: Final = 400


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the visible page lies in PDF user space (points, origin bottom left) and how it is turned."""

    left: float
    bottom: float
    right: float
    top: float
    quarter_turns: int  #: clockwise, as /Rotate

    def box(self, left: float, bottom: float, right: float, top: float) -> Box | None:
        """Return a rectangle of user space as a fraction of the page as it is shown; None when it lies outside."""
        width, height = self.right - self.left, self.top - self.bottom
        u0, u1 = (left - self.left) / width, (right - self.left) / width
        v0, v1 = (self.top - top) / height, (self.top - bottom) / height
        for _ in range(self.quarter_turns):
            u0, v0, u1, v1 = 1 - v1, u0, 1 - v0, u1
        if not (u0 < 1 and v0 < 1 and u1 > 0 and v1 > 0):
            return None
        return Box(u0 if u0 > 0 else 0.0, v0 if v0 > 0 else 0.0, u1 if u1 < 1 else 1.0, v1 if v1 < 1 else 1.0)

    def height_of(self, left: float, bottom: float, right: float, top: float) -> float:
        """Return the height of a rectangle of user space as it is shown, as a fraction of the page, 0..1."""
        if self.quarter_turns % 2:
            return min(max((right - left) / (self.right - self.left), 0.0), 1.0)
        return min(max((top - bottom) / (self.top - self.bottom), 0.0), 1.0)


class OpenPdf:
    """A PDF that PDFium could open, if need be after it rebuilt the cross-reference table."""

    is_image = False

    def __init__(self, file: BinaryIO, size_bytes: int, request: ReadRequest) -> None:
        self._request = request
        is_whole = bool(getattr(file, "is_whole", False))
        # From memory PDFium reads without a call back into Python for each 512 bytes.
        handle, self._held = _from_memory(file.read(size_bytes)) if is_whole else _from_file(file)
        if not handle:
            error_code = raw.FPDF_GetLastError()  # means something only after a failure
            if is_whole and error_code == _ERROR_FORMAT and _has_empty_page_tree(file):
                raise DocfleetError(ErrorCode.NO_PAGES)
            raise _open_error(error_code)
        self._document = pdfium.PdfDocument(handle)
        self.total_pages = len(self._document)
        if not self.total_pages:
            raise DocfleetError(ErrorCode.NO_PAGES)

    def page(self, number: int) -> Page:
        """Read page `number`: text, picture, and structure or OCR where the request and the page ask for it."""
        try:
            page = self._document[number - 1]
        except pdfium.PdfiumError as error:
            if self.total_pages == 1:
                # PDFium counts one page in a page tree without any
                raise DocfleetError(ErrorCode.NO_PAGES, "The PDF has no pages: none could be found in it.") from error
            raise PageFault("The page could not be loaded: its description in the PDF is damaged.") from error
        try:
            return self._read(page, number)
        finally:
            page.close()

    def close(self) -> None:
        """Let PDFium forget the document."""
        self._document.close()

    def _read(self, page: Any, number: int) -> Page:  # noqa: ANN401 - pypdfium2 is untyped
        width_points, height_points = page.get_size()
        if not (width_points > 0 and height_points > 0):
            raise PageFault(f"The page is {width_points:g} x {height_points:g} points large, so nothing is on it.")
        lines, fonts, text_turns = text_lines(page, geometry_of(page))
        if text_turns is not None and text_turns != geometry_of(page).quarter_turns:
            page.set_rotation(text_turns * 90)
            lines, fonts, _ = text_lines(page, geometry_of(page))
        text = "\n".join(line.text for line in lines)[:TEXT_CHARS_MAX]
        image = render(page, self._request.image_px)
        source: Any = "layer" if text else "none"
        legibility, ocr_seconds = 1.0, 0.0
        if self._request.ocr and _is_worth_ocr(page, text) and not ink.is_blank(image):
            seen = ocr.read_page(render(page, ocr.page_px(*page.get_size())), share=ocr.share_of(number))
            ocr_seconds = seen.seconds
            seen_text = "\n".join(line.text for line in seen.lines)
            if ink.letters(seen_text) > ink.letters(text) or ink.is_garbage(text):
                lines, text, source = list(seen.lines), seen_text, "ocr" if seen.lines else "none"
                page.set_rotation((page.get_rotation() - 90 * seen.quarter_turns) % 360)
                image = np.ascontiguousarray(np.rot90(image, seen.quarter_turns))
                legibility = seen.legibility
        structure: Structure | None = None
        if number <= self._request.structure_pages:
            from classifier_worker.reader import structure as drawn

            structure = drawn.structure_of(self._document, number, fonts)
        width_points, height_points = page.get_size()  # as it stands upright
        return Page(
            number=number,
            width_points=width_points,
            height_points=height_points,
            text=text,
            text_source=source,
            lines=tuple(lines),
            structure=structure,
            image=image,
            legibility=legibility,
            ocr_seconds=ocr_seconds,
        )


def _from_memory(data: bytes) -> tuple[Any, object]:
    """Return PDFium's handle of a document in memory, null when it cannot be opened, and what must outlive it."""
    return raw.FPDF_LoadMemDocument64(data, len(data), None), data


def _from_file(file: BinaryIO) -> tuple[Any, object]:
    """Return PDFium's handle of a document read through `file`, null when that fails, and what must outlive it."""
    access, callbacks = pdfium.internal.get_bufreader(file)
    return raw.FPDF_LoadCustomDocument(access, None), (access, callbacks, file)


def _open_error(error_code: int) -> DocfleetError:
    if error_code == _ERROR_PASSWORD:
        return DocfleetError(ErrorCode.PASSWORD_REQUIRED)
    if error_code == _ERROR_SECURITY:
        return DocfleetError(
            ErrorCode.UNREADABLE_DOCUMENT, "The PDF is encrypted by a method that is not supported (not a password)."
        )
    return DocfleetError(
        ErrorCode.UNREADABLE_DOCUMENT, "The PDF could not be opened: its structure is damaged beyond repair."
    )


def _has_empty_page_tree(file: BinaryIO) -> bool:
    """Whether a PDF that PDFium calls damaged is a sound one without pages."""
    from classifier_worker.reader import structure

    file.seek(0)
    return structure.has_empty_page_tree(file)


def geometry_of(page: Any) -> Geometry:  # noqa: ANN401
    """Return the visible box of a loaded page and its rotation."""
    left, bottom, right, top = page.get_bbox()
    return Geometry(left, bottom, right, top, page.get_rotation() // 90)


def render(page: Any, long_side_px: int) -> NDArray[np.uint8]:  # noqa: ANN401
    """Return the page as RGB, uint8, (height, width, 3), the long side `long_side_px`, both sides at least 1."""
    width_points, height_points = page.get_size()
    scale = long_side_px / max(width_points, height_points)
    width_px = min(max(round(width_points * scale), 1), long_side_px)
    height_px = min(max(round(height_points * scale), 1), long_side_px)
    pixels = np.full((height_px, width_px, 3), 255, np.uint8)
    bitmap = raw.FPDFBitmap_CreateEx(
        width_px, height_px, raw.FPDFBitmap_BGR, pixels.ctypes.data_as(ctypes.c_void_p), width_px * 3
    )
    if not bitmap:
        raise MemoryError
    try:
        raw.FPDF_RenderPageBitmap(bitmap, page, 0, 0, width_px, height_px, 0, _RENDER_FLAGS)
    finally:
        raw.FPDFBitmap_Destroy(bitmap)
    return pixels


def text_lines(page: Any, geometry: Geometry) -> tuple[list[Line], tuple[str, ...], int | None]:  # noqa: ANN401
    """Return the lines of the text layer that lie on the visible page, in PDFium's order, and the font names.

    Third come the quarter turns, as /Rotate counts them, that show the text upright; None when it has no one way.
    Cut at LINES_MAX lines and TEXT_CHARS_MAX characters. Box and size of a line come from its first and
    last letter: a call into PDFium for each letter would cost more than all the rest.
    """
    try:
        textpage = page.get_textpage()
    except pdfium.PdfiumError:
        return [], (), None
    try:
        return _text_lines(textpage, geometry)
    finally:
        textpage.close()


def _text_lines(textpage: Any, geometry: Geometry) -> tuple[list[Line], tuple[str, ...], int | None]:  # noqa: ANN401
    # This loop runs for each line of each page, so it calls PDFium as little as it can and on the bare handle.
    handle, rect, type_of = textpage.raw, raw.FS_RECTF(), _Typefaces()
    chars = raw.FPDFText_CountChars(handle)
    count = min(chars, TEXT_CHARS_MAX)
    text = textpage.get_text_range(0, count) if count > 0 else ""
    is_one_to_one = len(text) == chars  # else letters without a Unicode value shift the positions
    lines: list[Line] = []
    for start, line_text in _split(text):
        first, last = start, start + len(line_text) - 1
        if not is_one_to_one:
            first = raw.FPDFText_GetCharIndexFromTextIndex(handle, first)
            last = raw.FPDFText_GetCharIndexFromTextIndex(handle, last)
        if first < 0 or not raw.FPDFText_GetLooseCharBox(handle, first, rect):
            continue
        glyph = left, bottom, right, top = rect.left, rect.bottom, rect.right, rect.top
        if last > first and raw.FPDFText_GetLooseCharBox(handle, last, rect):
            left, bottom = min(left, rect.left), min(bottom, rect.bottom)
            right, top = max(right, rect.right), max(top, rect.top)
        box = geometry.box(left, bottom, right, top)
        if box is not None:
            is_bold = type_of.is_bold(handle, first)
            lines.append(Line(text=line_text, box=box, size=geometry.height_of(*glyph), is_bold=is_bold))
            if len(lines) == LINES_MAX:
                break
    return lines, type_of.names(), _turns_of(handle, chars)


def _turns_of(textpage: Any, chars: int) -> int | None:  # noqa: ANN401
    """Return the quarter turns clockwise that set most letters upright, by a sample of them."""
    turns: list[int] = []
    for char in range(0, chars, chars // _LETTERS_ASKED + 1):
        angle = raw.FPDFText_GetCharAngle(textpage, char)  # radians
        if angle >= 0 and raw.FPDFText_GetUnicode(textpage, char) > _SPACE:
            turns.append(-round(angle / (math.pi / 2)) % 4)
    likeliest = max(set(turns), key=turns.count, default=0)
    return likeliest if turns.count(likeliest) > _ONE_WAY_SHARE * len(turns) else None


class _Typefaces:
    """The fonts of a page; each is asked for its name and weight once."""

    def __init__(self) -> None:
        self._is_bold: dict[int, bool] = {}
        self._names: dict[str, None] = {}

    def names(self) -> tuple[str, ...]:
        """Return the font names met, without the tag of a subset."""
        return tuple(self._names)

    def is_bold(self, textpage: Any, char: int) -> bool:  # noqa: ANN401
        """Whether this letter is set in a bold face."""
        text_object = raw.FPDFText_GetTextObject(textpage, char)
        font = raw.FPDFTextObj_GetFont(text_object) if text_object else None
        if not font:
            return False
        address = ctypes.addressof(font.contents)
        known = self._is_bold.get(address)
        if known is None:
            known = self._is_bold[address] = self._ask(font)
        return known

    def _ask(self, font: Any) -> bool:  # noqa: ANN401
        buffer = ctypes.create_string_buffer(_FONT_NAME_BYTES)
        written = raw.FPDFFont_GetBaseFontName(font, buffer, _FONT_NAME_BYTES)
        name = buffer.raw[: max(min(written, _FONT_NAME_BYTES) - 1, 0)].decode("utf-8", "replace")
        name = name.partition("+")[2] or name
        if name:
            self._names[name] = None
        lowered = name.lower()
        return any(word in lowered for word in _BOLD_WORDS) or raw.FPDFFont_GetWeight(font) >= _BOLD_WEIGHT


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Yield the position and the text of each line that has more than white space in it."""
    position = 0
    for line in text.split("\n"):
        bare = line.strip()
        if bare:
            # NUL and lone surrogates come from broken font maps; neither survives JSON and a database
            clean = bare.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
            yield position + line.index(bare[0]), clean or "?"
        position += len(line) + 1


def _is_worth_ocr(page: Any, text: str) -> bool:  # noqa: ANN401
    """Whether the page is likely to show more text than its layer tells."""
    if ink.is_thin(text):
        return _may_show_text(page)
    return ink.is_stamp(text) and _is_scan(page)


def _is_scan(page: Any) -> bool:  # noqa: ANN401
    """Whether one picture covers most of the page."""
    left, bottom, right, top = page.get_bbox()
    sides = [ctypes.c_float() for _ in range(4)]
    for index in range(min(raw.FPDFPage_CountObjects(page), _OBJECTS_LOOKED_AT)):
        item = raw.FPDFPage_GetObject(page, index)
        if raw.FPDFPageObj_GetType(item) != raw.FPDF_PAGEOBJ_IMAGE or not raw.FPDFPageObj_GetBounds(item, *sides):
            continue
        x0, y0, x1, y1 = (side.value for side in sides)
        width, height = min(x1, right) - max(x0, left), min(y1, top) - max(y0, bottom)
        if width > 0 and height > 0 and width * height > _SCAN_SHARE * (right - left) * (top - bottom):
            return True
    return False


def _may_show_text(page: Any) -> bool:  # noqa: ANN401
    """Whether something on the page could be text that is not in its text layer: a picture, or many drawn paths."""
    count = raw.FPDFPage_CountObjects(page)
    paths = 0
    for index in range(min(count, _OBJECTS_LOOKED_AT)):
        kind = raw.FPDFPageObj_GetType(raw.FPDFPage_GetObject(page, index))
        if kind in (raw.FPDF_PAGEOBJ_IMAGE, raw.FPDF_PAGEOBJ_FORM, raw.FPDF_PAGEOBJ_SHADING):
            return True
        paths += kind == raw.FPDF_PAGEOBJ_PATH
    return paths >= _PATHS_OF_DRAWN_TEXT or raw.FPDFPage_GetAnnotCount(page) > 0
