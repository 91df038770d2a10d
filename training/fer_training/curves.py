"""The course of a training run as a picture. Written by `train` after each epoch."""

from collections.abc import Sequence
from pathlib import Path

from fer_training.plots import (
    BLUE,
    GRAY,
    GREEN,
    INK,
    LABEL_PT,
    TICK_PT,
    TITLE_PT,
    VERMILLION,
    new_figure,
    save_png,
    tidy,
)


def plot_curves(
    path: Path,
    *,
    epochs: Sequence[int],
    training_loss: Sequence[float],
    validation_nll: Sequence[float],
    validation_accuracy: Sequence[float],
    learning_rate: Sequence[float] = (),
    title: str = "training",
) -> None:
    """Draws losses, accuracy and learning rate over epochs.

    Args:
        path: the PNG, written over an older one; its folder exists.
        epochs: E of them, counted from 1, at least one.
        training_loss: E values, in nats.
        validation_nll: E values, in nats.
        validation_accuracy: E values, 0..1.
        learning_rate: E values above 0; empty leaves them out.
        title: what is trained.

    Raises:
        MatplotlibMissingError: there is no matplotlib.
        ValueError: the sequences differ in length.
    """
    for values in (training_loss, validation_nll, validation_accuracy, learning_rate or epochs):
        if len(values) != len(epochs):
            raise ValueError(f"{len(values)} values for {len(epochs)} epochs: expected one for each")
    # Margins are given, because finding them takes as long as the rest, and this is drawn after each epoch.
    figure = new_figure(12.6 if learning_rate else 8.8, 4.4, fitted=False)
    figure.subplots_adjust(left=0.065 if learning_rate else 0.09, right=0.985, bottom=0.15, top=0.88, wspace=0.26)
    panels = figure.subplots(1, 3 if learning_rate else 2)
    style = {"linewidth": 2.2, "marker": "o", "markersize": 4 if len(epochs) <= 40 else 0}
    panels[0].plot(epochs, training_loss, color=GRAY, label="training loss", **style)
    panels[0].plot(epochs, validation_nll, color=VERMILLION, label="validation NLL", **style)
    panels[0].legend(fontsize=TICK_PT, frameon=False)
    panels[0].set_ylabel("loss (nats)", size=LABEL_PT)
    accuracy = [100 * value for value in validation_accuracy]
    best = max(range(len(epochs)), key=accuracy.__getitem__)
    panels[1].plot(epochs, accuracy, color=BLUE, **style)
    panels[1].set_ylabel("validation accuracy (%)", size=LABEL_PT)
    panels[1].axhline(accuracy[best], color=BLUE, linewidth=0.9, linestyle=":")
    panels[1].text(
        0.97, 0.05, f"last {accuracy[-1]:.2f}%\nbest {accuracy[best]:.2f}%, epoch {epochs[best]}",
        transform=panels[1].transAxes, ha="right", va="bottom", size=TICK_PT, color=BLUE,
    )  # fmt: skip
    if learning_rate:
        panels[2].plot(epochs, learning_rate, color=GREEN, **style)
        panels[2].set_ylabel("learning rate", size=LABEL_PT)
        panels[2].set_ylim(bottom=0)
    for panel in panels:
        panel.set_xlabel("epoch", size=LABEL_PT)
        panel.set_xlim(epochs[0] - 0.5, max(epochs[-1], epochs[0] + 4) + 0.5)
        panel.xaxis.get_major_locator().set_params(integer=True)
        tidy(panel)
    panels[0].set_title(f"{title}, epoch {epochs[-1]}", loc="left", size=TITLE_PT, color=INK, pad=10)
    save_png(figure, path)
