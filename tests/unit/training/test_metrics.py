import numpy as np
import pytest

from fer_training.metrics import (
    bootstrap_interval,
    compute_figures,
    expected_calibration_error,
    negative_log_likelihood,
)


def one_hot_like(classes: list[int], confidence: float) -> np.ndarray:
    """Probabilities that give `confidence` to one class and share the rest."""
    probabilities = np.full((len(classes), 7), (1 - confidence) / 6)
    probabilities[np.arange(len(classes)), classes] = confidence
    return probabilities


def test_figures_agree_with_a_calculation_by_hand():
    # label:     0 0 0 1 1 2          class 0: precision 2/3, recall 2/3, F1 2/3
    # predicted: 0 0 1 1 0 2          class 1: precision 1/2, recall 1/2, F1 1/2; class 2: all 1; the others absent
    figures = compute_figures(one_hot_like([0, 0, 1, 1, 0, 2], 0.7), np.array([0, 0, 0, 1, 1, 2]))
    assert figures.images == 6
    assert figures.accuracy == pytest.approx(4 / 6)
    assert figures.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert figures.macro_f1 == pytest.approx((2 / 3 + 1 / 2 + 1) / 7)
    angry, disgust = figures.classes["angry"], figures.classes["disgust"]
    assert (angry.images, angry.precision, angry.recall, angry.f1) == pytest.approx((3, 2 / 3, 2 / 3, 2 / 3))
    assert (disgust.images, disgust.precision, disgust.recall, disgust.f1) == pytest.approx((2, 0.5, 0.5, 0.5))
    assert figures.classes["neutral"].f1 == 0
    # four right at 0.7, two wrong where the label has 0.05
    assert figures.nll == pytest.approx(-(4 * np.log(0.7) + 2 * np.log(0.05)) / 6)
    # all in one bin: confidence 0.7, accuracy 4/6
    assert figures.ece == pytest.approx(0.7 - 4 / 6)


def test_calibration_error_weighs_each_bin_by_its_images():
    # two images at 0.9, one right: gap 0.4; two at 0.5, both right: gap 0.5
    probabilities = np.concatenate([one_hot_like([0, 0], 0.9), one_hot_like([1, 1], 0.5)])
    error = expected_calibration_error(probabilities, np.array([0, 3, 1, 1]))
    assert error == pytest.approx((2 * 0.4 + 2 * 0.5) / 4)


def test_probabilities_that_are_right_as_often_as_they_say_have_no_calibration_error():
    labels = np.array([0] * 8 + [1] * 2)
    assert expected_calibration_error(one_hot_like([0] * 10, 0.8), labels) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error(one_hot_like([0] * 4, 1.0), np.zeros(4, dtype=np.int64)) == 0


def test_a_certain_and_wrong_answer_costs_much_but_not_infinitely():
    assert 80 < negative_log_likelihood(one_hot_like([0], 1.0), np.array([1])) < 100


def test_the_bootstrap_interval_is_the_binomial_one():
    low, high = bootstrap_interval(0.65, 3589)
    half_width = 1.96 * np.sqrt(0.65 * 0.35 / 3589)
    assert low == pytest.approx(0.65 - half_width, abs=1e-3)
    assert high == pytest.approx(0.65 + half_width, abs=1e-3)
    assert bootstrap_interval(0.65, 3589) == (low, high)
