"""The form fields none_of_these and evidence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_api.options import Options, parse_evidence, parse_none_of_these
from schemas.errors import DocfleetError, ErrorCode


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        ("true", 0.5),
        (" True ", 0.5),
        ("false", None),
        ("0", 0.0),
        ("1", 1.0),
        ("0.7", 0.7),
        (".25", 0.25),
        ("5e-1", 0.5),
    ],
)
def test_none_of_these_is_a_threshold_or_half_of_one(text: str, threshold: float | None) -> None:
    assert parse_none_of_these(text) == threshold


@pytest.mark.parametrize(
    "text", ["", "yes", "1.01", "-0.1", "-0", "nan", "inf", "1e9999", "0_1", "٠", "0,5", "50%", "null", ".", "1.0.0"]
)
def test_anything_else_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(
        DocfleetError, match="none_of_these must be true, false or a number from 0 to 1, not "
    ) as refusal:
        parse_none_of_these(text)
    assert refusal.value.code is ErrorCode.INVALID_OPTION


@given(st.text() | st.floats().map(str))
def test_any_text_is_a_threshold_or_a_named_fault(text: str) -> None:
    try:
        threshold = parse_none_of_these(text)
    except DocfleetError as error:
        assert error.code is ErrorCode.INVALID_OPTION
        assert len(error.sentence) < 500
    else:
        assert threshold is None or 0.0 <= threshold <= 1.0


@pytest.mark.parametrize(("text", "is_wanted"), [("true", True), ("FALSE", False)])
def test_evidence_is_true_or_false(text: str, is_wanted: bool) -> None:
    assert parse_evidence(text) is is_wanted


@pytest.mark.parametrize("text", ["", "1", "0.5", "yes", "x" * 10_000])
def test_other_evidence_is_refused(text: str) -> None:
    with pytest.raises(DocfleetError, match="evidence must be true or false, not ") as refusal:
        parse_evidence(text)
    assert refusal.value.code is ErrorCode.INVALID_OPTION
    assert len(refusal.value.sentence) < 200


@pytest.mark.parametrize("name", ["none_of_these", "None of these", "NONE_OF  THESE", "none\u00a0of\u00a0these"])
def test_category_named_like_the_score_is_refused_where_that_score_is_told(name: str) -> None:
    for options, categories in [(Options(none_of_these=0.0), ("invoice", name)), (Options(), (name,))]:
        with pytest.raises(DocfleetError, match=f"category {len(categories)} is named like") as refusal:
            options.refuse_ambiguous(categories)
        assert refusal.value.code is ErrorCode.INVALID_CATEGORIES
    Options(evidence=True).refuse_ambiguous(("invoice", name))
    Options(none_of_these=0.5).refuse_ambiguous(("none of those", "nothing"))


def test_post_without_options_is_what_it_was_before_there_were_any() -> None:
    assert Options().changed() == {}
    assert Options(0.0, evidence=True).changed() == {"none_of_these": 0.0, "evidence": True}
