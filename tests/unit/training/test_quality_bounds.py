"""What bounds of a face's quality do to the answers, and the head model behind yaw and pitch."""

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import fer_contract as contract
from fer_client import QualityBound
from fer_detector import Detections
from fer_faces import FER2013_LANDMARKS
from fer_quality import HEAD_MODEL, measure_crop
from fer_training import quality_bounds, shown_faces
from fer_training.damage import CLEAN, DAMAGES
from fer_training.errors import DataError
from fer_training.faces import LabelledFaces
from fer_training.head_model import fit_head_model
from fer_training.quality_bounds import Answers, accuracy_at_coverage, find_out_of_bounds

RESULTS = Path(__file__).resolve().parents[3] / "training" / "RESULTS.md"
COLUMNS = contract.QUALITY_COLUMNS


def answers_of(confidence, right, weights=None, **columns):
    """Answers whose other columns are in order."""
    count = len(confidence)
    quality = np.tile([40.0, 1.5, 128, 50, 0, 0, 0, 0], (count, 1))
    for name, values in columns.items():
        quality[:, COLUMNS.index(name)] = values
    weights = np.ones(count) if weights is None else np.array(weights, float)
    return Answers(np.array(confidence, float), np.array(right, bool), quality, weights)


def test_the_surest_answers_are_those_within_bounds_first():
    answers = answers_of([0.9, 0.8, 0.7, 0.6, 0.5], [0, 1, 1, 1, 0])
    assert accuracy_at_coverage(answers, np.zeros(5, bool)) == pytest.approx((0 + 1 + 1 + 0.5) / 3.5)
    assert accuracy_at_coverage(answers, np.array([1, 0, 0, 0, 0], bool)) == pytest.approx(3 / 3.5)


def test_an_answer_counts_by_its_weight():
    answers = answers_of([0.9, 0.8, 0.7], [1, 0, 0], weights=[4, 1, 5])
    assert accuracy_at_coverage(answers, np.zeros(3, bool)) == pytest.approx(4 / 7)


def test_where_all_are_beyond_a_bound_the_probability_decides():
    answers = answers_of([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 0])
    all_out = np.ones(4, bool)
    assert accuracy_at_coverage(answers, all_out) == accuracy_at_coverage(answers, ~all_out)


def test_what_a_crop_does_not_tell_is_not_out_of_bounds():
    answers = answers_of([0.9] * 3, [1] * 3, yaw_deg=[np.nan, 10, 70])
    bounds = [QualityBound("yaw_deg", -40, 40, ""), QualityBound("eye_distance_px", 100, np.inf, "")]
    assert find_out_of_bounds(answers, bounds).tolist() == [False, False, True]


class MiddleDetector:
    """Finds a face wherever there is a photo, in FER2013's frame, and another one in a corner; none in white ones."""

    def detect(self, image):
        if image.mean() == 255:
            return Detections(np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, np.float32))
        zoom, margin = shown_faces.ZOOM, shown_faces.MARGIN_PX
        middle = FER2013_LANDMARKS * zoom + margin
        centre = margin + zoom * 24
        boxes = np.array([[0, 0, 90, 90], [centre - 40, centre - 40, centre + 40, centre + 40]], np.float32)
        return Detections(boxes, np.stack([middle - margin, middle]), np.ones(2, np.float32))


def test_a_face_that_is_shown_comes_back_as_it_was():
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (48, 48), np.uint8), (0, 0), 2)
    white = np.full((48, 48), 255, np.uint8)
    shown = shown_faces.show_faces(np.stack([white, image]), MiddleDetector())
    assert shown.found.tolist() == [False, True]
    assert not shown.crops[0].any()
    assert np.abs(shown.crops[1, 2:-2, 2:-2].astype(int) - image[2:-2, 2:-2]).max() < 12
    assert np.allclose(shown.landmarks[1], FER2013_LANDMARKS, atol=1e-3)
    assert shown.quality[1, 0] == pytest.approx(17, abs=0.1)


