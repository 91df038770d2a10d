import dataclasses
import hashlib
import json
import shutil

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import onnx
import torch

from fer_contract import LABELS, MAX_CLASSIFIER_BATCH, ONNX_LABELS_KEY, ONNX_VERSION_KEY
from fer_training.backbones.repconv import reparameterise
from fer_training.checkpoint import load_checkpoint
from fer_training.errors import CheckpointError, ModelFileError, ParityError
from fer_training.evaluate import evaluate, evaluate_onnx
from fer_training.export import check_parity, export
from fer_training.network import Classifier
from fer_training.onnx_classifier import open_onnx, predict_onnx, write_onnx
from fer_training.prediction import build_network, predict_logits, predict_with_checkpoint, softmax
from fer_training.recipe import NetworkRecipe, recipe_from_table
from fer_training.train import train


@pytest.fixture(scope="module")
def checkpoint_path(tmp_path_factory, recipe, data):
    return train(recipe, data, tmp_path_factory.mktemp("run"), device=torch.device("cpu"))


@pytest.fixture(scope="module")
def release(tmp_path_factory, checkpoint_path, data):
    """The exported ONNX file, with metrics.json beside it."""
    return export(checkpoint_path, data.validation, tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def metrics(release):
    return json.loads((release.parent / "metrics.json").read_text(encoding="utf-8"))


def test_the_file_answers_as_the_calibrated_network_does(release, metrics, checkpoint_path, data):
    images = data.validation.images
    network = build_network(load_checkpoint(checkpoint_path))
    expected = softmax(predict_logits(network, images) / np.float32(metrics["calibration"]["temperature"]))
    np.testing.assert_allclose(predict_onnx(open_onnx(release), images), expected, rtol=0, atol=1e-4)
    assert metrics["export"]["largest_difference_from_pytorch"] < 1e-4


@pytest.mark.parametrize(
    "change",
    [{"equalise": True}, {"normalise_appearance": True}, {"local_regions": True}, {"input_px": 96, "channels": 3}],
)
def test_what_a_recipe_does_to_the_pixels_is_in_the_file(recipe, data, tmp_path, change):
    torch.manual_seed(0)
    network = Classifier(dataclasses.replace(recipe.network, **change), 7).eval()
    reparameterise(network)
    write_onnx(network, 1.0, {ONNX_LABELS_KEY: ",".join(LABELS)}, tmp_path / "file.onnx")
    assert check_parity(tmp_path / "file.onnx", network, 1.0, data.validation.images[:5]) < 1e-4


@pytest.mark.parametrize("input_px", [48, 112])
def test_padding_is_one_step_of_the_graph(recipe, data, tmp_path, input_px):
    torch.manual_seed(0)
    shape = NetworkRecipe("dlib_resnet23", input_px=input_px, width=0.25, attention="se", local_regions=True)
    network = Classifier(shape, 7).eval()
    path = tmp_path / "file.onnx"
    write_onnx(network, 1.0, {ONNX_LABELS_KEY: ",".join(LABELS)}, path)
    assert check_parity(path, network, 1.0, data.validation.images[:5]) < 1e-4
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert operators.count("Pad") == 6  # three blocks that halve: zeros at the right and below, and new channels
    assert not {"ConstantOfShape", "Transpose", "Reshape"} & set(operators)


def test_the_file_says_below_which_confidence_it_is_uncertain(release, metrics):
    threshold = metrics["evaluation"]["uncertain"]["threshold"]
    (published,) = [e.value for e in onnx.load(release).metadata_props if e.key == "fer.uncertain_below"]
    assert float(published) == pytest.approx(1.0 if threshold is None else threshold, abs=1e-3)


@pytest.mark.parametrize("count", [1, 3, MAX_CLASSIFIER_BATCH])
def test_any_number_of_faces_gets_probabilities(release, data, count):
    session = open_onnx(release)
    (probabilities,) = session.run(None, {"FACES": np.resize(data.validation.images, (count, 1, 48, 48))})
    assert probabilities.shape == (count, 7)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_the_file_says_what_it_is_and_where_it_came_from(release, metrics, checkpoint_path, recipe):
    model = onnx.load(release)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    origin = load_checkpoint(checkpoint_path).origin
    assert metadata[ONNX_LABELS_KEY] == ",".join(LABELS)
    assert metadata[ONNX_VERSION_KEY] == metrics["model"]["version"] == "tiny"
    assert metadata["fer.input_size"] == "48x48"
    assert recipe_from_table(json.loads(metadata["fer.recipe"]), "") == recipe
    assert metadata["fer.commit"] == origin.commit
    assert metadata["fer.data_sha256"] == origin.data_sha256
    assert float(metadata["fer.temperature"]) == pytest.approx(metrics["calibration"]["temperature"], abs=1e-4)
    summary = json.loads(metadata["fer.metrics"])
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "ece", "nll"):
        assert summary[name] == pytest.approx(metrics["evaluation"][name], abs=1e-3), name
    assert model.opset_import[0].version >= 17


