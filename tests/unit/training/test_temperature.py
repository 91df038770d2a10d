import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

from fer_training.metrics import negative_log_likelihood, risk_coverage_curve
from fer_training.prediction import softmax
from fer_training.temperature import fit_temperature, recommend_threshold

RNG = np.random.default_rng(0)


def draw_labels(logits: np.ndarray) -> np.ndarray:
    """Labels that are right exactly as often as softmax(logits) says."""
    return (softmax(logits).cumsum(axis=1) > RNG.random((len(logits), 1))).argmax(axis=1)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_an_exaggeration_of_the_logits_is_found_again(factor):
    logits = RNG.normal(0, 2, (20_000, 7)).astype(np.float32)
    assert fit_temperature(logits * np.float32(factor), draw_labels(logits)) == pytest.approx(factor, rel=0.03)


def test_no_other_temperature_has_a_better_likelihood():
    logits = RNG.normal(0, 3, (500, 7)).astype(np.float32)
    labels = np.where(RNG.random(500) < 0.5, RNG.integers(0, 7, 500), logits.argmax(axis=1))
    temperature = fit_temperature(logits, labels)

    def likelihood(value: float) -> float:
        return negative_log_likelihood(softmax(logits / np.float32(value)), labels)

    assert likelihood(temperature) <= min(likelihood(temperature * 1.02), likelihood(temperature / 1.02))


def test_an_answer_that_is_always_right_gets_the_lowest_temperature():
    logits = RNG.normal(0, 1, (50, 7)).astype(np.float32)
    assert fit_temperature(logits, logits.argmax(axis=1)) == pytest.approx(0.05)


def answers(confidences: list[float], right: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that answer class 0 with each confidence, and labels that make it right or wrong."""
    probabilities = np.repeat((1 - np.array(confidences))[:, None] / 6, 7, axis=1)
    probabilities[:, 0] = confidences
    return probabilities, np.where(right, 0, 1)


def test_the_threshold_is_the_smallest_that_reaches_the_target():
    # Right among those given: 1/1, 2/2, 2/3, 3/4, 3/5. A target of 0.75 is met by the first four, missed by three.
    probabilities, labels = answers([0.9, 0.8, 0.7, 0.6, 0.5], [True, True, False, True, False])
    found = recommend_threshold(probabilities, labels, target_accuracy=0.75)
    assert found.threshold == pytest.approx(0.55)
    assert (found.coverage, found.accuracy) == (0.8, 0.75)
    assert found.target_accuracy == 0.75
    stricter = recommend_threshold(probabilities, labels, target_accuracy=0.76)
    assert (stricter.threshold, stricter.coverage, stricter.accuracy) == (pytest.approx(0.75), 0.4, 1)


def test_all_answers_are_given_where_they_reach_the_target():
    probabilities, labels = answers([0.9, 0.8, 0.7, 0.6, 0.5], [True, True, True, True, False])
    found = recommend_threshold(probabilities, labels)
    assert (found.threshold, found.coverage, found.accuracy) == (0, 1, 0.8)


def test_a_target_that_only_a_handful_of_answers_reaches_is_not_reached():
    probabilities, labels = answers([0.9] + [0.8] * 19, [True] + [False] * 19)
    found = recommend_threshold(probabilities, labels)
    assert (found.threshold, found.coverage, found.accuracy) == (None, 0, None)
    assert (found.threshold_95, found.coverage_95, found.accuracy_95) == (None, None, None)
    assert recommend_threshold(probabilities, labels, min_coverage=0.05).coverage == 0.05


def test_equally_sure_answers_are_given_together_or_not_at_all():
    # The first two at 0.8 are right, but the other three equally sure ones are not.
    probabilities, labels = answers([0.9, 0.8, 0.8, 0.8, 0.8, 0.8], [True, True, True, False, False, False])
    found = recommend_threshold(probabilities, labels)
    assert (found.threshold, found.coverage) == (pytest.approx(0.85), pytest.approx(1 / 6))


def draw_answers(images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities (images, 7), and labels."""
    rng = np.random.default_rng(seed)
    probabilities = softmax(rng.normal(0, 2, (images, 7)).astype(np.float32))
    return probabilities, (probabilities.cumsum(axis=1) > rng.random((images, 1))).argmax(axis=1)


def test_the_order_of_the_images_plays_no_part_in_the_threshold():
    probabilities, labels = draw_answers(300, seed=1)
    first, again = recommend_threshold(probabilities, labels), recommend_threshold(probabilities[::-1], labels[::-1])
    assert (first.threshold, first.coverage, first.accuracy) == (again.threshold, again.coverage, again.accuracy)
    assert recommend_threshold(probabilities, labels) == first


def test_the_intervals_contain_what_other_images_give():
    found = recommend_threshold(*draw_answers(2000, seed=2))
    probabilities, labels = draw_answers(200_000, seed=3)
    confidence, accuracy = risk_coverage_curve(probabilities, labels)
    true_threshold = confidence[accuracy >= 0.8].min()
    assert found.threshold_95[0] < true_threshold < found.threshold_95[1]
    assert found.threshold_95[1] - found.threshold_95[0] < 0.15
    given = probabilities.max(axis=1) >= found.threshold
    true_accuracy = (probabilities.argmax(axis=1) == labels)[given].mean()
    assert found.coverage_95[0] < given.mean() < found.coverage_95[1]
    assert found.accuracy_95[0] < true_accuracy < found.accuracy_95[1]
    assert found.accuracy_95[0] < found.accuracy < found.accuracy_95[1]


def test_a_higher_target_is_paid_with_coverage():
    found = [recommend_threshold(*draw_answers(1000, seed=4), target) for target in (0.65, 0.7, 0.8)]
    assert [one.coverage for one in found] == sorted((one.coverage for one in found), reverse=True)
    assert [one.threshold for one in found] == sorted(one.threshold for one in found)
    assert all(one.accuracy >= one.target_accuracy for one in found)
