"""Document bytes in, pages out: which format it is, and what happens when a page or all of them fail.

The formats themselves are in `pdf.py` and `picture.py`. A format is told by content, never by name.
"""

from collections.abc import Callable
from typing import BinaryIO, Final, Protocol

from classifier_worker.core.page import Page, UnreadPage
from classifier_worker.reader.wire import ReadRequest
from schemas.errors import DocfleetError, ErrorCode

#: PDFium too looks for the header in this many bytes (a byte order mark or mail headers may come first).
PDF_HEADER_BYTES: Final = 1024

_PICTURES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
)


class PageFault(Exception):
    """One page cannot be read; the message is a sentence for the client."""


class OpenDocument(Protocol):
    """A document that was opened: how many pages it has, and each of them on demand."""

    total_pages: int
    is_image: bool

    def page(self, number: int) -> Page:
        """Read page `number` (1 for the first); `PageFault` with a sentence when that fails."""
        ...

    def close(self) -> None:
        """Give up what is held."""
        ...


def format_of(start: bytes) -> str | None:
    """Return PDF or Pillow's name of the picture format that these first bytes promise, or None."""
    for magic, name in _PICTURES:
        if start.startswith(magic):
            return name
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    return "PDF" if b"%PDF-" in start[:PDF_HEADER_BYTES] else None


def open_document(file: BinaryIO, size_bytes: int, request: ReadRequest) -> OpenDocument:
    """Open a seekable file by its content; `DocfleetError` says why it cannot be opened."""
    # Imported here: a child that only sees PDFs needs no picture decoders, and the other way round.
    if size_bytes == 0:
        raise DocfleetError(ErrorCode.EMPTY_FILE)
    file.seek(0)
    name = format_of(file.read(PDF_HEADER_BYTES + 8))
    file.seek(0)
    if name is None:
        raise DocfleetError(ErrorCode.UNSUPPORTED_FORMAT)
    if name == "PDF":
        from classifier_worker.reader.pdf import OpenPdf

        return OpenPdf(file, size_bytes, request)
    from classifier_worker.reader.picture import OpenPicture

    return OpenPicture(file, name, request)


def read_pages(document: OpenDocument, max_pages: int, on_page: Callable[[Page | UnreadPage], None]) -> None:
    """Hand each of the first pages to `on_page`; `DocfleetError` when none of them could be read."""
    faults: list[UnreadPage] = []
    pages = min(max_pages, document.total_pages)
    out_of_memory = 0
    for number in range(1, pages + 1):
        try:
            page: Page | UnreadPage = document.page(number)
        except MemoryError:
            out_of_memory += 1
            page = UnreadPage(number=number, error="The page needs more memory than a reader may use.")
        except PageFault as fault:
            page = UnreadPage(number=number, error=str(fault))
        if isinstance(page, UnreadPage):
            faults.append(page)
        on_page(page)
    if len(faults) < pages:
        return
    if out_of_memory == pages:
        raise DocfleetError(
            ErrorCode.DOCUMENT_TOO_COMPLEX, "Each page of the document needs more memory than a reader may use."
        )
    raise DocfleetError(
        ErrorCode.UNREADABLE_DOCUMENT, f"None of the first {pages} pages could be read; page 1: {faults[0].error}"
    )
