"""Figures on damaged copies, and the command around them."""

import json

import numpy as np
import onnx
import pytest
from small_data import fer_train, write_fer2013

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

from fer_build.release import RELEASED_ONNX
from fer_contract import ONNX_UNCERTAIN_BELOW_KEY
from fer_training.damage import CLEAN, DAMAGES, damage
from fer_training.faces import LabelledFaces
from fer_training.metrics import compute_figures
from fer_training.prediction import predict_with_onnx
from fer_training.robustness import damage_faces, format_robustness, measure_robustness, read_robustness


@pytest.fixture(scope="module")
def small_fer2013(tmp_path_factory):
    return write_fer2013(tmp_path_factory.mktemp("fer2013"))


@pytest.fixture
def faces():
    return LabelledFaces(np.random.default_rng(0).integers(0, 256, (70, 48, 48), np.uint8), np.arange(70) % 7)


def answers_of(confidences, right):
    """Probabilities of 70 faces: these confidences, right or taken for the next class."""
    labels = np.arange(70) % 7
    values = np.repeat((1 - np.asarray(confidences))[:, None] / 6, 7, axis=1)
    values[np.arange(70), np.where(right, labels, (labels + 1) % 7)] = confidences
    return values


def run(*arguments: object) -> int:
    return fer_train("robustness", *arguments)


def test_figures_are_those_of_each_kind_and_the_mean_leaves_the_clean_ones_out(faces):
    order = np.arange(70)
    probabilities = {
        CLEAN: answers_of(np.full(70, 0.9), order >= 0),
        "blur": answers_of(0.9 - order / 200, order < 35),
        "noise": answers_of(np.where(order < 14, 0.8, 0.4), order >= 14),
    }
    found = measure_robustness(probabilities, faces, uncertain_below=0.8)
    blur, noise = found.damages["blur"], found.damages["noise"]
    assert (found.damages[CLEAN].accuracy, found.damages[CLEAN].answered) == (1.0, 1.0)
    assert (blur.accuracy, blur.answered, blur.answered_accuracy) == (0.5, 0.3, 1.0)
    assert blur.risk == pytest.approx(14 / 49)  # 49 of 70 are the surest 70 %, 35 of them right.
    assert blur.ece == compute_figures(probabilities["blur"], faces.labels).ece
    assert blur.macro_f1 == compute_figures(probabilities["blur"], faces.labels).macro_f1
    assert (noise.accuracy, noise.answered, noise.answered_accuracy) == (0.8, 0.2, 0.0)
    assert noise.confidence == pytest.approx(0.2 * 0.8 + 0.8 * 0.4)
    assert found.mean.accuracy == pytest.approx((0.5 + 0.8) / 2)
    assert found.mean.answered == pytest.approx((0.3 + 0.2) / 2)


def test_nothing_answered_counts_as_nothing_right(faces):
    probabilities = dict.fromkeys((CLEAN, "blur"), answers_of(np.full(70, 0.5), np.arange(70) >= 0))
    found = measure_robustness(probabilities, faces, uncertain_below=0.6)
    assert (found.mean.answered, found.mean.answered_accuracy) == (0.0, 0.0)


def test_damaged_faces_keep_their_labels(faces):
    damaged = damage_faces(faces, "noise")
    np.testing.assert_array_equal(damaged.images[:, None], damage(faces.images[:, None], "noise"))
    assert damaged.labels is faces.labels


def test_the_command_measures_all_kinds_as_json_and_as_a_table(capsys, small_fer2013):
    arguments = ("--onnx", RELEASED_ONNX, "--fer2013", small_fer2013)
    assert run(*arguments, "--json") == 0
    text = capsys.readouterr().out
    document, found = json.loads(text), read_robustness(text)
    assert (document["file"], document["usage"], found.images) == (RELEASED_ONNX.name, "PublicTest", 14)
    assert list(found.damages) == list(DAMAGES)
    metadata = {entry.key: entry.value for entry in onnx.load(RELEASED_ONNX).metadata_props}
    assert found.uncertain_below == float(metadata[ONNX_UNCERTAIN_BELOW_KEY])
    assert run(*arguments) == 0
    assert capsys.readouterr().out.endswith(f"{format_robustness(found)}\n")


def test_a_checkpoint_is_measured_with_the_threshold_of_the_clean_images(capsys, tmp_path, recipe, data, small_fer2013):
    import torch

    from fer_training.train import train

    checkpoint = train(recipe, data, tmp_path, device=torch.device("cpu"))
    assert run("--checkpoint", checkpoint, "--fer2013", small_fer2013, "--json") == 0
    found = read_robustness(capsys.readouterr().out)
    assert found.damages[CLEAN].answered_accuracy >= 0.8 or found.uncertain_below == 1.0


def test_a_file_that_does_not_say_what_is_uncertain_is_one_line_and_exit_code_2(capsys, tmp_path, small_fer2013):
    model = onnx.load(RELEASED_ONNX)
    kept = [entry for entry in model.metadata_props if entry.key != ONNX_UNCERTAIN_BELOW_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, tmp_path / "silent.onnx")
    assert run("--onnx", tmp_path / "silent.onnx", "--fer2013", small_fer2013) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"metadata {ONNX_UNCERTAIN_BELOW_KEY} must be a number from 0 to 1, but is None" in line


def test_predictions_are_those_of_the_damaged_pixels(capsys, small_fer2013):
    from fer_training.fer2013 import load_evaluation_data

    assert run("--onnx", RELEASED_ONNX, "--fer2013", small_fer2013, "--json") == 0
    found = read_robustness(capsys.readouterr().out)
    faces = load_evaluation_data(small_fer2013, "PublicTest")
    dark = predict_with_onnx(RELEASED_ONNX, damage_faces(faces, "dark 0.15"))
    assert found.damages["dark 0.15"].confidence == pytest.approx(float(dark.max(axis=1).mean()))
