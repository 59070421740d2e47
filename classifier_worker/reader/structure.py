"""What pdfplumber finds drawn on a page besides its text: rules, rectangles, pictures and tables.

PDFium copies the one page into a PDF of its own first, without its text. So PDFium has repaired and
decrypted it, pdfminer neither walks thousands of pages nor fetches ranges, and text, nine tenths of
pdfplumber's time, is not parsed again: PDFium gave lines, sizes and fonts already.

A page with more drawing than `WORK_MAX` has no structure. That bound is on the page's content and
not on time, so that a busy machine gives the same answer as an idle one; the CPU timer behind it only
stops what the bound did not foresee (the work is pure Python, so a signal can interrupt it).
"""

import io
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

import pdfplumber
import pypdfium2 as pdfium
import pypdfium2.raw as raw
from pdfminer.pdfdocument import PDFDocument
from pdfminer.pdfinterp import PDFPageInterpreter, PDFResourceManager
from pdfminer.pdfparser import PDFParser
from pdfminer.pdftypes import resolve1
from pdfplumber.page import PDFPageAggregatorWithMarkedContent

from classifier_worker.core.page import Box, Structure, Table
from classifier_worker.reader.wire import BOXES_MAX, FONTS_MAX, TABLES_MAX

#: Tokens of content that pdfminer may have to read, as `_work_of` guesses them; about 150 ms of a core.
WORK_MAX: Final = 20_000
PAGE_CPU_SECONDS: Final = 2.0
_TOKENS_OF_SEGMENT: Final = 3
_TOKENS_OF_OBJECT: Final = 8
_FORMS_DEEP: Final = 5
#: The timer goes off again and again: library code may swallow the first interruption.
_AGAIN_SECONDS: Final = 0.02
#: pdfplumber's table finder compares edges with each other; drawings have thousands.
_TABLE_EDGES_MAX: Final = 600
_RULE_THICKNESS: Final = 0.004
_RULE_LENGTH: Final = 0.02


class _TimeUp(BaseException):
    """The CPU time of a page is spent; not an Exception, so that `except Exception` does not stop it."""


class _TooMuch(Exception):
    """There is more drawing on the page than is worth reading."""


class _DrawingsOnly(PDFPageAggregatorWithMarkedContent):
    """Collects paths and pictures and lets the text pass by."""

    def render_string(self, *_args: object, **_kwargs: object) -> None:
        """Ignore a shown string."""


class _NoFonts(PDFResourceManager):
    """Loads no font: parsing one costs more than the drawings of most pages."""

    def get_font(self, *_args: object, **_kwargs: object) -> Any:
        """Return nothing, which only `render_string` would have used."""


def structure_of(document: Any, number: int, fonts: tuple[str, ...]) -> Structure | None:  # noqa: ANN401 - untyped
    """Return what is drawn on page `number` of an open PDFium document; None when it failed or took too long."""
    try:
        with _cpu_limit(PAGE_CPU_SECONDS):
            return _structure_of(_drawings_of(document, number), fonts)
    except _TimeUp:
        return None
    except MemoryError:
        return None
    except Exception:
        # _TooMuch, or pdfminer met something it cannot read: whatever it raises means the same here
        return None


def has_empty_page_tree(pdf_file: BinaryIO) -> bool:
    """Whether pdfminer finds a catalog and a page tree in a PDF, and no page in it."""
    try:
        with _cpu_limit(PAGE_CPU_SECONDS):
            tree = resolve1(PDFDocument(PDFParser(pdf_file), fallback=False).catalog["Pages"])
            return not resolve1(tree["Count"]) and not resolve1(tree.get("Kids", []))
    except _TimeUp:
        return False
    except Exception:
        return False  # then it is damaged


def _drawings_of(document: Any, number: int) -> io.BytesIO:  # noqa: ANN401
    """Return a PDF of page `number` alone, without the text that is directly on it; `_TooMuch` stops it."""
    alone = pdfium.PdfDocument.new()
    try:
        alone.import_pages(document, [number - 1])
        page = alone[0]
        items = [raw.FPDFPage_GetObject(page, index) for index in range(raw.FPDFPage_CountObjects(page))]
        texts = [item for item in items if raw.FPDFPageObj_GetType(item) == raw.FPDF_PAGEOBJ_TEXT]
        _work_of(iter(items), 0, is_text_gone=True)
        for item in texts:
            raw.FPDFPage_RemoveObject(page, item)
            raw.FPDFPageObj_Destroy(item)
        if texts:
            raw.FPDFPage_GenerateContent(page)
        page.close()
        buffer = io.BytesIO()
        alone.save(buffer)
        return buffer
    finally:
        alone.close()


