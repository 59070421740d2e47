"""The statistics of an evaluation on numbers that can be worked out by hand."""

import numpy as np
import pytest

from classifier_worker.evaluation.measures import auroc, bootstrap, calibration_error, macro, selective_accuracy


def test_auroc_counts_pairs_and_halves_ties():
    assert auroc(np.array([0.9, 0.5]), np.array([0.5, 0.1])) == pytest.approx(3.5 / 4)


def test_confidence_that_keeps_its_word_has_no_calibration_error():
    confidence, right = np.repeat([0.5, 1.0], 10), np.array([True, False] * 5 + [True] * 10)
    assert calibration_error(confidence, right, bins=2) == pytest.approx(0)


def test_calibration_error_is_the_mean_distance_over_bins_of_equal_mass():
    confidence, right = np.repeat([0.6, 0.9], 10), np.array([False] * 10 + [True] * 10)
    assert calibration_error(confidence, right, bins=2) == pytest.approx((0.6 + 0.1) / 2)


def test_selective_accuracy_takes_the_surest_first_and_ties_together():
    coverage, accuracy = selective_accuracy(np.array([0.2, 0.9, 0.5, 0.5]), np.array([False, True, True, False]))
    assert coverage.tolist() == [0.25, 0.75, 1.0]
    assert accuracy.tolist() == pytest.approx([1.0, 2 / 3, 0.5])


def test_macro_counts_every_label_alike():
    assert macro(np.array([1.0, 1.0, 1.0, 0.0]), np.array([0, 0, 0, 2])) == pytest.approx(0.5)


def test_interval_over_sources_is_wider_than_over_files():
    right = np.repeat(np.arange(10) % 2, 20).astype(float)  # whole sources are right or wrong
    by_source = bootstrap(lambda at: float(right[at].mean()), [str(at // 20) for at in range(200)])
    by_file = bootstrap(lambda at: float(right[at].mean()), [str(at) for at in range(200)])
    assert by_source.value == by_file.value == 0.5
    assert by_source.high - by_source.low > 2 * (by_file.high - by_file.low)
