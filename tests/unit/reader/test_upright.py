"""Pages that lie on their side, stand on their head or are skewed are read, each by a bounded amount of work."""

import io

import numpy as np
import pytest

from classifier_worker.core.page import Page
from classifier_worker.reader import ocr
from classifier_worker.reader.pages import open_document
from classifier_worker.reader.wire import ReadRequest
from tests import documents

NOTE = "DELIVERY NOTE\nTwelve boxes of paper\nSigned by the driver\nReceived in good order"


def read(data: bytes) -> Page:
    return open_document(io.BytesIO(data), len(data), ReadRequest(structure_pages=0)).page(1)


@pytest.mark.parametrize("turned", [0, 90, 180, 270])
def test_turned_photo_is_shown_and_read_upright(turned: int) -> None:
    picture = documents.page_picture(NOTE, (700, 500)).rotate(turned, expand=True)
    page = read(documents.encoded(picture, "PNG"))
    assert page.width_points > page.height_points
    assert page.image.shape[1] > page.image.shape[0]
    assert "DELIVERY" in page.lines[0].text and "driver" in page.text
    assert np.argwhere(page.image[:, :, 0] < 128)[:, 0].mean() < 0.5 * page.image.shape[0]


@pytest.mark.parametrize("degrees", [-5, 3, 5])
def test_skewed_scan_is_read(degrees: int) -> None:
    picture = documents.page_picture(NOTE, (700, 500)).rotate(degrees, expand=True, fillcolor="white")
    text = read(documents.scanned_pdf(picture)).text
    assert "DELIVERY" in text and "driver" in text


@pytest.mark.parametrize("turned", [0, 90, 180, 270])
def test_turned_text_layer_is_shown_and_read_upright(turned: int) -> None:
    page = read(documents.turned_pdf(turned))
    assert page.text_source == "layer"
    assert page.height_points > page.width_points
    assert page.lines[0].text.startswith("INVOICE") and page.lines[0].box.top < 0.2
    assert page.image.shape[0] > page.image.shape[1]


def test_rotation_entry_that_sets_turned_text_upright_is_left_alone() -> None:
    page = read(documents.turned_pdf(90, rotate=90))
    assert page.height_points > page.width_points and page.lines[0].box.top < 0.2


def test_thin_text_layer_over_a_scan_is_not_believed() -> None:
    page = read(documents.scanned_pdf(documents.page_picture(NOTE, (700, 500)), stamp="Page 1"))
    assert page.text_source == "ocr" and "DELIVERY" in page.text


def test_budget_is_of_content_and_smaller_after_the_first_page() -> None:
    pixels = np.asarray(documents.page_picture("REPORT\n" + "\n".join([documents.LOREM[:75]] * 35)))
    first, again, later = ocr.read_page(pixels), ocr.read_page(pixels), ocr.read_page(pixels, share=ocr.share_of(2))
    assert first == again
    assert first.lines[0].text == later.lines[0].text == "REPORT"
    assert 0 < len(later.lines) < len(first.lines) < 36


def test_long_receipt_keeps_its_type_legible() -> None:
    picture = documents.page_picture(
        "RECEIPT\n" + "\n".join([f"Article number {at}" for at in range(60)]), (1240, 4000)
    )
    text = read(documents.encoded(picture, "PNG")).text
    assert "RECEIPT" in text and "number 5" in text
