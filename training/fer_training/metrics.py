"""Figures of merit from probabilities and labels, in NumPy. Used by `training_run`, `evaluate` and `export`."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fer_contract import LABELS

CALIBRATION_BINS: Final = 15
BOOTSTRAP_SAMPLES: Final = 10_000
BOOTSTRAP_SEED: Final = 0

Floats = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassFigures:
    """One class against the rest. A ratio without cases to count is 0."""

    images: int
    """Images with this label."""
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Figures:
    """How good probabilities are, all from 0 to 1 but `nll`."""

    images: int
    accuracy: float
    accuracy_95: tuple[float, float]
    """Bootstrap interval: between them lie 95 % of the accuracies on images drawn again from these."""
    balanced_accuracy: float
    """Mean recall of the classes present."""
    macro_f1: float
    """Mean F1 of all seven classes."""
    ece: float
    """Expected calibration error, see `expected_calibration_error`."""
    nll: float
    """Mean negative log likelihood of the label, in nats."""
    classes: dict[str, ClassFigures]


def compute_figures(probabilities: Floats, labels: Labels) -> Figures:
    """Computes all figures.

    Args:
        probabilities: float, (N, 7), rows sum to 1.
        labels: int64, (N,), 0..6.
    """
    predicted = probabilities.argmax(axis=1)
    classes = {name: _class_figures(predicted == index, labels == index) for index, name in enumerate(LABELS)}
    accuracy = float((predicted == labels).mean())
    return Figures(
        images=len(labels),
        accuracy=accuracy,
        accuracy_95=bootstrap_interval(accuracy, len(labels)),
        balanced_accuracy=float(np.mean([figures.recall for figures in classes.values() if figures.images])),
        macro_f1=float(np.mean([figures.f1 for figures in classes.values()])),
        ece=expected_calibration_error(probabilities, labels),
        nll=negative_log_likelihood(probabilities, labels),
        classes=classes,
    )


def _class_figures(predicted: npt.NDArray[np.bool_], actual: npt.NDArray[np.bool_]) -> ClassFigures:
    hits = int((predicted & actual).sum())
    return ClassFigures(
        images=int(actual.sum()),
        precision=hits / max(int(predicted.sum()), 1),
        recall=hits / max(int(actual.sum()), 1),
        f1=2 * hits / max(int(predicted.sum()) + int(actual.sum()), 1),
    )


def negative_log_likelihood(probabilities: Floats, labels: Labels) -> float:
    """Mean of -log(probability of the label), in nats. A probability of 0 counts as the smallest float32."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(chosen, np.finfo(np.float32).tiny)).mean())


def expected_calibration_error(probabilities: Floats, labels: Labels) -> float:
    """Mean gap between confidence and accuracy over equally wide bins of confidence, weighted by images.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017, with 15 bins.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    # In one bin, images / N * |mean confidence - mean correct| is the absolute difference of two sums over N.
    gaps = np.bincount(bins, weights=confidence - correct, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def bootstrap_interval(accuracy: float, images: int) -> tuple[float, float]:
    """The 2.5 % and 97.5 % points of the accuracy over images drawn again, with replacement.

    Drawing `images` hits and misses again with replacement is drawing from a binomial distribution, which is done here.
    """
    hits = np.random.default_rng(BOOTSTRAP_SEED).binomial(images, accuracy, size=BOOTSTRAP_SAMPLES)
    low, high = np.quantile(hits / images, [0.025, 0.975])
    return float(low), float(high)
