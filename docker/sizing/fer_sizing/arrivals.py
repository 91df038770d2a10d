"""Images per second over a day: a smooth curve and one spike. Called by `fer_sizing.simulate`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Day:
    """The load that is assumed."""

    peak_per_s: float
    """At 14:00, without the spike."""
    night_share: float = 0.15
    """Of the peak, at 2:00."""
    spike_factor: float = 3.0
    """The spike multiplies the curve by this."""
    spike_at_h: float = 16.0
    spike_rise_s: float = 60.0
    spike_s: float = 900.0
    """How long it stays up; then it falls as fast as it rose."""

    def rate(self, second_of_day: npt.ArrayLike) -> Floats:
        """Expected images per second, at these seconds of the day."""
        second = np.asarray(second_of_day, np.float64)
        wave = (1 - np.cos(2 * np.pi * (second / 3600 - 2) / 24)) / 2  # 0 at 2:00, 1 at 14:00
        curve = self.peak_per_s * (self.night_share + (1 - self.night_share) * wave)
        start, rise = 3600 * self.spike_at_h, self.spike_rise_s
        corners = [start, start + rise, start + rise + self.spike_s, start + 2 * rise + self.spike_s]
        factor = np.interp(second, corners, [1.0, self.spike_factor, self.spike_factor, 1.0])
        return np.asarray(curve * factor, np.float64)


def count_arrivals(rate: Floats, generator: np.random.Generator) -> npt.NDArray[Any]:
    """Poisson: images in each second, int64, the shape of `rate`."""
    return generator.poisson(rate)