def test_the_graph_holds_folded_convolutions_and_nothing_of_training(release):
    operators = {node.op_type for node in onnx.load(release).graph.node}
    assert {"Conv", "Relu", "Softmax"} <= operators
    assert not {"BatchNormalization", "Dropout"} & operators


def test_the_same_checkpoint_gives_the_same_bytes_in_any_folder(release, checkpoint_path, data, tmp_path):
    again = export(checkpoint_path, data.validation, tmp_path / "elsewhere")
    assert again.read_bytes() == release.read_bytes()


def test_no_path_of_this_machine_is_in_the_release(release, checkpoint_path):
    for content in (release.read_bytes(), (release.parent / "metrics.json").read_bytes()):
        for path in (release.parent, checkpoint_path.parent, __file__, torch.__file__):
            assert str(path).encode() not in content
        assert b".py" not in content.replace(b"python", b"")


def test_the_figures_file_describes_the_file_beside_it(release, metrics, checkpoint_path, data):
    assert metrics["model"]["file"] == release.name == "fer_classifier.onnx"
    assert metrics["model"]["sha256"] == hashlib.sha256(release.read_bytes()).hexdigest()
    assert metrics["model"]["size_bytes"] == release.stat().st_size
    assert metrics["evaluation"]["accuracy"] == evaluate_onnx(release, data.validation).accuracy
    before = evaluate(predict_with_checkpoint(checkpoint_path, data.validation), data.validation)
    assert metrics["evaluation"]["accuracy"] == before.accuracy
    assert metrics["calibration"]["ece_before"] == before.ece
    assert metrics["evaluation"]["nll"] <= metrics["calibration"]["nll_before"] + 1e-6
    assert metrics["speed"]["images_per_s"] > 0
    assert metrics["training"]["seed"] == 3
    assert metrics["training"]["images"] == 112


def test_a_file_that_computes_something_else_is_refused(release, metrics, checkpoint_path, data):
    network = build_network(load_checkpoint(checkpoint_path))
    temperature = metrics["calibration"]["temperature"]
    with pytest.raises(ParityError, match=r"probabilities differ from PyTorch's by up to .* more than 0.0001"):
        check_parity(release, network, temperature * 1.5, data.validation.images)


def test_an_unfinished_run_is_not_released(checkpoint_path, data, tmp_path):
    checkpoint = load_checkpoint(checkpoint_path)
    dataclasses.replace(checkpoint, history=checkpoint.history[:2]).save(tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match=r"epoch 2 of 4. Finish it with fer-train run --resume"):
        export(tmp_path / "checkpoint.pt", data.validation, tmp_path / "release")
    assert not (tmp_path / "release").exists()


def test_a_file_of_other_tensors_or_labels_is_refused(release, tmp_path):
    with pytest.raises(ModelFileError, match=r"none.onnx: is not there"):
        open_onnx(tmp_path / "none.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a network")
    with pytest.raises(ModelFileError, match=r"broken.onnx: ONNX Runtime refuses it"):
        open_onnx(broken)
    model = onnx.load(release)
    onnx.helper.set_model_props(model, {ONNX_LABELS_KEY: "happy,sad"})
    onnx.save(model, broken)
    with pytest.raises(ModelFileError, match=r"metadata fer.labels must be 'angry,.*', not 'happy,sad'"):
        open_onnx(broken)
    shutil.copy(release, broken)
    model = onnx.load(broken)
    model.graph.node[-1].output[0] = model.graph.output[0].name = "SCORES"
    onnx.save(model, broken)
    with pytest.raises(ModelFileError, match=r"expected one output PROBABILITIES.*found SCORES"):
        open_onnx(broken)


def test_weights_in_another_file_are_refused(release, tmp_path):
    """The hash of a teacher's file, and the figures of a release, would be of half of it."""
    path = tmp_path / "split.onnx"
    onnx.save(onnx.load(release), path, save_as_external_data=True, location="split.data", size_threshold=0)
    with pytest.raises(
        ModelFileError, match=r"split.onnx: keeps its weights in another file.* Export it into one file"
    ):
        open_onnx(path)
