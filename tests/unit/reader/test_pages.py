"""Which format a file's first bytes promise, and what is left of a document when pages fail."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from classifier_worker.core.page import Page, UnreadPage
from classifier_worker.reader.pages import PageFault, format_of, open_document, read_pages
from classifier_worker.reader.wire import ReadRequest
from schemas.errors import DocfleetError, ErrorCode
from tests import documents

PLAIN = ReadRequest(structure_pages=0, ocr=False)


@pytest.mark.parametrize("name", sorted(documents.pictures()))
def test_format_is_told_by_content(name: str) -> None:
    assert format_of(documents.pictures()[name][:32]) == name


def test_pdf_header_may_come_late_but_not_too_late() -> None:
    assert format_of(b"\xef\xbb\xbf%PDF-1.4") == "PDF"
    assert format_of(b" " * 1000 + b"%PDF-1.4") == "PDF"
    assert format_of(b" " * 1100 + b"%PDF-1.4") is None
    assert format_of(b"RIFF\x00\x00\x00\x00WAVE") is None


class Fails:
    """A document whose listed pages fail as told."""

    is_image = False

    def __init__(self, total_pages: int, faults: dict[int, BaseException]) -> None:
        self.total_pages = total_pages
        self._faults = faults

    def page(self, number: int) -> Page:
        if number in self._faults:
            raise self._faults[number]
        picture: Any = np.zeros((1, 1, 3), np.uint8)
        return Page(
            number=number, width_points=1, height_points=1, text="", text_source="none", lines=(), structure=None,
            image=picture,
        )  # fmt: skip

    def close(self) -> None:
        pass


def test_failed_page_is_told_and_the_rest_is_read() -> None:
    pages: list[Page | UnreadPage] = []
    read_pages(Fails(9, {2: PageFault("It is torn."), 3: MemoryError()}), 4, pages.append)
    assert [type(page) for page in pages] == [Page, UnreadPage, UnreadPage, Page]
    assert isinstance(pages[1], UnreadPage) and pages[1].error == "It is torn."


@pytest.mark.parametrize(
    ("fault", "code"),
    [(PageFault("It is torn."), ErrorCode.UNREADABLE_DOCUMENT), (MemoryError(), ErrorCode.DOCUMENT_TOO_COMPLEX)],
)
def test_document_fails_only_when_every_page_does(fault: BaseException, code: ErrorCode) -> None:
    with pytest.raises(DocfleetError) as caught:
        read_pages(Fails(2, {1: fault, 2: fault}), 4, lambda _page: None)
    assert caught.value.code is code


def look(data: bytes) -> Any:
    return open_document(io.BytesIO(data), len(data), PLAIN).page(1).image


#: Red on the left, white on the right, twice as wide as high.
FLAG = Image.new("RGB", (80, 40), "white")
FLAG.paste((200, 30, 30), (0, 0, 40, 40))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_colours_survive_each_mode(mode: str) -> None:
    image = look(documents.encoded(FLAG.convert(mode), "TIFF"))
    assert image.shape == (40, 80, 3)
    assert image[20, 10, 0] > 150 and image[20, 10, 1] < 90
    assert image[20, 70].min() > 240


def test_transparent_paper_is_white() -> None:
    picture = FLAG.convert("RGBA")
    picture.putalpha(Image.new("L", picture.size, 0))
    assert look(documents.encoded(picture, "PNG")).min() == 255


def test_sixteen_bits_keep_their_greys() -> None:
    grey = np.zeros((40, 80), np.uint16)
    grey[:, 40:] = 60_000
    image = look(documents.encoded(Image.fromarray(grey), "PNG"))
    assert image[20, 10].max() < 10 and image[20, 70].min() > 220


def test_photo_is_set_upright_by_its_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned: to be turned clockwise by 90 degrees
    image = look(documents.encoded(FLAG, "JPEG", exif=exif, quality=95))
    assert image.shape == (80, 40, 3)
    assert image[10, 20, 1] < 90 and image[70, 20].min() > 200


def test_small_picture_is_not_enlarged_and_a_huge_one_is_reduced() -> None:
    assert look(documents.encoded(FLAG, "PNG")).shape == (40, 80, 3)
    assert look(documents.encoded(Image.new("1", (9000, 3000), 1), "PNG")).shape == (171, 512, 3)


def test_reason_why_a_pdf_cannot_be_opened_is_its_own_and_not_the_previous_ones() -> None:
    told = []
    for document in (documents.encrypted_pdf(), documents.pdf(pages=0), b"%PDF-1.7\nx", documents.pdf(pages=0)):
        with pytest.raises(DocfleetError) as caught:
            open_document(io.BytesIO(document), len(document), PLAIN)
        told.append(caught.value.code)
    wanted = [ErrorCode.PASSWORD_REQUIRED, ErrorCode.NO_PAGES, ErrorCode.UNREADABLE_DOCUMENT, ErrorCode.NO_PAGES]
    assert told == wanted