def _work_of(items: Iterator[Any], depth: int, *, is_text_gone: bool = False) -> int:
    """Return about how many tokens draw these objects, forms within them included; `_TooMuch` beyond WORK_MAX."""
    work = 0
    for item in items:
        kind = raw.FPDFPageObj_GetType(item)
        if kind == raw.FPDF_PAGEOBJ_TEXT and is_text_gone:
            continue
        work += _TOKENS_OF_OBJECT
        if kind == raw.FPDF_PAGEOBJ_PATH:
            work += _TOKENS_OF_SEGMENT * raw.FPDFPath_CountSegments(item)
        elif kind == raw.FPDF_PAGEOBJ_FORM and depth < _FORMS_DEEP:
            inner = (raw.FPDFFormObj_GetObject(item, index) for index in range(raw.FPDFFormObj_CountObjects(item)))
            work += _work_of(inner, depth + 1)
        if work > WORK_MAX:
            raise _TooMuch
    return work


def _structure_of(pdf_file: io.BytesIO, fonts: tuple[str, ...]) -> Structure:
    with pdfplumber.open(pdf_file) as pdf:
        page = pdf.pages[0]
        pdf.rsrcmgr = _NoFonts()
        device = _DrawingsOnly(pdf.rsrcmgr, pageno=page.page_number, laparams=None)
        PDFPageInterpreter(pdf.rsrcmgr, device).process_page(page.page_obj)
        page._layout = device.get_result()  # what Page.layout caches
        lines, rects, images = page.lines, page.rects, page.images
        boxes = [box for item in rects if (box := _box(item, page)) is not None]
        return Structure(
            rules=tuple(
                [box for item in lines if (box := _box(item, page)) is not None and _is_rule(box)]
                + [box for box in boxes if _is_rule(box)]
            )[:BOXES_MAX],
            rects=tuple(box for box in boxes if not _is_rule(box))[:BOXES_MAX],
            images=tuple(box for item in images if (box := _box(item, page)) is not None)[:BOXES_MAX],
            tables=_tables(page),
            fonts=tuple(name[:200] for name in fonts)[:FONTS_MAX],
        )


def _tables(page: Any) -> tuple[Table, ...]:  # noqa: ANN401
    if not 4 <= len(page.edges) <= _TABLE_EDGES_MAX:
        return ()
    found = []
    for table in page.find_tables()[:TABLES_MAX]:
        left, top, right, bottom = table.bbox
        box = _box({"x0": left, "top": top, "x1": right, "bottom": bottom}, page)
        rows = len({cell[1] for cell in table.cells})
        columns = len({cell[0] for cell in table.cells})
        if box is not None and rows > 1 and columns > 1:
            found.append(Table(box=box, rows=rows, columns=columns))
    return tuple(found)


def _box(item: dict[str, Any], page: Any) -> Box | None:  # noqa: ANN401
    left, top, right, bottom = page.cropbox
    width, height = right - left, bottom - top
    u0, u1 = (item["x0"] - left) / width, (item["x1"] - left) / width
    v0, v1 = (item["top"] - top) / height, (item["bottom"] - top) / height
    if not (u0 <= 1 and v0 <= 1 and u1 >= 0 and v1 >= 0):
        return None
    return Box(left=max(u0, 0.0), top=max(v0, 0.0), right=min(u1, 1.0), bottom=min(v1, 1.0))


def _is_rule(box: Box) -> bool:
    width, height = box.right - box.left, box.bottom - box.top
    return min(width, height) <= _RULE_THICKNESS and max(width, height) >= _RULE_LENGTH


@contextmanager
def _cpu_limit(seconds: float) -> Iterator[None]:
    """Raise `_TimeUp` inside the block when it used this much CPU time of the process."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGVTALRM, interrupt)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, _AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
