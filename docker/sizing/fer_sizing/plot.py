"""The picture of a simulated day and a rollout.

Left the day, right its spike; below them a rollout with and without the pause. Colours are those of the legend on top.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from fer_sizing.cluster import Day, Floats
from fer_sizing.simulate import ROLLOUT_AT_S, ROLLOUT_LOAD, ROLLOUT_REPLICAS, Outcome

_COLORS: Final = ("#1b6ca8", "#d98e04", "#c0392b", "#8a959b", "#2c3e50")
_DASHES: Final = ("-", "-", "-", "--", "--")
"""Dashes of each scenario's line: those that do not scale are dashed."""
_WIDTHS: Final = (2.2, 1.4, 1.0, 1.4, 1.4)
_MINUTE_S: Final = 60
_ZOOM_STEP_S: Final = 10
_ZOOM_BEFORE_S: Final = 300
_ZOOM_AFTER_S: Final = 1500
_STYLE: Final = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left"}


def plot(days: Sequence[Outcome], rollouts: Sequence[Outcome], capacity_per_pod: float, day: Day, out: Path) -> None:
    """Draw load and capacity, pods, and what was lost, over the day and at the spike; and a rollout.

    Args:
        days: What the days came to, the chart's first.
        rollouts: What the rollouts came to, the chart's first.
        capacity_per_pod: Images that a pod answers per second.
        day: The load.
        out: The picture's file.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(12, 12.5), layout="constrained")
        grid = figure.add_gridspec(4, 2, width_ratios=[2, 1], height_ratios=[3, 3, 3, 2])
        rows = [[figure.add_subplot(grid[row, column]) for column in range(2)] for row in range(3)]
        for column, (axis_of, spike_s) in enumerate(
            ((_over_the_day, None), (_around_the_spike, 3600 * day.spike_at_h))
        ):
            select = axis_of(spike_s)
            _draw_load(rows[0][column], days[0], capacity_per_pod, select)
            _draw_each(rows[1][column], days, select, lambda outcome, mean: mean(outcome.series.pods))
            _draw_each(rows[2][column], days, select, _lost_percent)
        _label(rows, day)
        _draw_rollouts(figure.add_subplot(grid[3, :]), rollouts)
        legend = figure.legend(*rows[1][0].get_legend_handles_labels(), loc="outside upper left", frameon=False)
        legend.set_title(
            "Does scaling keep up with a day and its spike? Simulated, by what the number of pods is set by:"
        )
        legend.get_title().set_fontsize(13)
        legend.set_alignment("left")
        figure.savefig(out, dpi=100)


Mean = Callable[[Floats], Floats]
Select = tuple[Floats, Mean]
"""Places on the x axis, and how a series by second becomes one with a value for each of them."""


def _means(series: Floats, step_s: int) -> Floats:
    whole = len(series) // step_s * step_s
    return np.asarray(series[:whole].reshape(-1, step_s).mean(axis=1), np.float64)


def _over_the_day(_: float | None) -> Callable[[int], Select]:
    """Return the selection of the whole day: hours, by minute."""

    def select(seconds: int) -> Select:
        return np.arange(seconds // _MINUTE_S) / 60.0, lambda series: _means(series, _MINUTE_S)

    return select


def _around_the_spike(spike_s: float | None) -> Callable[[int], Select]:
    """Return the selection around the spike: minutes since its beginning, by ten seconds; empty for a shorter day."""
    begin = int(spike_s or 0) - _ZOOM_BEFORE_S
    window = slice(begin // _ZOOM_STEP_S, (begin + _ZOOM_BEFORE_S + _ZOOM_AFTER_S) // _ZOOM_STEP_S)

    def select(seconds: int) -> Select:
        places = (np.arange(seconds // _ZOOM_STEP_S) * _ZOOM_STEP_S - (spike_s or 0)) / 60.0
        return places[window], lambda series: _means(series, _ZOOM_STEP_S)[window]

    return select


def _draw_load(axis: Any, day: Outcome, capacity_per_pod: float, select: Callable[[int], Select]) -> None:
    places, mean = select(len(day.series.offered))
    capacity = mean(day.series.serving) * capacity_per_pod
    axis.fill_between(places, capacity, color="#cfe2f1", step="post", label="can be answered (the chart's HPA)")
    axis.plot(places, mean(day.series.offered), color="#222222", linewidth=1.2, label="arrive")


def _draw_each(
    axis: Any, days: Sequence[Outcome], select: Callable[[int], Select], values: Callable[[Outcome, Mean], Floats]
) -> None:
    for rank, (day, color, dash, width) in enumerate(zip(days, _COLORS, _DASHES, _WIDTHS, strict=True)):
        places, mean = select(len(day.series.offered))
        lost = (day.shed + day.refused) / day.images
        label = f"{day.name}: {lost:.2%} of the day's images not answered, {day.pod_hours:.0f} pod hours"
        axis.plot(
            places,
            values(day, mean),
            color=color,
            linestyle=dash,
            linewidth=width,
            label=label,
            zorder=9 - rank,
            drawstyle="steps-post",
        )


def _lost_percent(day: Outcome, mean: Mean) -> Floats:
    return np.asarray(100 * mean(day.series.lost) / np.maximum(mean(day.series.offered), 1e-9), np.float64)


def _label(rows: Sequence[Sequence[Any]], day: Day) -> None:
    titles = ("Images per second", "Pods that are paid for: starting, serving, ending", "Images not answered (503)")
    for (left, right), title, unit in zip(rows, titles, ("images/s", "pods", "% of a minute's images"), strict=True):
        left.set(title=title, ylabel=unit, ylim=(0, None), xlim=(0, 24), xticks=range(0, 25, 3))
        left.set_xticklabels([f"{hour}:00" for hour in range(0, 25, 3)])
        left.axvspan(day.spike_at_h - 0.1, day.spike_at_h + 0.4, color="#f3ead2", zorder=0)
        right.set(ylim=(0, None), xlim=(-_ZOOM_BEFORE_S / 60, _ZOOM_AFTER_S / 60))
        right.axvspan(0, (day.spike_s + 2 * day.spike_rise_s) / 60, color="#f3ead2", zorder=0)
    rows[0][0].legend(loc="upper left", frameon=False)
    rows[0][1].set_title(f"The spike: {day.spike_factor:g} times the load for {day.spike_s / 60:.0f} minutes")
    rows[2][1].set_ylabel("% of 10 s' images")
    rows[2][0].set_xlabel("time of day; the spike is shaded")
    rows[2][1].set_xlabel("minutes since the spike began")


def _draw_rollouts(axis: Any, rollouts: Sequence[Outcome]) -> None:
    minutes = np.arange(len(rollouts[0].series.lost)) / 60
    for rollout, color in zip(rollouts, (_COLORS[0], _COLORS[2]), strict=True):
        label = f"{rollout.name}: {rollout.shed + rollout.refused:,} of {rollout.images:,} images lost"
        axis.plot(minutes, np.cumsum(rollout.series.lost), color=color, linewidth=2, label=label)
    axis.axvline(ROLLOUT_AT_S / 60, color="#7d8a8c", linewidth=1, linestyle=":")
    axis.text(ROLLOUT_AT_S / 60 + 0.1, axis.get_ylim()[1] * 0.45, "a new version\nis rolled out", color="#5d686a")
    axis.set(
        title=f"A rollout: {ROLLOUT_REPLICAS} servers, {ROLLOUT_LOAD:.0%} busy, are replaced one after the other",
        ylabel="images lost so far",
        xlabel="minutes",
        xlim=(0, minutes[-1]),
    )
    axis.legend(loc="center right", frameon=False)
