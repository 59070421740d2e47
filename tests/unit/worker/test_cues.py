"""core/cues: which phrases stand on a page, glued by OCR or not, and how loudly."""

import numpy as np
import pytest

from classifier_worker.core.cues import CueIndex, Entry, name_evidence, page_text, squash
from classifier_worker.core.page import Box, Line

ENTRIES = [
    Entry("invoice", ("tax invoice", "bill"), ("invoice number", "amount due")),
    Entry("letter", (), ("dear sir", "yours sincerely")),
    Entry("bank statement", (), ("closing balance", "amount due")),
]


def line(text: str, *, size: float = 0.012, top: float = 0.5, is_bold: bool = False) -> Line:
    return Line(text, Box(0.1, top, 0.9, top + size), size, is_bold)


def evidence(*lines: Line) -> dict[str, float]:
    index = CueIndex(ENTRIES)
    found = index.evidence(index.match(page_text(lines)))
    return dict(zip((entry.name for entry in index.entries), found.tolist(), strict=True))


def test_phrases_count_for_their_entries() -> None:
    found = evidence(line("Invoice number 2024-117"), line("to be paid soon"))
    assert found["invoice"] > 0
    assert found["letter"] == found["bank statement"] == 0


@pytest.mark.parametrize("text", ["INVOICENUMBER 7", "invoice-number: 7", "Invoice  Number"])
def test_case_spaces_and_punctuation_do_not_matter(text: str) -> None:
    assert evidence(line(text))["invoice"] > 0


def test_a_short_word_must_stand_alone() -> None:
    assert evidence(line("billiards"))["invoice"] == 0
    assert evidence(line("the bill is enclosed"))["invoice"] > 0


def test_a_phrase_may_run_over_the_end_of_a_line() -> None:
    assert evidence(line("yours"), line("sincerely"))["letter"] > 0


def test_large_bold_and_high_lines_are_louder() -> None:
    plain = evidence(line("closing balance"), line("x"), line("y"))["bank statement"]
    for loud in ({"size": 0.03}, {"top": 0.05}, {"is_bold": True}):
        assert evidence(line("closing balance", **loud), line("x"), line("y"))["bank statement"] > plain  # type: ignore[arg-type]


def test_a_phrase_of_two_entries_is_worth_less_than_one_of_its_own() -> None:
    assert evidence(line("closing balance"))["bank statement"] > evidence(line("amount due"))["bank statement"] > 0


def test_rarity_on_other_pages_weighs_phrases() -> None:
    index = CueIndex(ENTRIES)
    page = index.match(page_text([line("dear sir")]))
    common = np.full(len(index.phrases), 0.1, dtype=np.float32)
    assert index.evidence(page, common).max() < index.evidence(page).max()


def test_the_callers_own_names_are_looked_for_whole_and_in_part() -> None:
    page = page_text([line("Delivery note no. 5")])
    whole, part, none = name_evidence(page, ["delivery note", "delivery schedule", "passport"])
    assert whole > part > none == 0


def test_words_that_any_document_has_say_nothing() -> None:
    page = page_text([line("a form of the document")])
    assert name_evidence(page, ["passport form"])[0] == 0


def headings(*texts: str, entries: list[Entry] = ENTRIES) -> dict[str, float]:
    index = CueIndex(entries)
    found = index.heading_evidence(index.match(page_text([line(text) for text in texts])))
    return dict(zip((entry.name for entry in index.entries), found.tolist(), strict=True))


def test_a_name_on_a_line_of_its_own_is_a_heading() -> None:
    assert headings("Invoice")["invoice"] > headings("Invoice no. 7")["invoice"] > 0
    assert headings("we thank you for having paid our last invoice so soon")["invoice"] == 0
    assert headings("Invoice")["letter"] == 0


def test_a_cue_is_no_heading() -> None:
    assert not any(headings("Closing balance", "Dear Sir").values())


def test_a_kind_speaks_for_what_it_is_a_kind_of_but_less() -> None:
    entries = [*ENTRIES, Entry("proforma invoice", (), ("for customs purposes only",), kind_of=("invoice",))]
    index = CueIndex(entries)
    found = index.evidence(index.match(page_text([line("For customs purposes only")])))
    assert found[3] > found[0] > 0 == found[1] == found[2]
    heading = headings("Proforma invoice 7", entries=[Entry("invoice"), *entries[3:]])
    assert heading["proforma invoice"] > heading["invoice"] > 0


def test_words_with_vowel_signs_stay_whole() -> None:
    assert squash("चालान संख्या") != squash("चलन सख्य")


def test_a_page_without_lines_has_no_evidence() -> None:
    index = CueIndex(ENTRIES)
    nothing = index.match(page_text([]))
    assert not index.evidence(nothing).any()
    assert not index.heading_evidence(nothing).any()
    assert not name_evidence(page_text([]), ["invoice"]).any()


def test_letters_and_digits_alone_remain() -> None:
    assert squash("W-2 Form (2023)") == "w2form2023"


def test_telling_lines_are_those_with_the_loudest_phrases_of_the_category() -> None:
    index = CueIndex(ENTRIES)
    lines = [line("closing balance"), line("Invoice number 7", size=0.03), line("amount due"), line("dear sir")]
    kin = np.array([entry.name == "invoice" for entry in index.entries], dtype=np.float32)
    told = index.telling_lines(page_text(lines), kin, None, most=2)
    assert [one.text for one in told] == ["Invoice number 7", "amount due"]
    assert index.telling_lines(page_text(lines), kin, None, most=1) == told[:1]
    assert index.telling_lines(page_text([line("nothing")]), kin, None, most=9) == []
