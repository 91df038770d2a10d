"""Draws the probabilities of each track over time as a PNG."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fer_client.video.clock import format_time
from fer_client.video.errors import VideoError, require
from fer_client.video.history import Curve, History
from fer_client.video.palette import colors_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
"""Of the width: where a label lasts as long, its strip has room for its name."""
_TICKS_S: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
_MOST_TICKS: Final = 13
_LONGEST_GAP_STEPS: Final = 2.5
"""A curve is broken where its track was out of sight for longer."""


def plot(history: History, name: str, start_s: float, end_s: float, path: Path) -> None:
    """Draw a panel for each track: a curve for each label, and under them a strip of the label that holds.

    Where there are more tracks than panels, the first panel is of all faces together.

    Args:
        history: What was seen.
        name: Of the video, for the title.
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
    """The label that holds, as a band; with its name where there is room."""
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
            panel.text(*center, label, ha="center", va="center_baseline", fontsize=9, color=_text_on(colors[label]))


def _text_on(color: str) -> str:
    """Black or white, whichever is easier to read there. Source: ITU-R BT.601 luma."""
    red, green, blue = (int(color[index : index + 2], 16) for index in (1, 3, 5))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else "white"


def _dress(panel: Axes, start_s: float, end_s: float) -> None:
    """Scales, grid and frame."""
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
    """A distance between ticks that people count in, so that there are at most a dozen."""
    return next((step_s for step_s in _TICKS_S if span_s / step_s <= _MOST_TICKS), span_s / _MOST_TICKS)


def _head(figure: Figure, name: str, history: History, shown: int, height_in: float) -> None:
    """Title, and a legend that all panels share."""
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
    """The end of a long name, which tells more than its beginning."""
    return name if len(name) <= most else f"...{name[3 - most :]}"
