"""The released files even out light by themselves: in every precision, by every runtime, computed in float32."""

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from fer_build.release import FP16, FP32, INT8, RELEASED_ONNX, SMALLER, name_precision
from fer_runtimes import RUNTIMES, open_classifier

# OpenVINO computes even constant float32 sums in another order than ONNX Runtime.
UNIFORM = pytest.approx(1 / 7, abs=1e-3)


@pytest.fixture(params=(FP32, *SMALLER))
def path(request):
    return name_precision(RELEASED_ONNX, request.param)


@pytest.fixture(params=RUNTIMES)
def classify(request, path):
    return open_classifier(path, request.param, threads=1)


def draw_face() -> np.ndarray:
    """Something like a face in usual light: uint8, (1, 1, 48, 48), 60 to 220."""
    rows, columns = np.mgrid[:48, :48] - 23.5
    face = 90 + 100 * np.exp(-((rows / 20) ** 2) - (columns / 15) ** 2)
    for row, column, wide in ((-7, -8, 4), (-7, 8, 4), (11, 0, 8)):
        face -= 80 * np.exp(-(((rows - row) / 2) ** 2) - ((columns - column) / wide) ** 2)
    return face.clip(0, 255).astype(np.uint8)[None, None]


def test_a_plain_gray_is_as_uncertain_as_can_be(classify):
    grays = np.array([0, 10, 128, 255], np.uint8)
    answers = classify(np.broadcast_to(grays[:, None, None, None], (4, 1, 48, 48)).copy())
    assert answers.max() == UNIFORM
    assert answers.min() == UNIFORM


def test_half_black_half_white_overflows_nothing(classify):
    face = np.zeros((2, 1, 48, 48), np.uint8)
    face[0, 0, :, 24:] = face[1, 0, 24:] = 255
    answers = classify(face)
    assert np.isfinite(answers).all()
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-3)


def test_a_face_in_little_light_is_answered_as_in_plenty(classify):
    face = draw_face()
    usual = classify(face)
    dark = np.concatenate([np.rint(face * part).astype(np.uint8) for part in (0.35, 0.15)])
    answers = classify(dark)
    assert (answers.argmax(axis=1) == usual.argmax()).all()
    assert answers.max(axis=1).min() > 0.5


def test_light_is_computed_in_float32_and_quantised_nowhere(path):
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    makers = {name: node for node in model.graph.node for name in node.output}
    first = next(node for node in model.graph.node if node.op_type == "Conv" and "layers.0/" in node.name)
    before, wanted = {}, [first.input[0]]
    while wanted:
        name = wanted.pop()
        if name in makers and name not in before:
            before[name] = makers[name]
            wanted += makers[name].input
    counts = Counter(node.op_type for node in before.values())
    assert (counts["ReduceSum"], counts["AveragePool"]) == (3, 3)
    assert counts["QuantizeLinear"] == (path == name_precision(RELEASED_ONNX, INT8))  # What the first layer takes.
    halves = [name for name in before if kinds.get(name) == TensorProto.FLOAT16]
    assert len(halves) == (path == name_precision(RELEASED_ONNX, FP16))  # The same.
