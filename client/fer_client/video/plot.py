"""The probabilities of each track over time: kept in memory that does not grow with the video, drawn as a PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fer_client._drawing import colors_of, text_on
from fer_client.video.clock import format_time
from fer_client.video.errors import VideoError, require
from fer_client.video.sightings import Sighting, TrackedFace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

MOST_POINTS: Final = 1000
"""Points of time: no fewer than half as many, once a video has them. A plot is about as many pixels wide."""
MOST_TRACKS: Final = 32
"""Tracks kept, which is more than a plot shows: what is short now may become long."""


_ROUNDING: Final = 0.01
"""Share of a step that is added before rounding down: containers round times, and frames a step apart belong to two
points."""

MOST_PANELS: Final = 6
"""One for each track. More would be too small to read, or too long for a screen."""

_WIDTH_IN: Final = 12.0
_PANEL_IN: Final = 2.1
_MARGINS_IN: Final = 1.5
_DPI: Final = 120

_INK: Final = "#222222"
_FAINT: Final = "#DDDDDD"
_STRIP: Final = (-0.16, 0.12)
"""Lower edge and height of the strip of labels, in probability."""
_NAMED_SHARE: Final = 0.07
"""Share of the width from which the strip of a label has room for its name."""
_TICKS_S: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
_MOST_TICKS: Final = 13
_LONGEST_GAP_STEPS: Final = 2.5
"""A curve is broken where its track was out of sight for longer."""


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
        """Return the tracks seen in the most frames, at most `most` of them, by their numbers."""
        longest = sorted(self._tracks, key=lambda track: -_frames(self._tracks[track]))[:most]
        return [self._curve(track, self._tracks[track]) for track in sorted(longest)]

    def everyone(self) -> Curve:
        """Return the faces of all tracks together as track 0. Its label is the most probable one."""
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
    """Return half as many points, twice as far apart."""
    joined: dict[int, _Point] = {}
    for index in sorted(points):
        if index // 2 in joined:
            joined[index // 2].join(points[index])
        else:
            joined[index // 2] = points[index]
    return joined


def _frames(points: Mapping[int, _Point]) -> int:
    return sum(point.frames for point in points.values())


def plot(history: History, name: str, start_s: float, end_s: float, path: Path) -> None:
    """Draw a panel for each track: a curve for each label, and under them a strip of the label that holds.

    Where there are more tracks than panels, the first panel is of all faces together.

    Args:
        history: What was seen.
        name: Name of the video, for the title.
        start_s: Time at the left edge.
        end_s: Time at the right edge.
        path: PNG to write.

    Raises:
        VideoError: matplotlib is missing, or the file cannot be written.
    """
    require("matplotlib")
    from matplotlib.figure import Figure  # Without pyplot: no global state, no window.

    curves = history.curves(MOST_PANELS)
    if history.tracks_seen > MOST_PANELS:
        curves = [history.everyone(), *history.curves(MOST_PANELS - 1)]
    panels = max(1, len(curves))
    height_in = _MARGINS_IN + panels * _PANEL_IN
    figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=_DPI)
    axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    figure.subplots_adjust(left=0.07, right=0.97, top=1 - 0.95 / height_in, bottom=0.5 / height_in, hspace=0.16)
    for panel, curve in zip(axes, curves, strict=False):
        _draw_curve(panel, curve, history, max(end_s - start_s, history.step_s))
    if not curves:
        axes[0].text(0.5, 0.5, "no face found", transform=axes[0].transAxes, ha="center", va="center", color=_INK)
    for panel in axes:
        _dress(panel, start_s, max(end_s, start_s + history.step_s))
    _head(figure, name, history, sum(curve.track > 0 for curve in curves), height_in)
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise VideoError(f"cannot write {path}: {error.strerror}") from error


def _draw_curve(panel: Axes, curve: Curve, history: History, span_s: float) -> None:
    colors = colors_of(history.labels)
    breaks = np.flatnonzero(np.diff(curve.times_s) > _LONGEST_GAP_STEPS * history.step_s) + 1
    for times_s, rows, labels in zip(
        np.split(curve.times_s, breaks),
        np.split(curve.probabilities, breaks),
        np.split(curve.labels, breaks),
        strict=True,
    ):
        for column, label in enumerate(history.labels):
            # A single point would be invisible as a line.
            marker = "." if len(times_s) == 1 else ""
            panel.plot(times_s, rows[:, column], color=colors[label], linewidth=1.8, marker=marker)
        _draw_strip(panel, times_s, labels, history, span_s)
    panel.set_ylabel(f"track {curve.track}" if curve.track else "all faces", color=_INK, fontsize=11, fontweight="bold")


def _draw_strip(panel: Axes, times_s: Any, labels: Any, history: History, span_s: float) -> None:
    """Draw the label that holds as a band, with its name where there is room."""
    colors = colors_of(history.labels)
    changes = np.flatnonzero(np.diff(labels)) + 1
    starts = np.concatenate([[0], changes])
    ends = np.concatenate([changes, [len(labels)]])
    for first, last in zip(starts, ends, strict=True):
        label = history.labels[labels[first]]
        left, right = times_s[first] - history.step_s / 2, times_s[last - 1] + history.step_s / 2
        panel.broken_barh([(left, right - left)], _STRIP, facecolor=colors[label], edgecolor="none")
        if (right - left) / span_s >= _NAMED_SHARE:
            center = ((left + right) / 2, _STRIP[0] + _STRIP[1] / 2)
            panel.text(*center, label, ha="center", va="center_baseline", fontsize=9, color=text_on(colors[label]))


def _dress(panel: Axes, start_s: float, end_s: float) -> None:
    """Set scales, grid and frame."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    panel.set_xlim(start_s, end_s)
    panel.set_ylim(_STRIP[0] - 0.02, 1.03)
    panel.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    panel.xaxis.set_major_locator(MultipleLocator(_tick_s(end_s - start_s)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda time_s, _: format_time(time_s, end_s - start_s)))
    panel.grid(color=_FAINT, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(colors=_INK, labelsize=10, length=0)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(_FAINT)


def _tick_s(span_s: float) -> float:
    """Choose a distance between ticks that people count in, so that there are at most a dozen."""
    return next((step_s for step_s in _TICKS_S if span_s / step_s <= _MOST_TICKS), span_s / _MOST_TICKS)


def _head(figure: Figure, name: str, history: History, shown: int, height_in: float) -> None:
    """Draw the title, and a legend that all panels share."""
    from matplotlib.lines import Line2D

    hidden = history.tracks_seen - shown
    more = f" (the {shown} longest of {history.tracks_seen} tracks)" if hidden > 0 else ""
    # `$` starts a formula in matplotlib, unless it is told that there is none.
    title = figure.text(0.07, 1 - 0.3 / height_in, f"Apparent expression over time: {_short(name)}{more}")
    title.set(fontsize=13, fontweight="bold", color=_INK, va="center", parse_math=False)
    handles = [Line2D([], [], color=color, linewidth=4) for color in colors_of(history.labels).values()]
    figure.legend(
        handles,
        history.labels,
        loc="center left",
        bbox_to_anchor=(0.06, 1 - 0.65 / height_in),
        ncols=max(1, math.ceil(len(history.labels))),
        frameon=False,
        fontsize=10.5,
        handlelength=1.2,
        columnspacing=1.6,
    )


def _short(name: str, most: int = 60) -> str:
    """Return the end of a long name, which tells more than its beginning."""
    return name if len(name) <= most else f"...{name[3 - most :]}"
