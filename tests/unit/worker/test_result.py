"""core/result: what is told of a document, with and without none_of_these and evidence."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier_worker.core.answer import PageAnswer, PageEvidence, Phrase
from classifier_worker.core.fusion import PageWeights, combine_pages, rank_scores
from classifier_worker.core.page import Box, Document, Page, UnreadPage
from classifier_worker.core.result import Asked, build_result, judge
from schemas.topics import MESSAGE_BYTES_MAX

NAMES = ("invoice", "letter", "form")


def page(number: int) -> Page:
    return Page(
        number=number,
        width_points=595,
        height_points=842,
        text="",
        text_source="none",
        lines=(),
        structure=None,
        image=np.zeros((4, 3, 3), dtype=np.uint8),
    )


def answer(*probabilities: float, none: float = 0.0, evidence: PageEvidence | None = None) -> PageAnswer:
    return PageAnswer(np.array(probabilities), none, evidence)


def result(*answers: PageAnswer | None, asked: Asked | None = None, is_image: bool = False) -> Any:
    """Return the result of a document of 9 pages, or of a picture; None stands for a page that could not be read."""
    pages = tuple(
        UnreadPage(number=number, error="The page is damaged.") if answer is None else page(number)
        for number, answer in enumerate(answers, start=1)
    )
    document = Document(total_pages=1 if is_image else 9, is_image=is_image, pages=pages)
    built = build_result(document, answers, asked or Asked(NAMES), page_weights=PageWeights(), model="m@1")
    return json.loads(json.dumps(built, allow_nan=False))


# --- nothing asked ---


def test_every_page_that_was_tried_is_told() -> None:
    told = result(answer(0.2, 0.8, 0.0), None)
    assert list(told) == [
        *("success", "classification", "confidence", "total_pages", "processed_pages"),
        *("page_results", "scores", "model"),
    ]
    assert (told["classification"], told["confidence"]) == ("letter", 0.8)
    assert (told["total_pages"], told["processed_pages"]) == (9, 2)
    scores = {"letter": 0.8, "invoice": 0.2, "form": 0.0}
    assert told["page_results"] == [
        {
            "page": 1,
            "success": True,
            "classification": "letter",
            "raw_result": "letter",
            "confidence": 0.8,
            "scores": scores,
        },
        {"page": 2, "success": False, "classification": "invoice", "confidence": 0.0, "error": "The page is damaged."},
    ]
    assert list(told["scores"]) == ["letter", "invoice", "form"]


def test_picture_has_raw_result_instead_of_pages() -> None:
    told = result(answer(0.2, 0.7, 0.1), is_image=True)
    assert list(told) == [
        *("success", "classification", "raw_result", "confidence", "total_pages", "processed_pages"),
        *("scores", "model"),
    ]
    assert told["raw_result"] == "letter"


def test_what_the_model_thinks_of_none_changes_nothing_where_it_was_not_asked() -> None:
    plain = result(answer(0.5, 0.3, 0.2), answer(0.1, 0.6, 0.3))
    assert result(answer(0.5, 0.3, 0.2, none=0.99), answer(0.1, 0.6, 0.3, none=0.4)) == plain
    combined = combine_pages([(1, np.array([0.5, 0.3, 0.2])), (2, np.array([0.1, 0.6, 0.3]))], PageWeights())
    assert plain["scores"] == rank_scores(NAMES, combined)


def test_single_name_is_scored_against_none_of_these_and_stays_the_classification() -> None:
    told = result(answer(1.0, none=0.9), asked=Asked(("invoice",)))
    assert (told["classification"], told["confidence"]) == ("invoice", 0.1)
    assert told["scores"] == {"none_of_these": 0.9, "invoice": 0.1}
    assert "review" not in told
    assert told["page_results"][0]["classification"] == told["page_results"][0]["raw_result"] == "invoice"


# --- none_of_these ---


@pytest.mark.parametrize(
    ("none", "threshold", "classification"),
    [(0.5, 0.5, "none_of_these"), (0.499, 0.5, "invoice"), (0.3, 0.25, "none_of_these"), (1.0, 1.0, "none_of_these")],
)
def test_none_of_these_is_told_from_the_threshold_on(none: float, threshold: float, classification: str) -> None:
    told = result(answer(0.9, 0.1, 0.0, none=none), asked=Asked(NAMES, threshold))
    assert told["classification"] == classification
    assert told["confidence"] == told["scores"][classification]
    assert told["scores"]["none_of_these"] == pytest.approx(none)
    assert told["page_results"][0]["raw_result"] == "invoice"
    assert "raw_result" not in told


def test_keys_stand_where_they_did_and_review_beside_the_confidence() -> None:
    told = result(answer(0.9, 0.1, 0.0, none=0.1), None, asked=Asked(NAMES, 0.5))
    assert list(told) == [
        *("success", "classification", "confidence", "review", "total_pages", "processed_pages"),
        *("page_results", "scores", "model"),
    ]
    read, failed = told["page_results"]
    assert list(read) == ["page", "success", "classification", "raw_result", "confidence", "review", "scores"]
    assert failed["review"] is True
    picture = result(answer(0.9, 0.1, 0.0, none=0.6), asked=Asked(NAMES, 0.5), is_image=True)
    assert (picture["classification"], picture["raw_result"]) == ("none_of_these", "invoice")
    assert picture["review"] is False


def test_best_category_is_known_even_where_every_name_scores_zero() -> None:
    told = result(answer(0.2, 0.7, 0.1, none=1.0), asked=Asked(NAMES, 0.5), is_image=True)
    assert told["raw_result"] == "letter"
    assert told["scores"] == {"none_of_these": 1.0, "form": 0.0, "invoice": 0.0, "letter": 0.0}


@pytest.mark.parametrize(
    ("answers", "is_review"),
    [
        ((answer(0.9, 0.1, 0.0, none=0.1),), False),
        ((answer(0.6, 0.4, 0.0),), False),  # exactly 0.2 apart
        ((answer(0.599, 0.401, 0.0),), True),
        ((answer(0.49, 0.26, 0.25),), True),  # likely wrong, though far from the next
        ((answer(1.0, 0.0, 0.0, none=0.45),), True),
        ((answer(0.9, 0.1, 0.0), answer(0.1, 0.9, 0.0)), True),  # pages disagree
        ((answer(0.95, 0.05, 0.0), answer(0.95, 0.05, 0.0)), False),
        ((answer(0.95, 0.05, 0.0), None), False),  # the page that failed says so itself
    ],
)
def test_review_is_set_where_a_person_should_look(answers: tuple[PageAnswer | None, ...], is_review: bool) -> None:
    assert result(*answers, asked=Asked(NAMES, 0.5))["review"] is is_review


def test_none_of_these_against_its_own_score_is_for_review() -> None:
    told = result(answer(1.0, 0.0, 0.0, none=0.1), asked=Asked(NAMES, 0.05))
    assert (told["classification"], told["confidence"], told["review"]) == ("none_of_these", 0.1, True)


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=30), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_verdict_holds_together_whatever_the_model_says(odds: list[float], none: float, threshold: float) -> None:
    names = tuple(f"name {number}" for number in range(len(odds)))
    verdict = judge(answer(*np.array(odds) / sum(odds), none=none), Asked(names, threshold))
    assert set(verdict.scores) == {*names, "none_of_these"}
    assert sum(round(score * 1_000_000) for score in verdict.scores.values()) == 1_000_000
    assert list(verdict.scores) == sorted(verdict.scores, key=lambda name: (-verdict.scores[name], name))
    assert verdict.scores[verdict.raw_result] == max(verdict.scores[name] for name in names)
    is_none = verdict.scores["none_of_these"] >= threshold
    assert verdict.classification == ("none_of_these" if is_none else verdict.raw_result)


# --- evidence ---


def evidence(*, phrases: int = 1, text: str = "amount due", channels: int = 2) -> PageEvidence:
    phrase = Phrase(text, Box(0.1, 0.25, 1 / 3, 0.3))
    return PageEvidence({f"c{number}": 1.23456 - number for number in range(channels)}, (phrase,) * phrases)


def test_evidence_is_told_for_each_page_that_was_read() -> None:
    asked = Asked(NAMES, is_evidence_wanted=True)
    told = result(answer(0.9, 0.1, 0.0, evidence=evidence()), None, asked=asked)
    read, failed = told["page_results"]
    assert list(read)[-1] == "evidence"
    assert read["evidence"] == {
        "channels": {"c0": 1.235, "c1": 0.235},
        "phrases": [{"text": "amount due", "box": [0.1, 0.25, 0.3333, 0.3]}],
    }
    assert "evidence" not in failed
    assert "evidence" not in told
    assert "review" not in told


def test_evidence_of_a_picture_stands_at_the_top() -> None:
    asked = Asked(NAMES, is_evidence_wanted=True)
    told = result(answer(0.9, 0.1, 0.0, evidence=evidence()), asked=asked, is_image=True)
    assert told["evidence"]["phrases"][0]["text"] == "amount due"


def test_evidence_that_was_not_asked_for_is_not_told() -> None:
    assert "evidence" not in result(answer(0.9, 0.1, 0.0, evidence=evidence()))["page_results"][0]


def test_model_that_gives_no_evidence_leaves_it_empty() -> None:
    told = result(answer(0.9, 0.1, 0.0), asked=Asked(NAMES, is_evidence_wanted=True))
    assert told["page_results"][0]["evidence"] == {"channels": {}, "phrases": []}


def test_evidence_is_what_an_event_can_carry() -> None:
    odd = evidence(text="a\x00b\ud800\n  c")
    told = result(answer(0.9, 0.1, 0.0, evidence=odd), asked=Asked(NAMES, is_evidence_wanted=True))
    assert told["page_results"][0]["evidence"]["phrases"][0]["text"] == "a b c"


def test_largest_result_with_everything_asked_fits_into_an_event() -> None:
    names = tuple(f"{number:03d}" + "😀" * 197 for number in range(500))
    boundless = evidence(phrases=500, text="😀" * 5000, channels=100)
    page_answer = answer(*np.ones(500) / 500, none=0.3, evidence=boundless)
    told = result(*[page_answer] * 4, asked=Asked(names, 0.5, is_evidence_wanted=True))
    spoken = told["page_results"][0]["evidence"]
    assert (len(spoken["phrases"]), len(spoken["channels"])) == (10, 20)
    assert len(spoken["phrases"][0]["text"]) == 100
    assert len(json.dumps(told, ensure_ascii=False).encode()) < MESSAGE_BYTES_MAX * 0.9
