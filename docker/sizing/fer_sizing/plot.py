"""The picture of a simulated day and a rollout. Called by `fer_sizing.simulate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from fer_sizing.arrivals import Floats
from fer_sizing.scenarios import ROLLOUT_AT_S, Outcome

_COLORS: Final = ("#1b6ca8", "#d98e04", "#c0392b", "#8a959b", "#2c3e50")
_MINUTE: Final = 60
_ZOOM_STEP_S: Final = 10


def plot(
    days: Sequence[Outcome], rollouts: Sequence[Outcome], capacity_per_pod: float, spike_at_s: float, out: Path
) -> None:
    """Draws load and capacity, pods, what was lost over the day and at the spike, and a rollout with and without pause.

    Args:
        days: the chart's first.
        rollouts: the chart's first.
        capacity_per_pod: images/s.
        spike_at_s: second of the day.
        out: the picture's file.
    """
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10, 13), layout="constrained")
        axes = figure.subplots(5, 1, height_ratios=[3, 3, 3, 3, 2])
        _draw_load(axes[0], days[0], capacity_per_pod)
        _draw_pods(axes[1], days)
        _draw_lost(axes[2], days)
        _draw_spike(axes[3], days, int(spike_at_s))
        _draw_rollouts(axes[4], rollouts)
        figure.savefig(out, dpi=110)


def _means(series: Floats, step_s: int) -> Floats:
    whole = len(series) // step_s * step_s
    return np.asarray(series[:whole].reshape(-1, step_s).mean(axis=1), np.float64)


def _hours(count: int) -> Floats:
    return np.arange(count) * _MINUTE / 3600


def _draw_load(axis: Any, day: Outcome, capacity_per_pod: float) -> None:
    capacity, offered = _means(day.series.serving, _MINUTE) * capacity_per_pod, _means(day.series.offered, _MINUTE)
    hours = _hours(len(offered))
    axis.fill_between(hours, capacity, color="#dbe9f4", step="post", label=f"what the pods can do ({day.name})")
    axis.plot(hours, offered, color=_COLORS[0], linewidth=1, label="images that arrive")
    axis.set(title="Load and capacity", ylabel="images/s", xlim=(0, hours[-1]), ylim=(0, None))
    axis.legend(loc="upper left", frameon=False)


def _draw_pods(axis: Any, days: Sequence[Outcome]) -> None:
    for rank, (day, color) in enumerate(zip(days, _COLORS, strict=True)):
        pods = _means(day.series.pods, _MINUTE)
        label = f"{day.name}: {day.pod_hours:.0f} pod hours"
        axis.step(_hours(len(pods)), pods, color=color, linewidth=1.2, where="post", label=label, zorder=9 - rank)
    axis.set(title="Pods that cost money: starting, serving, ending", ylabel="pods", ylim=(0, None))
    axis.set_xlim(0, _hours(len(pods))[-1])
    axis.legend(loc="upper left", frameon=False)


def _lost_percent(day: Outcome, step_s: int) -> Floats:
    lost, offered = _means(day.series.lost, step_s), _means(day.series.offered, step_s)
    return np.asarray(100 * lost / np.maximum(offered, 1e-9), np.float64)


def _draw_lost(axis: Any, days: Sequence[Outcome]) -> None:
    for rank, (day, color) in enumerate(zip(days, _COLORS, strict=True)):
        lost = _lost_percent(day, _MINUTE)
        of_day = (day.shed + day.refused) / day.images
        label = f"{day.name}: {of_day:.2%} of the day"
        axis.plot(_hours(len(lost)), lost, color=color, linewidth=1.2, label=label, zorder=9 - rank)
    axis.set(
        title="Images that were not answered (503)", ylabel="% in a minute", xlabel="hour of the day", ylim=(0, None)
    )
    axis.set_xlim(0, _hours(len(lost))[-1])
    axis.legend(loc="upper left", frameon=False)


def _draw_spike(axis: Any, days: Sequence[Outcome], spike_at_s: int) -> None:
    window = slice((spike_at_s - 60) // _ZOOM_STEP_S, (spike_at_s + 1200) // _ZOOM_STEP_S)
    for rank, (day, color) in enumerate(zip(days, _COLORS, strict=True)):
        lost = _lost_percent(day, _ZOOM_STEP_S)[window]
        minutes = -1 + np.arange(len(lost)) * _ZOOM_STEP_S / 60
        axis.plot(minutes, lost, color=color, linewidth=1.2, zorder=9 - rank)
    axis.set(title="The same, at the spike", ylabel="% in 10 s", xlabel="minutes since the spike began", ylim=(0, None))


def _draw_rollouts(axis: Any, rollouts: Sequence[Outcome]) -> None:
    for rollout, color in zip(rollouts, (_COLORS[0], _COLORS[2]), strict=True):
        label = f"{rollout.name}: {rollout.shed + rollout.refused} of {rollout.images} lost"
        axis.plot(np.cumsum(rollout.series.lost), color=color, label=label)
    axis.axvline(ROLLOUT_AT_S, color="#7d8a8c", linewidth=1, linestyle=":")
    axis.set(
        title="A rollout of 8 replicas that are 60 % busy", ylabel="images lost so far", xlabel="s", ylim=(-5, None)
    )
    axis.set_xlim(0, len(rollouts[0].series.lost))
    axis.legend(loc="upper left", frameon=False)
