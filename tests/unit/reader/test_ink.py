"""When a page is worth an OCR run."""

import numpy as np
import pytest

from classifier_worker.reader import ink


@pytest.mark.parametrize(
    ("text", "is_thin"),
    [
        ("", True),
        ("Page 1 of 3", True),
        ("-" * 500, True),
        ("The quick brown fox jumps over the lazy dog and on.", False),
        ("契約書 " * 20, False),
        ("\ue001\ue002\ue003 " * 50, True),
        ("\x01\x02\x03abc" * 50, True),
        ("\ufffd" * 30 + "a" * 50, True),
        ("Opnbddchmfr ne sgd rrnbhzshnm enp cnbtldms bkzrrhehbzshnm " * 3, True),  # each letter stands for the next
        ("C3 104 VCC TXD RXD GND 3V3 SW1 LED2 10k 100n MOSI SCLK RST " * 4, False),
        ("Zażółć gęślą jaźń, naïve façade – “quoted” €5 " * 3, False),
    ],
)
def test_text_layer_is_thin_when_it_is_short_or_garbage(text: str, is_thin: bool) -> None:
    assert ink.is_thin(text) is is_thin


def test_page_with_a_line_of_text_is_not_blank_whatever_its_paper() -> None:
    for paper, writing in ((255, 0), (0, 255), (200, 120)):
        page = np.full((512, 362, 3), paper, np.uint8)
        assert ink.is_blank(page)
        page[3, 5] = writing  # a speck
        assert ink.is_blank(page)
        page[100:104, 50:150:3] = writing
        assert not ink.is_blank(page)


def test_a_line_or_two_on_a_scan_may_be_a_stamp() -> None:
    assert ink.is_stamp("Case 4:08-cv-02214-SBA Document 26 Filed 01/29/2009 Page 1 of 3")
    assert not ink.is_stamp("The parties agree to the following terms. " * 12)
