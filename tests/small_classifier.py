"""A convolutional classifier of a few kilobytes that fits the contract, and faces that it tells apart."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import fer_contract as contract
from fer_build.faces_file import LabelledCrops
from fer_runtimes import ONNX_RUNTIME, open_classifier

_MEAN, _SPREAD = 128.0, 64.0


def write_small_classifier(path: Path, scale: float = 1.0, **metadata: str) -> Path:
    """Two convolutions, the mean over the picture, and a layer to seven classes; float32.

    Args:
        path: where to.
        scale: of the first convolution's kernel.
        metadata: keys and values to add, with `_` for `.` in the keys, and `__` for `_`.
    """
    rng = np.random.default_rng(8)
    arrays = {
        "mean": np.float32(_MEAN),
        "spread": np.float32(_SPREAD),
        "kernel1": scale * rng.normal(0, 0.4, (8, 1, 3, 3)),
        "bias1": rng.normal(0, 0.1, 8),
        "kernel2": rng.normal(0, 0.2, (16, 8, 3, 3)),
        "bias2": rng.normal(0, 0.1, 16),
        "matrix": rng.normal(0, 2, (7, 16)),
        "bias3": rng.normal(0, 0.1, 7),
    }
    nodes = [
        helper.make_node("Cast", [contract.FACES], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["pixels", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "spread"], ["views"]),
        helper.make_node("Conv", ["views", "kernel1", "bias1"], ["conv1"], strides=[2, 2]),
        helper.make_node("Relu", ["conv1"], ["relu1"]),
        helper.make_node("Conv", ["relu1", "kernel2", "bias2"], ["conv2"], strides=[2, 2]),
        helper.make_node("Relu", ["conv2"], ["relu2"]),
        helper.make_node("ReduceMean", ["relu2"], ["features"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["features", "matrix", "bias3"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], [contract.PROBABILITIES], axis=1),
    ]
    side = contract.FACE_SIZE_PX
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(contract.FACES, TensorProto.UINT8, ["N", 1, side, side])],
        [helper.make_tensor_value_info(contract.PROBABILITIES, TensorProto.FLOAT, ["N", 7])],
        [numpy_helper.from_array(np.asarray(values, np.float32), name) for name, values in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    described = {contract.ONNX_LABELS_KEY: ",".join(contract.LABELS), contract.ONNX_VERSION_KEY: "small"}
    helper.set_model_props(model, described | {_key(name): value for name, value in metadata.items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def _key(name: str) -> str:
    return "_".join(part.replace("_", ".") for part in name.split("__"))


def draw_crops(count: int, seed: int = 0) -> LabelledCrops:
    """Stripes of several widths and contrasts under noise, with labels that have nothing to do with them."""
    rng = np.random.default_rng(seed)
    side = contract.FACE_SIZE_PX
    width = rng.uniform(1, 8, (count, 1, 1, 1))
    stripes = np.sin(np.arange(side)[None, None, None, :] / width + rng.uniform(0, 6, (count, 1, 1, 1)))
    pixels = 128 + rng.uniform(10, 110, (count, 1, 1, 1)) * stripes + rng.normal(0, 8, (count, 1, side, side))
    return LabelledCrops(pixels.clip(0, 255).astype(np.uint8), rng.integers(0, 7, count), "drawn stripes")


def draw_sure_crops(path: Path, count: int = 1200) -> LabelledCrops:
    """Faces that a classifier is sure of, so that its smaller precisions should answer the same; labels are its own."""
    drawn = draw_crops(count, seed=1)
    classify = open_classifier(path, ONNX_RUNTIME, threads=1)
    probabilities = classify(drawn.faces)
    ordered = np.sort(probabilities, axis=1)
    sure = ordered[:, -1] - ordered[:, -2] > 0.1
    answers = probabilities[sure].argmax(axis=1)
    assert sure.sum() > 500
    assert np.bincount(answers).max() < 0.8 * len(answers)  # it does tell them apart
    return LabelledCrops(drawn.faces[sure], answers, drawn.source)


def write_crops(path: Path, crops: LabelledCrops) -> Path:
    """The file of faces that `fer-train save-faces` writes."""
    names, source = np.array(contract.LABELS), np.array(crops.source)
    np.savez(path, FACES=crops.faces, LABELS=crops.labels, CLASSES=names, SOURCE=source)
    return path
