"""What pdfplumber finds drawn on a page besides its text: rules, rectangles, pictures and tables.

PDFium copies the one page into a PDF of its own first (about 1 ms): PDFium has repaired and decrypted
it then, and pdfminer neither walks thousands of pages nor fetches ranges. Text is not laid out
again: letters are nine tenths of pdfplumber's time, and PDFium gave the lines, sizes and fonts already.
The work is pure Python, so a CPU timer can interrupt it: a page that exceeds `PAGE_CPU_SECONDS` has no
structure. CPU time, not the clock, so that a busy machine gives the same answer as an idle one.
"""

import io
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

import pdfplumber
import pypdfium2 as pdfium
from pdfminer.pdfdocument import PDFDocument
from pdfminer.pdfinterp import PDFPageInterpreter
from pdfminer.pdfparser import PDFParser
from pdfminer.pdftypes import resolve1
from pdfplumber.page import PDFPageAggregatorWithMarkedContent

from classifier_worker.core.page import Box, Structure, Table
from classifier_worker.reader.wire import BOXES_MAX, FONTS_MAX, TABLES_MAX

PAGE_CPU_SECONDS: Final = 0.4
#: The timer goes off again and again: library code may swallow the first interruption.
_AGAIN_SECONDS: Final = 0.02
#: pdfplumber's table finder compares edges with each other; drawings have thousands.
_TABLE_EDGES_MAX: Final = 600
_RULE_THICKNESS: Final = 0.004
_RULE_LENGTH: Final = 0.02


class _TimeUp(BaseException):
    """The CPU time of a page is spent; not an Exception, so that `except Exception` does not stop it."""


class _DrawingsOnly(PDFPageAggregatorWithMarkedContent):
    """Collects paths and pictures and lets the text pass by."""

    def render_string(self, *_args: object, **_kwargs: object) -> None:
        """Ignore a shown string."""


def structure_of(document: Any, number: int, fonts: tuple[str, ...]) -> Structure | None:  # noqa: ANN401 - untyped
    """Return what is drawn on page `number` of an open PDFium document; None when it failed or took too long."""
    try:
        with _cpu_limit(PAGE_CPU_SECONDS):
            return _structure_of(_single_page(document, number), fonts)
    except _TimeUp:
        return None
    except MemoryError:
        return None
    except Exception:
        # pdfminer meets PDFs that PDFium repaired: whatever it raises means the same here
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


def _single_page(document: Any, number: int) -> io.BytesIO:  # noqa: ANN401
    alone = pdfium.PdfDocument.new()
    try:
        alone.import_pages(document, [number - 1])
        buffer = io.BytesIO()
        alone.save(buffer)
        return buffer
    finally:
        alone.close()


def _structure_of(pdf_file: io.BytesIO, fonts: tuple[str, ...]) -> Structure:
    with pdfplumber.open(pdf_file) as pdf:
        page = pdf.pages[0]
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
