"""Probabilities that are as sure as they are right, and when to call an answer uncertain. Used by `export`, `evaluate`.

Temperature scaling is one number for all logits. It is fitted by the likelihood, which only a truthful probability can
maximise; the calibration error (ECE) cannot be fitted, as a constant answer with the right confidence has none. So a
temperature may leave the ECE higher than before. `Figures.ece_95` tells whether such a change means anything.

Source: Guo et al., On Calibration of Modern Neural Networks, 2017.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fer_training.metrics import Floats, Interval, Labels, draw_resamples, percentile_interval
from fer_training.prediction import softmax

HALVINGS: Final = 40
COLDEST: Final = 0.05
HOTTEST: Final = 20.0
"""Limits of the temperature. Any trained network's lies well between them."""

TARGET_ACCURACY: Final = 0.80
"""Four of five answers that are given are right."""
MIN_COVERAGE: Final = 0.10
"""A classifier that is uncertain about more than nine in ten images is not one to use; and the accuracy of a handful of
answers is luck: the surest one alone is right as a rule, which would reach every target."""
ROUNDING: Final = 1e-9


def fit_temperature(logits: npt.NDArray[np.float32], labels: Labels) -> float:
    """Find the temperature that minimises the negative log likelihood of softmax(logits / temperature).

    That likelihood is convex in the inverse temperature, so its slope changes sign once and bisection finds where.

    Args:
        logits: float32, (N, C).
        labels: int64, (N,), 0..C-1.

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


@dataclass(frozen=True)
class UncertainThreshold:
    """Below which confidence to call an answer uncertain, and what that leaves."""

    target_accuracy: float
    threshold: float | None
    """Answers of this confidence or more are given, 0..1; None where no threshold reaches the target."""
    threshold_95: Interval | None
    """Interval of the threshold chosen anew on images drawn again; 1 where these do not reach the target."""
    coverage: float
    """Part of the images that get an answer; 0 without a threshold."""
    coverage_95: Interval | None
    """Interval at this threshold."""
    accuracy: float | None
    """Accuracy of the answers given."""
    accuracy_95: Interval | None
    """Interval at this threshold."""


def recommend_threshold(
    probabilities: Floats,
    labels: Labels,
    target_accuracy: float = TARGET_ACCURACY,
    min_coverage: float = MIN_COVERAGE,
) -> UncertainThreshold:
    """Find the smallest threshold at which the answers that are still given are right as often as the target says.

    Smallest, because that answers the most images. A target, because whoever uses the answers can say how often they
    may be wrong; the "best" balance of risk and coverage needs a price of a wrong answer against none instead, which
    nobody knows, or takes an arbitrary one. The threshold lies halfway between two confidences that occur, so that
    rounding on other hardware moves no image across it.

    It is chosen and measured on the same images, and holds for images like these.

    Args:
        probabilities: float, (N, C), rows sum to 1, after the temperature; N is at least 1.
        labels: int64, (N,), 0..C-1.
        target_accuracy: 0..1.
        min_coverage: Part of the images that have to get an answer, 0..1.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    order = np.argsort(-confidence, kind="stable")
    confidence, correct = confidence[order], (probabilities.argmax(axis=1) == labels)[order]
    following = np.append(confidence[1:], -confidence[-1])  # Behind the last answer, halfway is 0: all are given.
    thresholds = (confidence + following) / 2
    may_end = confidence > following  # Not between answers that are equally sure.

    def choose(given: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Return the last answer given, (S,), or -1, out of answers and right ones (S, N) from the surest to each."""
        enough = (right >= target_accuracy * given - ROUNDING) & (given >= min_coverage * len(labels) - ROUNDING)
        fits = (enough & may_end)[:, ::-1]
        return np.where(fits.any(axis=1), len(labels) - 1 - fits.argmax(axis=1), -1)

    answers = np.ones((1, len(labels)))
    (last,) = choose(answers.cumsum(axis=1), (answers * correct).cumsum(axis=1)).tolist()
    if last < 0:
        return UncertainThreshold(target_accuracy, None, None, 0.0, None, None, None)
    again: list[npt.NDArray[np.float64]] = []
    for counts in draw_resamples(len(labels)):
        given, right = counts[:, order].cumsum(axis=1), (counts[:, order] * correct).cumsum(axis=1)
        chosen = choose(given, right)
        chosen_thresholds = np.where(chosen < 0, 1.0, thresholds[chosen])
        again.append(np.column_stack([chosen_thresholds, given[:, last], right[:, last]]))
    redrawn = np.concatenate(again)  # (RESAMPLES, 3)
    return UncertainThreshold(
        target_accuracy=target_accuracy,
        threshold=float(thresholds[last]),
        threshold_95=percentile_interval(redrawn[:, 0]),
        coverage=(last + 1) / len(labels),
        coverage_95=percentile_interval(redrawn[:, 1] / len(labels)),
        accuracy=float(correct[: last + 1].mean()),
        accuracy_95=percentile_interval(redrawn[:, 2] / np.maximum(redrawn[:, 1], 1)),
    )
