"""A released network with the normalisation of light and sharpness put before it."""

import dataclasses
import json
import shutil

import numpy as np
import onnx
import pytest
from small_data import fer_train, write_fer2013

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import torch

from fer_training.add_normalisation import add_normalisation
from fer_training.appearance import AppearanceNormaliser
from fer_training.errors import ModelFileError
from fer_training.export import export
from fer_training.network import normalise
from fer_training.onnx_classifier import open_onnx, predict_onnx
from fer_training.train import train


@pytest.fixture(scope="module")
def old(tmp_path_factory, recipe, data):
    checkpoint = train(recipe, data, tmp_path_factory.mktemp("run"), device=torch.device("cpu"))
    return export(checkpoint, data.validation, tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def new(tmp_path_factory, old, data):
    return add_normalisation(old, data.validation, tmp_path_factory.mktemp("new"))


def metadata_of(path):
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def logits_of(path, images):
    return np.log(predict_onnx(open_onnx(path), images))


def test_the_new_file_answers_as_the_old_one_does_to_evened_faces(old, new, data):
    """But for the temperatures, and for the evidence that the contrast gives."""
    images = data.validation.images
    views, evidence = AppearanceNormaliser()(normalise(torch.from_numpy(images[:, None])))
    rounded = (views * 64 + 128).round().to(torch.uint8)[:, 0].numpy()
    temperatures = [float(metadata_of(path)["fer.temperature"]) for path in (old, new)]
    expected = logits_of(old, rounded) * temperatures[0] * evidence.numpy() / temperatures[1]
    found = logits_of(new, images)
    centred = [logits - logits.mean(axis=1, keepdims=True) for logits in (found, expected)]
    np.testing.assert_allclose(*centred, atol=0.1)  # Rounding to whole gray levels.


def test_the_papers_say_whose_weights_they_are_and_how_they_were_trained(old, new):
    before, after = metadata_of(old), metadata_of(new)
    metrics, earlier = (json.loads((path.parent / "metrics.json").read_text()) for path in (new, old))
    assert after["fer.version"] == "tiny-evened" == metrics["model"]["version"]
    assert json.loads(after["fer.recipe"]) == {**json.loads(before["fer.recipe"]), "name": "tiny-evened"}
    weights_of = {"version": "tiny", "sha256": earlier["model"]["sha256"]}
    assert json.loads(after["fer.weights_of"]) == metrics["training"]["weights_of"] == weights_of
    assert {**metrics["training"], "weights_of": None} == {**earlier["training"], "weights_of": None}
    assert metrics["export"]["command"] == (
        "fer-train add-normalisation --onnx runs/tiny/fer_classifier.onnx --fer2013 DIR --out training/release --force"
    )


def test_the_same_file_gives_the_same_bytes(old, new, data, tmp_path):
    assert add_normalisation(old, data.validation, tmp_path).read_bytes() == new.read_bytes()


def test_a_file_that_has_it_already_is_refused(new, data, tmp_path):
    with pytest.raises(ModelFileError, match=r"normalises light and sharpness already\. Give a file that does not"):
        add_normalisation(new, data.validation, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_of_a_network_that_was_trained_with_it_is_refused(recipe, data, tmp_path):
    network = dataclasses.replace(recipe.network, normalise_appearance=True)
    checkpoint = train(dataclasses.replace(recipe, network=network), data, tmp_path / "run", device=torch.device("cpu"))
    trained = export(checkpoint, data.validation, tmp_path / "trained")
    with pytest.raises(ModelFileError, match="normalises light and sharpness already"):
        add_normalisation(trained, data.validation, tmp_path / "out")


def test_metrics_that_are_missing_or_of_another_file_are_refused(old, new, data, tmp_path):
    shutil.copy(old, tmp_path)
    alone = tmp_path / old.name
    with pytest.raises(ModelFileError, match=r"metrics.json: must be the old release's, which says how it was trained"):
        add_normalisation(alone, data.validation, tmp_path / "out")
    shutil.copy(new.parent / "metrics.json", tmp_path)
    with pytest.raises(ModelFileError, match=r"metrics.json: is of another ONNX file"):
        add_normalisation(alone, data.validation, tmp_path / "out")


def test_the_command_is_one_line_for_a_file_that_is_not_there(capsys, tmp_path):
    arguments = ["--onnx", "none.onnx", "--fer2013", str(write_fer2013(tmp_path)), "--out", str(tmp_path / "out")]
    assert fer_train("add-normalisation", *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fer-train add-normalisation: none.onnx: is not there.")
