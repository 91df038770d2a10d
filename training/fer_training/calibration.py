"""Temperature scaling: one number that makes the probabilities as sure as they are right. Used by `export`.

Source: Guo et al., On Calibration of Modern Neural Networks, 2017.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from fer_training.metrics import Labels
from fer_training.prediction import softmax

HALVINGS: Final = 40
COLDEST: Final = 0.05
HOTTEST: Final = 20.0
"""Limits of the temperature. Any trained network's lies well between them."""


def fit_temperature(logits: npt.NDArray[np.float32], labels: Labels) -> float:
    """Finds the temperature that minimises the negative log likelihood of softmax(logits / temperature).

    That likelihood is convex in the inverse temperature, so its slope changes sign once and bisection finds where.

    Args:
        logits: float32, (N, 7).
        labels: int64, (N,), 0..6.

    Returns:
        The temperature, from 0.05 to 20. Above 1 where the network was too sure of itself.
    """
    low, high = 1 / HOTTEST, 1 / COLDEST
    chosen = logits[np.arange(len(labels)), labels].astype(np.float64)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        expected = (softmax(logits * middle) * logits).sum(axis=1)
        if (expected - chosen).mean() > 0:  # The slope is positive: the minimum lies at a smaller inverse temperature.
            high = middle
        else:
            low = middle
    return 2 / (low + high)
