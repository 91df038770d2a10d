"""Steadies the probabilities of a face over time, and its label, so that neither flickers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_client.video.settings import SmoothingSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAST_PROBABILITY: Final = 0.001
"""Smaller probabilities count as this one. Otherwise a single frame that is sure of something else would outweigh all
others, because logarithms have no lower bound."""
_LONGEST_STEP: Final = 3.0
"""A frame stands for the time since the one before, but for no more than this many of the usual intervals: after a gap,
one frame must not outweigh all before it."""


class Smoother:
    """Averages the logarithms of one track's probabilities, the recent more than the older.

    The weights follow time, not frames: twice the frames per second give the same curve. Logarithms are averaged, so
    that the result is that of averaging the logits.
    """

    def __init__(self, settings: SmoothingSettings, interval_s: float) -> None:
        """Start before the track's first frame.

        Args:
            settings: How much to smooth.
            interval_s: The usual time between two frames, in seconds.
        """
        self._settings = settings
        self._interval_s = interval_s
        self._seen_s: float | None = None
        self._weight = 0.0
        self._sum: NDArray[np.float64] | float = 0.0
        self._label: int | None = None

    def update(self, time_s: float, probabilities: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
        """Add a frame.

        Args:
            time_s: Time of the frame in seconds, later than that of the frame before.
            probabilities: Float, (labels,), 0..1, summing to 1.

        Returns:
            The smoothed probabilities, of the same kind, and the index of the label that holds.
        """
        elapsed_s = self._interval_s if self._seen_s is None else time_s - self._seen_s
        self._seen_s = time_s
        if self._settings.time_constant_s > 0:
            probabilities = self._average(elapsed_s, probabilities)
        leader = int(probabilities.argmax())
        if self._label is None or probabilities[leader] - probabilities[self._label] > self._settings.margin:
            self._label = leader
        return probabilities, self._label

    def _average(self, elapsed_s: float, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the average up to now, divided by the weights so far: a track's first frame has no head start."""
        tau_s = self._settings.time_constant_s
        kept = math.exp(-elapsed_s / tau_s)
        gain = -math.expm1(-min(elapsed_s, _LONGEST_STEP * self._interval_s) / tau_s)
        logarithms = np.log(np.maximum(probabilities, _LEAST_PROBABILITY))
        self._sum = kept * self._sum + gain * logarithms
        self._weight = kept * self._weight + gain
        average = np.exp(self._sum / self._weight)
        smoothed: NDArray[np.float64] = average / average.sum()
        return smoothed
