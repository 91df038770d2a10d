import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'fer-triton[train]'")

from fer_training.calibration import fit_temperature
from fer_training.metrics import negative_log_likelihood
from fer_training.prediction import softmax

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
