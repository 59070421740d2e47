"""core/fusion: probabilities from channels, ranked scores, and a document from its pages."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from classifier_worker.core.answer import PageAnswer
from classifier_worker.core.fusion import (
    PageWeights,
    combine_answers,
    combine_pages,
    joint_distribution,
    rank_scores,
    soften,
    weigh_channels,
)

NAMES = ["invoice", "letter", "form"]
WEIGHTS = {"body": 0.5, "look": 1.0}


def fused(told: dict[str, np.ndarray], *, temperature: float = 1.0) -> np.ndarray:
    return soften(np.sum(list(weigh_channels(told, WEIGHTS).values()), axis=0), temperature=temperature)


def channels(body: list[float], look: list[float]) -> dict[str, np.ndarray]:
    return {"body": np.array(body, dtype=np.float32), "look": np.array(look, dtype=np.float32)}


def test_channels_are_summed_by_weight_and_softened_by_the_temperature() -> None:
    told = channels([2, 0, 0], [0, 1, 0])
    logits = np.array([1.0, 1.0, 0.0])
    assert fused(told) == pytest.approx(np.exp(logits) / np.exp(logits).sum())
    assert fused(told, temperature=0.5) == pytest.approx(np.exp(2 * logits) / np.exp(2 * logits).sum())


def test_a_channel_that_is_missing_says_nothing() -> None:
    only_look = {"look": np.array([0, 3, 0], dtype=np.float32)}
    assert fused(only_look).argmax() == 1


def test_one_channel_gone_mad_cannot_outvote_all_others() -> None:
    mad = fused(channels([1e9, 0, 0], [0, 6, 0]))
    assert mad.argmax() == 1
    assert np.isfinite(mad).all()


@given(st.permutations(range(5)))
def test_the_order_of_the_categories_changes_nothing(order: list[int]) -> None:
    told = channels([1, 0.2, -3, 0.5, 2], [0, 4, 1, -1, 0.3])
    straight = fused(told, temperature=0.8)
    turned = fused({name: values[order] for name, values in told.items()}, temperature=0.8)
    assert turned == pytest.approx(straight[order], abs=1e-12)


def test_the_first_page_weighs_most_and_a_page_that_rules_a_category_out_is_heard() -> None:
    first, second = np.array([0.6, 0.3, 0.1]), np.array([0.1, 0.8, 0.1])
    assert combine_pages([(1, first), (2, second)], PageWeights(first=0.9)).argmax() == 0
    assert combine_pages([(1, first), (2, second)], PageWeights(first=0.4)).argmax() == 1
    vetoed = combine_pages([(1, first), (2, np.array([0.0, 0.5, 0.5]))], PageWeights(first=0.6))
    assert vetoed[0] < 0.01


def test_where_page_1_could_not_be_read_the_lowest_page_counts_as_first() -> None:
    second, third = np.array([0.9, 0.1]), np.array([0.1, 0.9])
    assert combine_pages([(3, third), (2, second)], PageWeights(first=0.8)).argmax() == 0


def test_a_single_page_is_the_document() -> None:
    page = np.array([0.7, 0.2, 0.1])
    assert combine_pages([(4, page)], PageWeights()) == pytest.approx(page)


def test_no_page_is_no_document() -> None:
    with pytest.raises(ValueError, match="at least one page"):
        combine_pages([], PageWeights())


@given(arrays.arrays(np.float64, st.integers(1, 500), elements=st.floats(1e-9, 1.0)))
def test_scores_have_six_digits_fall_and_sum_to_one_exactly(probabilities: np.ndarray) -> None:
    names = [f"name {number}" for number in range(len(probabilities))]
    scores = rank_scores(names, probabilities)
    assert sum(round(score * 1_000_000) for score in scores.values()) == 1_000_000
    assert list(scores) == sorted(scores, key=lambda name: (-scores[name], name))
    assert all(score == round(score, 6) for score in scores.values())


def test_equal_scores_are_told_in_the_order_of_their_names() -> None:
    assert list(rank_scores(["b", "c", "a"], np.ones(3) / 3)) == ["a", "b", "c"]


def answer(*probabilities: float, none: float) -> PageAnswer:
    return PageAnswer(np.array(probabilities), none=none)


def test_a_documents_answer_is_the_geometric_mean_of_its_pages_joint_distributions() -> None:
    pages = [(1, answer(0.7, 0.2, 0.1, none=0.2)), (2, answer(0.3, 0.6, 0.1, none=0.6))]
    joint = np.array([0.56, 0.16, 0.08, 0.2]) ** 0.7 * np.array([0.12, 0.24, 0.04, 0.6]) ** 0.3
    combined = combine_answers(pages, PageWeights(first=0.7))
    assert joint_distribution(combined) == pytest.approx(joint / joint.sum())


@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=4))
def test_none_never_changes_how_the_names_compare(nones: list[float]) -> None:
    shares = [
        np.array([0.7, 0.2, 0.1]),
        np.array([0.1, 0.6, 0.3]),
        np.array([0.4, 0.4, 0.2]),
        np.array([0.0, 1.0, 0.0]),
    ]
    pages = list(enumerate(shares[: len(nones)], start=1))
    combined = combine_answers(
        [(number, PageAnswer(share, none=none)) for (number, share), none in zip(pages, nones, strict=True)],
        PageWeights(),
    )
    assert combined.probabilities.tolist() == combine_pages(pages, PageWeights()).tolist()
    assert 0.0 <= combined.none <= 1.0
