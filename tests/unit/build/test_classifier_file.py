"""fer_build.classifier_file: a classifier that fits is taken, and each way not to fit is named."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import fer_contract as contract
from fer_build.classifier_file import read_classifier
from fer_build.errors import ContractError
from fer_build.release import RELEASED_ONNX

LABELS = ",".join(contract.LABELS)


def write_classifier(path: Path, **change: object) -> Path:
    """A tiny ONNX file that fits the contract, but for `change`."""
    made = {
        "input": contract.FACES,
        "input_type": TensorProto.UINT8,
        "batch": "N",
        "side": 48,
        "output": contract.PROBABILITIES,
        "classes": 7,
        "softmax": "Softmax",
        "labels": LABELS,
        "version": "tiny",
        "uncertain_below": None,
    } | change
    weights = np.random.default_rng(0).normal(0, 0.001, (made["side"] ** 2, made["classes"])).astype(np.float32)
    nodes = [
        helper.make_node("Cast", [made["input"]], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node(made["softmax"], ["logits"], [made["output"]]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(
                made["input"], made["input_type"], [made["batch"], 1, made["side"], made["side"]]
            )
        ],
        [helper.make_tensor_value_info(made["output"], TensorProto.FLOAT, [made["batch"], made["classes"]])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    metadata = {contract.ONNX_LABELS_KEY: made["labels"], contract.ONNX_VERSION_KEY: made["version"]}
    metadata[contract.ONNX_UNCERTAIN_BELOW_KEY] = made["uncertain_below"]
    helper.set_model_props(model, {key: value for key, value in metadata.items() if value is not None})
    onnx.save(model, path)
    return path


def test_a_fitting_file_is_taken(tmp_path):
    classifier = read_classifier(write_classifier(tmp_path / "tiny.onnx"))
    assert classifier.labels == contract.LABELS
    assert classifier.version == f"tiny+{classifier.sha256[:8]}"


def test_the_released_file_fits():
    assert read_classifier(RELEASED_ONNX).labels == contract.LABELS


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"input": "INPUT__0"}, r"expected one input FACES tensor\(uint8\) \(N, 1, 48, 48\), found INPUT__0"),
        ({"input_type": TensorProto.FLOAT}, r"expected one input FACES tensor\(uint8\).*found FACES tensor\(float\)"),
        ({"side": 64}, r"expected one input FACES .* found FACES tensor\(uint8\) \('N', 1, 64, 64\)"),
        ({"batch": 1}, r"expected one input FACES .* found FACES tensor\(uint8\) \(1, 1, 48, 48\)"),
        ({"output": "logits_"}, r"expected one output PROBABILITIES tensor\(float\) \(N, 7\), found logits_"),
        ({"classes": 8}, r"expected one output PROBABILITIES tensor\(float\) \(N, 7\), found .*8\)"),
        ({"softmax": "Identity"}, "must be probabilities .softmax inside the graph., but rows sum"),
        ({"labels": None}, "metadata fer.labels must be 'angry,.*', not None"),
        ({"labels": "happy," + LABELS[: -len(",happy")]}, "metadata fer.labels must be 'angry,.*', not 'happy,"),
        ({"version": None}, "metadata fer.version must be one word, not ''"),
        ({"version": 'a "b'}, "metadata fer.version must be one word"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, complaint):
    with pytest.raises(ContractError, match=complaint):
        read_classifier(write_classifier(tmp_path / "tiny.onnx", **change))


@pytest.mark.parametrize("written", ["1.5", "-0.1", "nan", "often"])
def test_a_threshold_that_is_no_probability_is_named(tmp_path, written):
    path = write_classifier(tmp_path / "tiny.onnx", uncertain_below=written)
    with pytest.raises(ContractError, match=f"metadata fer.uncertain_below must be a number 0..1, not '{written}'"):
        read_classifier(path)


def test_the_threshold_is_read(tmp_path):
    assert read_classifier(write_classifier(tmp_path / "tiny.onnx", uncertain_below="0.5")).uncertain_below == 0.5
    assert read_classifier(write_classifier(tmp_path / "silent.onnx")).uncertain_below == 0


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ContractError, match=r"missing\.onnx: no such ONNX file"):
        read_classifier(tmp_path / "missing.onnx")


def test_a_file_that_is_not_onnx_is_named(tmp_path):
    path = tmp_path / "photo.onnx"
    path.write_bytes(b"\xff\xd8\xff\xe0 JFIF")
    with pytest.raises(ContractError, match=r"photo\.onnx: not an ONNX file, or only the start of one"):
        read_classifier(path)
