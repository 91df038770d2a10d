"""How a video is analysed, and the defaults. It loads nothing, so that `--help` can show them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

TIME_CONSTANT_S: Final = 0.3
"""Shorter than expressions that last, longer than what a blink or a few blurred frames do.

On noisy made-up logits whose true label changes 20 times a minute, the most probable label changes 816 times a minute
and is right in 73 % of the frames; smoothed, with the margin below, 20 times and 91 %. Where the noise of neighbouring
frames is alike (correlation 0.8), 0.1 s leaves 73 changes, 0.3 s 29 and 0.5 s 22, right in 87, 89 and 84 %."""
MARGIN: Final = 0.1
"""See above: without it, labels change 45 times instead of 29 where neighbouring frames are alike."""
PATIENCE_S: Final = 1.0
"""Long enough for a hand before the face, for somebody who walks past, for a few missed detections."""
CONCURRENCY: Final = 8
MINIMUM_EPISODE_S: Final = 0.5


@dataclass(frozen=True)
class SmoothingSettings:
    """How much to smooth.

    Attributes:
        time_constant_s: The age in seconds at which what was seen counts 1/e = 37 % of what is seen now; 0 smooths
            nothing.
        margin: A label stays until another one's smoothed probability is larger by more than this, 0..1; 0 always
            takes the most probable one.
    """

    time_constant_s: float = TIME_CONSTANT_S
    margin: float = MARGIN


@dataclass(frozen=True)
class AnalysisSettings:
    """How frames become sightings.

    Attributes:
        interval_s: The usual time between two frames that are analysed, in seconds.
        concurrency: Number of frames sent at once.
        patience_s: For how long a track's face may be out of sight, in seconds.
        smoothing: How the probabilities of each track are smoothed.
    """

    interval_s: float
    concurrency: int = CONCURRENCY
    patience_s: float = PATIENCE_S
    smoothing: SmoothingSettings = field(default_factory=SmoothingSettings)
