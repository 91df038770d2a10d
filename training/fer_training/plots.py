"""Plots as PNG files: `evaluate` draws confusion, reliability, risk and coverage, `train` the course of a run.

`probabilities` are float, (N, C), and `labels` int64, (N,), as in `metrics`; `title` says what was measured on what;
`path` is the PNG, written over an older one, in a folder that exists.

They are drawn with matplotlib's objects alone: its global state and windows play no part. Colours are those that
colour-blind people tell apart too. Source: Okabe and Ito, Color Universal Design, 2008.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fer_training.checkpoint import EpochRecord
from fer_training.errors import MatplotlibMissingError
from fer_training.metrics import (
    CALIBRATION_BINS,
    Figures,
    Floats,
    Labels,
    calibration_bins,
    calibration_interval,
    expected_calibration_error,
    risk_coverage_curve,
)
from fer_training.temperature import UncertainThreshold

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI: Final = 150
BLUE: Final = "#0072B2"
VERMILLION: Final = "#D55E00"
GREEN: Final = "#009E73"
GRAY: Final = "#767676"
PALE: Final = "#D9D9D9"
INK: Final = "#222222"

NOTE_BOX: Final = {"facecolor": "white", "edgecolor": PALE, "boxstyle": "round,pad=0.5"}

TITLE_PT: Final = 13
TITLE_CHARACTERS: Final = 56
"""Length of a title that fits into the narrowest picture."""
LABEL_PT: Final = 12
TICK_PT: Final = 11


def require_matplotlib() -> None:
    """Make sure that plots can be drawn.

    Raises:
        MatplotlibMissingError: They cannot.
    """
    if not find_spec("matplotlib"):
        raise MatplotlibMissingError("plots need matplotlib, which is not installed: pip install 'fer-triton[train]'")


def plot_confusion(figures: Figures, title: str, path: Path) -> None:
    """Draw the confusion matrix: in each cell the part of its row, which is the colour too, and the images."""
    counts = np.array(figures.confusion)
    parts = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = list(figures.classes)
    figure = new_figure(max(2.6 + 0.95 * len(names), 8.4), max(1.9 + 0.8 * len(names), 4.4))
    axes: Axes = figure.subplots()
    image = axes.imshow(100 * parts, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for row, column in np.ndindex(counts.shape):
        colour = "white" if parts[row, column] > 0.55 else INK
        weight = "bold" if row == column else "normal"
        axes.text(
            column,
            row - 0.12,
            f"{parts[row, column]:.0%}",
            ha="center",
            va="center",
            color=colour,
            size=13,
            weight=weight,
        )
        axes.text(column, row + 0.24, f"{counts[row, column]:,}", ha="center", va="center", color=colour, size=10)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(
        range(len(names)), [f"{name}\n{total:,}" for name, total in zip(names, counts.sum(axis=1), strict=True)]
    )
    axes.set_xlabel("answer", size=LABEL_PT, labelpad=8)
    axes.set_ylabel("label, with its number of images", size=LABEL_PT)
    axes.tick_params(labelsize=TICK_PT, length=0)
    axes.spines[:].set_visible(False)
    between = np.arange(len(names) - 1) + 0.5
    axes.hlines(between, -0.5, len(names) - 0.5, color="white", linewidth=1.5)
    axes.vlines(between, -0.5, len(names) - 0.5, color="white", linewidth=1.5)
    bar = figure.colorbar(image, ax=axes, fraction=0.035, pad=0.02)
    bar.set_label("part of the images with this label (%)", size=LABEL_PT)
    bar.ax.tick_params(labelsize=TICK_PT)
    bar.outline.set_visible(False)  # type: ignore[operator]
    low, high = figures.accuracy_95
    set_title(
        axes,
        title,
        f"{figures.images:,} images, accuracy {figures.accuracy:.2%} (95% interval {low:.2%} to {high:.2%})",
    )
    save_png(figure, path)


def plot_reliability(probabilities: Floats, labels: Labels, title: str, path: Path) -> None:
    """Draw how often answers are right by how sure they are, and how many answers each bin has."""
    bins = calibration_bins(probabilities, labels)
    width = 100 / CALIBRATION_BINS
    centres = (np.arange(CALIBRATION_BINS) + 0.5) * width
    used = bins.images > 0
    x, images = centres[used], bins.images[used]
    accuracy, confidence = 100 * bins.accuracy[used], 100 * bins.confidence[used]
    figure = new_figure(7.2, 7.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    upper.plot([0, 100], [0, 100], color=GRAY, linestyle="--", linewidth=1.3, label="as often right as sure")
    upper.bar(x, accuracy, width * 0.92, color=BLUE, alpha=0.85, label="right answers")
    upper.errorbar(
        x, accuracy, _wilson_errors(accuracy / 100, images) * 100, fmt="none", ecolor=INK, elinewidth=1.1, capsize=3,
        label="95% interval",
    )  # fmt: skip
    upper.plot(
        confidence, confidence, color=VERMILLION, linestyle="none", marker="D", markersize=5.5, label="mean confidence"
    )
    error = expected_calibration_error(probabilities, labels)
    (low, high), _ = calibration_interval(probabilities, labels)
    upper.text(
        0.975, 0.045, f"ECE {error:.4f}\n95% interval {low:.4f} to {high:.4f}", transform=upper.transAxes, ha="right",
        size=LABEL_PT, color=INK, linespacing=1.4, bbox=NOTE_BOX,
    )  # fmt: skip
    upper.set(ylim=(0, 100), xlim=(0, 100))
    upper.set_ylabel("right answers (%)", size=LABEL_PT)
    upper.legend(loc="upper left", fontsize=TICK_PT, frameon=False)
    bars = lower.bar(x, images, width * 0.92, color=GRAY)
    lower.bar_label(bars, [f"{count:,}" for count in images], size=9, padding=2, color=INK)
    lower.set_ylim(0, 1.22 * images.max())
    lower.set_ylabel("images", size=LABEL_PT)
    lower.set_xlabel(f"confidence (%), {CALIBRATION_BINS} bins", size=LABEL_PT)
    for axes in (upper, lower):
        tidy(axes)
    set_title(upper, title, f"{len(labels):,} images")
    save_png(figure, path)


def plot_risk_coverage(
    probabilities: Floats, labels: Labels, uncertain: UncertainThreshold, title: str, path: Path
) -> None:
    """Draw the accuracy of the answers that are given when the least sure ones are not."""
    _, accuracy = risk_coverage_curve(probabilities, labels)
    coverage = np.arange(1, len(labels) + 1) / len(labels)
    shown = coverage >= min(0.02, coverage[-1])  # Before, it is the luck of a few images.
    figure = new_figure(8.2, 5.6)
    axes: Axes = figure.subplots()
    axes.plot(100 * coverage[shown], 100 * accuracy[shown], color=BLUE, linewidth=2.4)
    bottom = 100 * min(accuracy[shown].min(), uncertain.target_accuracy) - 8
    axes.axhline(100 * uncertain.target_accuracy, color=GRAY, linestyle="--", linewidth=1.2)
    axes.annotate(
        f"target {uncertain.target_accuracy:.0%}", (100, 100 * uncertain.target_accuracy), xytext=(0, 3),
        textcoords="offset points", ha="right", va="bottom", color=GRAY, size=TICK_PT,
    )  # fmt: skip
    if uncertain.threshold is None or uncertain.accuracy is None:
        note = f"no threshold reaches {uncertain.target_accuracy:.0%}"
    else:
        x, y = 100 * uncertain.coverage, 100 * uncertain.accuracy
        axes.vlines(x, 0, y, color=VERMILLION, linestyle=":", linewidth=1.6)
        axes.plot(x, y, color=VERMILLION, marker="o", markersize=9)
        note = (
            f"uncertain below a confidence of {uncertain.threshold:.3f}:\n"
            f"{uncertain.coverage:.1%} are answered, {uncertain.accuracy:.1%} of them right"
        )
    # The curve falls from the upper left to the lower right: below it, on the left, there is always room.
    axes.text(
        0.03, 0.06, note, transform=axes.transAxes, va="bottom", color=VERMILLION, size=LABEL_PT, linespacing=1.5,
        bbox=NOTE_BOX,
    )  # fmt: skip
    axes.annotate(
        f"all answered: {accuracy[-1]:.1%}", (100, 100 * accuracy[-1]), xytext=(-6, -16), textcoords="offset points",
        ha="right", va="top", color=BLUE, size=TICK_PT,
    )  # fmt: skip
    axes.set(xlim=(0, 101), ylim=(max(bottom, 0), 101))
    axes.set_xlabel("coverage: images answered, the surest first (%)", size=LABEL_PT)
    axes.set_ylabel("right among these answers (%)", size=LABEL_PT)
    tidy(axes)
    set_title(axes, title, f"{len(labels):,} images, area above the curve (AURC) {1 - accuracy.mean():.4f}")
    save_png(figure, path)


def _wilson_errors(part: Floats, images: Labels) -> Floats:
    """Return how far the 95 % interval of a part reaches below and above it: (2, K). Source: Wilson, 1927."""
    z = 1.96
    centre = (part + z**2 / (2 * images)) / (1 + z**2 / images)
    half = z / (1 + z**2 / images) * np.sqrt(part * (1 - part) / images + z**2 / (4 * images**2))
    errors: Floats = np.stack([part - (centre - half), centre + half - part]).clip(0)
    return errors


def new_figure(width_in: float, height_in: float, *, fitted: bool = True) -> Figure:
    """Make an empty figure outside matplotlib's global state; `fitted` finds its margins when it is drawn."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width_in, height_in), dpi=DPI, facecolor="white")
    if fitted:
        figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1, wspace=0.03, hspace=0.02))
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Any) -> None:
    """Remove lines that say nothing, and add a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRAY)
    axes.tick_params(labelsize=TICK_PT, color=GRAY)
    axes.grid(axis="y", color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)


def set_title(axes: Axes, title: str, subtitle: str) -> None:
    """Set the title, shortened to its end if need be, and the figures below it."""
    title = title if len(title) <= TITLE_CHARACTERS else f"…{title[1 - TITLE_CHARACTERS :]}"
    axes.set_title(f"{title}\n{subtitle}", loc="left", size=TITLE_PT, color=INK, linespacing=1.5, pad=12)


def save_png(figure: Figure, path: Path) -> None:
    """Write the file aside and rename it, so that whoever looks at it meanwhile sees the old one or the new one."""
    aside = path.with_suffix(".tmp")
    figure.savefig(aside, format="png", metadata={"Software": None})
    aside.replace(path)


def plot_curves(path: Path, history: Sequence[EpochRecord], title: str) -> None:
    """Draw losses, accuracy and learning rate over a run's epochs.

    Raises:
        MatplotlibMissingError: matplotlib is not installed.
    """
    epochs = [record.epoch for record in history]
    # Margins are given, because finding them takes as long as the rest, and this is drawn after each epoch.
    figure = new_figure(12.6, 4.4, fitted=False)
    figure.subplots_adjust(left=0.065, right=0.985, bottom=0.15, top=0.88, wspace=0.34)
    losses, accuracies, rates = figure.subplots(1, 3)
    style = {"linewidth": 2.2, "marker": "o", "markersize": 4 if len(epochs) <= 40 else 0}
    losses.plot(epochs, [record.train_loss for record in history], color=GRAY, label="training loss", **style)
    nlls = [record.validation_nll for record in history]
    losses.plot(epochs, nlls, color=VERMILLION, label="validation NLL", **style)
    losses.legend(fontsize=TICK_PT, facecolor="white", edgecolor="none", framealpha=1)
    losses.set_ylabel("loss (nats)", size=LABEL_PT)
    losses.set_title(f"{title}, epoch {epochs[-1]}", loc="left", size=TITLE_PT, color=INK, pad=10)
    accuracy = [100 * record.validation_accuracy for record in history]
    best = max(range(len(epochs)), key=accuracy.__getitem__)
    accuracies.plot(epochs, accuracy, color=BLUE, **style)
    accuracies.set_ylabel("validation accuracy (%)", size=LABEL_PT)
    # The figures stand above the axes, where no curve can cross them.
    summary = f"last {accuracy[-1]:.2f}%, best {accuracy[best]:.2f}% in epoch {epochs[best]}"
    accuracies.set_title(summary, loc="left", size=TICK_PT, color=BLUE, pad=10)
    rates.plot(epochs, [record.learning_rate for record in history], color=GREEN, **style)
    rates.set_ylabel("learning rate", size=LABEL_PT)
    rates.set_ylim(bottom=0)
    for panel in (losses, accuracies, rates):
        panel.set_xlabel("epoch", size=LABEL_PT)
        panel.set_xlim(epochs[0] - 0.5, max(epochs[-1], epochs[0] + 4) + 0.5)
        panel.xaxis.get_major_locator().set_params(integer=True)
        tidy(panel)
    save_png(figure, path)