def test_the_head_model_is_found_again_from_heads_that_turn():
    rng = np.random.default_rng(0)
    landmarks = []
    for yaw in np.radians(rng.uniform(-50, 50, 400)):
        x, y = np.cos(yaw) * HEAD_MODEL[:, 0] - np.sin(yaw) * HEAD_MODEL[:, 2], HEAD_MODEL[:, 1]
        landmarks.append(np.stack([x, y], axis=1) * rng.uniform(20, 90) + rng.uniform(0, 100, 2))
    model = fit_head_model(np.array(landmarks, np.float32))
    assert model.nose_out == pytest.approx(-HEAD_MODEL[2, 2], abs=1e-3)
    assert (model.nose_down, model.mouth_down) == pytest.approx((HEAD_MODEL[2, 1], HEAD_MODEL[3, 1]), abs=1e-3)
    assert model.mouth_width == pytest.approx(2 * HEAD_MODEL[4, 0], abs=1e-3)
    assert model.residual < 1e-3


@pytest.mark.parametrize("quarters", range(4))
def test_a_cut_repeats_the_edge_of_the_photo(quarters):
    image = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
    turned = np.rot90(quality_bounds._cut_off(image, 0.25, quarters), quarters)
    assert np.array_equal(turned[:, :36], np.rot90(image, quarters)[:, :36])
    assert (turned[:, 36:] == turned[:, 35:36]).all()


def test_smaller_faces_are_less_sharp():
    image = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
    sharpness = [measure_crop(quality_bounds._shrink(image, side))[0] for side in quality_bounds.SIDES_PX]
    assert (np.diff(sharpness) < 0).all()


def test_results_are_of_the_bounds_that_are_served():
    assert f"\n    {quality_bounds.read_served_bounds()}\n" in RESULTS.read_text()


def test_served_bounds_are_read_as_they_stand():
    bounds = list(quality_bounds.parse_bounds(quality_bounds.read_served_bounds()))
    assert {bound.column for bound in bounds} <= set(COLUMNS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sharpness:x", "expected column:min:max:reason, but found 'sharpness:x'"),
        ("size:3::small", "a column is one of eye_distance_px, .*not 'size'"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(text, message):
    with pytest.raises(DataError, match=message):
        list(quality_bounds.parse_bounds(text))


@pytest.fixture
def small_evaluation(monkeypatch):
    """Twelve faces, a network that is sure of bright ones, and a detector that finds every face."""
    rng = np.random.default_rng(0)
    faces = LabelledFaces(rng.integers(1, 255, (12, 48, 48), np.uint8), np.arange(12) % 7)

    def predict(_, shown):
        probabilities = np.full((len(shown), 7), 0.05)
        probabilities[:, 3] = 0.7
        return probabilities

    monkeypatch.setattr(quality_bounds, "predict_with_onnx", predict)
    monkeypatch.setattr(quality_bounds, "open_detector", MiddleDetector)
    return faces


def test_every_kind_of_copies_is_answered_both_ways(small_evaluation):
    photos = quality_bounds.answer_photos("network.onnx", small_evaluation)
    crops = quality_bounds.answer_crops("network.onnx", small_evaluation)
    assert list(photos) == list(crops) == list(DAMAGES)
    assert photos[CLEAN].weights[0] == len(DAMAGES) - 1
    assert np.isfinite(photos[CLEAN].quality).all()
    assert np.isnan(crops[CLEAN].column("yaw_deg")).all()
    table = quality_bounds.format_copies(crops, 12, [QualityBound("brightness", 60, np.inf, "too dark")], 0.5)
    dark = next(line for line in table.splitlines() if line.startswith("| 0.15 of the light"))
    assert dark.endswith("| none |")
    assert table.splitlines()[-1].startswith("| **all, half of them as they are** |")


def test_sweeps_are_tables(small_evaluation):
    for sweep in (quality_bounds.sweep_sizes, quality_bounds.sweep_cuts):
        header, rule, *rows = sweep("network.onnx", small_evaluation, 0.5).splitlines()
        assert header.count("|") == rule.count("|") == rows[0].count("|")
    turns = quality_bounds.tabulate_turns(answers_of([0.9, 0.4], [1, 0], yaw_deg=[-45.0, 5]), 0.5)
    assert "| 40 to 50° | 1 | 100.0% | 0.900 | 100.0% | 100.0% |" in turns
