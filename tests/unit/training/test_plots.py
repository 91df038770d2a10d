"""Pictures: they are there, whole, and show the data. How they look is for eyes."""

from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")
pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e '.[train]'")

from PIL import Image  # A part of matplotlib's own needs.

from fer_training.checkpoint import EpochRecord
from fer_training.errors import MatplotlibMissingError
from fer_training.metrics import compute_figures
from fer_training.plots import new_figure, plot_confusion, plot_curves, plot_reliability, plot_risk_coverage
from fer_training.temperature import recommend_threshold

BLUE, VERMILLION = (0, 114, 178), (213, 94, 0)


def draw_answers(exaggeration: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (500, 7))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (probabilities.cumsum(axis=1) > rng.random((500, 1))).argmax(axis=1)
    exaggerated = probabilities**exaggeration
    return exaggerated / exaggerated.sum(axis=1, keepdims=True), labels


def read_whole(path) -> np.ndarray:
    """The picture's pixels, (height, width, 3). Fails where something touches its edge, and may be cut off."""
    pixels = np.asarray(Image.open(BytesIO(path.read_bytes())).convert("RGB"))
    for edge in (pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:]):
        assert (edge == 255).all()
    assert len(np.unique(pixels @ [65536, 256, 1])) > 50
    return pixels


def find_colour(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(pixels.astype(int) - colour).max(axis=-1) < 12


def count_colour(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int(find_colour(pixels, colour).sum())


def has_dot(pixels: np.ndarray, colour: tuple[int, int, int]) -> bool:
    """Whether a square of 9 px is filled with the colour, as no letter and no line is."""
    columns = np.lib.stride_tricks.sliding_window_view(find_colour(pixels, colour), 9, axis=0).all(axis=-1)
    return bool(np.lib.stride_tricks.sliding_window_view(columns, 9, axis=1).all(axis=-1).any())


def test_the_confusion_matrix_is_as_large_as_its_classes_need_and_dark_where_the_answers_are(tmp_path):
    labels = np.repeat(np.arange(7), 5)
    plot_confusion(compute_figures(np.eye(7)[labels], labels), "all right", tmp_path / "right.png")
    plot_confusion(compute_figures(np.eye(7)[np.zeros(35, int)], labels), "all angry", tmp_path / "angry.png")
    right, angry = read_whole(tmp_path / "right.png"), read_whole(tmp_path / "angry.png")
    assert right.shape == angry.shape == (1125, 1387, 3)

    def darkness(pixels: np.ndarray, row: int, column: int) -> float:
        # The matrix lies between about 11 % and 88 % of the width and 9 % and 92 % of the height.
        height, width = pixels.shape[:2]
        y, x = height * (0.09 + 0.83 * (row + 0.85) / 7), width * (0.11 + 0.77 * (column + 0.5) / 7)
        return 1 - float(pixels[int(y), int(x)].mean()) / 255

    for row in range(7):
        for column in range(7):
            assert (darkness(right, row, column) > 0.5) == (row == column)
            assert (darkness(angry, row, column) > 0.5) == (column == 0)


def test_a_matrix_of_two_classes_with_long_names_is_whole(tmp_path):
    figures = compute_figures(
        np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]), ("contemptuous", "not contemptuous")
    )
    plot_confusion(figures, "/".join(["long"] * 40) + " on PublicTest", tmp_path / "small.png")
    assert read_whole(tmp_path / "small.png").shape == (660, 1260, 3)


def test_the_reliability_diagram_shows_exaggeration(tmp_path):
    for name, exaggeration in (("calibrated", 1.0), ("exaggerated", 2.0)):
        plot_reliability(*draw_answers(exaggeration), name, tmp_path / f"{name}.png")
    calibrated, exaggerated = read_whole(tmp_path / "calibrated.png"), read_whole(tmp_path / "exaggerated.png")
    assert calibrated.shape == exaggerated.shape == (1140, 1080, 3)
    assert count_colour(calibrated, VERMILLION) > 100  # The diamonds.
    assert not np.array_equal(calibrated, exaggerated)


def test_the_risk_coverage_curve_marks_the_threshold(tmp_path):
    probabilities, labels = draw_answers()
    for name, target in (("reached", 0.8), ("unreachable", 1.01), ("at once", 0.1)):
        threshold = recommend_threshold(probabilities, labels, target)
        assert (threshold.threshold is None) == (name == "unreachable")
        plot_risk_coverage(probabilities, labels, threshold, name, tmp_path / f"{name}.png")
    reached, unreachable, _ = (read_whole(tmp_path / f"{name}.png") for name in ("reached", "unreachable", "at once"))
    assert reached.shape == (840, 1230, 3)
    assert count_colour(reached, BLUE) > 1000
    assert has_dot(reached, VERMILLION)
    assert not has_dot(unreachable, VERMILLION)


def test_pictures_of_one_image_can_be_drawn(tmp_path):
    probabilities, labels = np.full((1, 7), 1 / 7), np.array([3])
    plot_confusion(compute_figures(probabilities, labels), "one", tmp_path / "confusion.png")
    plot_reliability(probabilities, labels, "one", tmp_path / "reliability.png")
    plot_risk_coverage(
        probabilities, labels, recommend_threshold(probabilities, labels), "one", tmp_path / "risk_coverage.png"
    )
    assert all(read_whole(path).size for path in tmp_path.iterdir())


def draw_history(epochs: int) -> list[EpochRecord]:
    """A run whose accuracy rises to the right end, as most do."""
    return [
        EpochRecord(epoch, 48, 0.1 / epoch, 2 / epoch, 0.7 * epoch / epochs, 1.9 / epoch, 100.0, 1.0, 1.0)
        for epoch in range(1, epochs + 1)
    ]


@pytest.mark.parametrize("epochs", [1, 20, 200])
def test_curves_are_whole_and_drawn_over_an_older_picture(tmp_path, epochs):
    for count in (1, epochs):
        plot_curves(tmp_path / "curves.png", draw_history(count), "first")
    pixels = read_whole(tmp_path / "curves.png")
    assert pixels.shape == (660, 1890, 3)
    assert count_colour(pixels, BLUE) > 100
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


@pytest.mark.parametrize("epochs", [1, 20, 200])
def test_no_curve_strikes_a_label_through(monkeypatch, epochs):
    """What is written, but for the legend, stands outside of the axes, where no curve can get."""
    drawn = []
    monkeypatch.setattr("fer_training.plots.save_png", lambda figure, path: drawn.append(figure))
    plot_curves(Path("curves.png"), draw_history(epochs), "face-taught")
    [figure] = drawn
    figure.canvas.draw()
    for panel in figure.axes:
        frame = panel.get_window_extent()
        texts = [*panel.texts, *(panel.title, panel._left_title, panel._right_title)]
        assert not [text.get_text() for text in texts if text.get_text() and text.get_window_extent().overlaps(frame)]
        titles = [text.get_window_extent() for text in texts if text.get_text()]
        assert all(title.x1 <= figure.bbox.x1 for title in titles)
    for left, right in pairwise(panel._left_title.get_window_extent() for panel in figure.axes):
        assert not right.width or left.x1 < right.x0


def test_nothing_is_left_in_matplotlibs_global_state(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    plot_reliability(*draw_answers(), "any", tmp_path / "any.png")
    assert dict(matplotlib.rcParams) == before


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr("fer_training.plots.find_spec", lambda name: None)
    with pytest.raises(MatplotlibMissingError, match=r"pip install 'fer-triton\[train\]'"):
        new_figure(1, 1)
