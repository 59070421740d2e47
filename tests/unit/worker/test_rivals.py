"""core/rivals: which other kinds of documents speak against the offered names, and how much."""

import numpy as np
import pytest

from classifier_worker.core.rivals import NoneScale, none_probability, rivals_of

PLAIN = NoneScale()


def none(offered: list[float], rivals: list[float], scale: NoneScale = PLAIN) -> float:
    return none_probability(np.array(offered), np.array(rivals), scale, temperature=1.0)


def test_without_scaling_it_is_the_rivals_share_of_one_softmax() -> None:
    odds = np.exp([1.0, 2.0, 0.5, -1.0])
    assert none([1.0, 2.0], [0.5, -1.0]) == pytest.approx(odds[2:].sum() / odds.sum())


def test_a_rival_that_fits_better_makes_none_likelier() -> None:
    assert none([1.0], [0.0]) < none([1.0], [2.0]) < none([1.0], [9.0])


def test_order_of_the_names_changes_nothing() -> None:
    assert none([1.0, 2.0, 3.0], [0.0]) == pytest.approx(none([3.0, 1.0, 2.0], [0.0]))


def test_scaling_moves_the_odds() -> None:
    assert none([1.0], [1.0], NoneScale(1.0, 2.0)) == pytest.approx(1 / (1 + np.exp(2.0)))
    assert none([3.0], [1.0], NoneScale(0.5, 0.0)) == pytest.approx(1 / (1 + np.exp(1.0)))


@pytest.mark.parametrize("logit", [-1e6, 1e6])
def test_extreme_odds_stay_probabilities(logit: float) -> None:
    assert 0.0 <= none([logit], [0.0]) <= 1.0


def test_without_rivals_a_name_always_fits() -> None:
    assert none([0.0], []) == 0.0


def test_an_offered_kind_or_one_that_means_the_same_is_no_rival() -> None:
    kin = np.array([[1.0, 0.0, 0.0, 0.1], [0.0, 0.0, 0.0, 0.1]], dtype=np.float32)
    cosines = np.array([[1.0, 0.5, 0.3, 0.2], [0.1, 0.9, 0.2, 0.2]], dtype=np.float32)
    assert rivals_of(kin, np.eye(4, dtype=np.float32), cosines).tolist() == [False, False, True, True]


def test_a_kind_of_an_offered_name_is_no_rival() -> None:
    kinds = np.eye(3, dtype=np.float32)
    kinds[2, 0] = 1.0  # the third is a kind of the first
    kin = np.array([[1.0, 0.0, 0.0]], dtype=np.float32)
    assert rivals_of(kin, kinds, np.zeros((1, 3), dtype=np.float32)).tolist() == [False, True, False]
