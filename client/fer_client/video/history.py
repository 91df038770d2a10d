"""Keeps the probabilities of each track over time, for a plot, in memory that does not grow with the video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_client.video.sightings import Sighting, TrackedFace

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_POINTS: Final = 1000
"""Points of time: no fewer than half as many, once a video has them. A plot is about as many pixels wide."""
MOST_TRACKS: Final = 32
"""Tracks kept, which is more than a plot shows: what is short now may become long."""


_ROUNDING: Final = 0.01
"""Of a step: containers round times, and frames a step apart belong to two points."""


@dataclass(frozen=True)
class Curve:
    """One track over time, at points that are equally far apart where there is something.

    Attributes:
        track: Its number.
        frames: How many frames it was seen in.
        times_s: Float, (points,), seconds from the video's start, growing.
        probabilities: Float, (points, labels), the means of the smoothed probabilities, 0..1.
        labels: For each point, the index of the label that held at its end.
    """

    track: int
    frames: int
    times_s: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    labels: NDArray[np.intp]


class History:
    """Averages sightings into points of time. When there are too many, two become one."""

    def __init__(self, labels: tuple[str, ...], interval_s: float) -> None:
        """Start before the first sighting.

        Args:
            labels: The model's, in order.
            interval_s: The usual time between two frames, and at first between two points.
        """
        self.labels = labels
        self.tracks_seen = 0
        self._step_s = interval_s
        self._tracks: dict[int, dict[int, _Point]] = {}
        self._everyone: dict[int, _Point] = {}

    @property
    def step_s(self) -> float:
        """Seconds between two points now."""
        return self._step_s

    def add(self, sighting: Sighting) -> None:
        """Add what was seen in the next frame."""
        while sighting.time_s / self._step_s >= MOST_POINTS:
            self._step_s *= 2
            self._tracks = {track: _halved(points) for track, points in self._tracks.items()}
            self._everyone = _halved(self._everyone)
        index = int(sighting.time_s / self._step_s + _ROUNDING)
        for face in sighting.faces:
            self.tracks_seen = max(self.tracks_seen, face.track)
            points = self._tracks.setdefault(face.track, {})
            for kept in (points, self._everyone):
                kept.setdefault(index, _Point(len(self.labels))).add(face, self.labels)
        if len(self._tracks) > MOST_TRACKS:
            self._forget({face.track for face in sighting.faces})

    def curves(self, most: int = MOST_TRACKS) -> list[Curve]:
        """The tracks seen in the most frames, at most `most` of them, by their numbers."""
        longest = sorted(self._tracks, key=lambda track: -_frames(self._tracks[track]))[:most]
        return [self._curve(track, self._tracks[track]) for track in sorted(longest)]

    def everyone(self) -> Curve:
        """All faces together, of every track, as track 0. The label is the most probable one."""
        curve = self._curve(0, self._everyone)
        return replace(curve, labels=curve.probabilities.argmax(axis=1))

    def _curve(self, track: int, points: Mapping[int, _Point]) -> Curve:
        indices = sorted(points)
        return Curve(
            track=track,
            frames=_frames(points),
            times_s=(np.array(indices) + 0.5) * self._step_s,
            probabilities=np.array([points[index].mean for index in indices]),
            labels=np.array([self.labels.index(points[index].label) for index in indices]),
        )

    def _forget(self, now_seen: set[int]) -> None:
        """Drop the track seen in the fewest frames; if it can be, one that is out of sight."""
        dropped = min(self._tracks, key=lambda track: (track in now_seen, _frames(self._tracks[track])))
        del self._tracks[dropped]


class _Point:
    """What was seen of one track around one point of time."""

    __slots__ = ("frames", "label", "sums")

    def __init__(self, labels: int) -> None:
        self.sums = np.zeros(labels)
        self.frames = 0
        self.label = ""

    @property
    def mean(self) -> NDArray[np.float64]:
        return self.sums / self.frames

    def add(self, face: TrackedFace, labels: tuple[str, ...]) -> None:
        self.sums += [face.probabilities[label] for label in labels]
        self.frames += 1
        self.label = face.label

    def join(self, later: _Point) -> None:
        """Take in the point that follows."""
        self.sums += later.sums
        self.frames += later.frames
        self.label = later.label


def _halved(points: Mapping[int, _Point]) -> dict[int, _Point]:
    """Half as many points, twice as far apart."""
    joined: dict[int, _Point] = {}
    for index in sorted(points):
        if index // 2 in joined:
            joined[index // 2].join(points[index])
        else:
            joined[index // 2] = points[index]
    return joined


def _frames(points: Mapping[int, _Point]) -> int:
    return sum(point.frames for point in points.values())
