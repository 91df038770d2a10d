"""fer_runtimes on the released classifier."""

import numpy as np
import pytest

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install -e '.[serve]'")

import fer_runtimes
from fer_build.release import RELEASED_ONNX, name_precision


@pytest.fixture(scope="module")
def classify():
    onnx = name_precision(RELEASED_ONNX, "int8")
    return {runtime: fer_runtimes.open_classifier(onnx, runtime, 1) for runtime in fer_runtimes.RUNTIMES}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 11])
def test_openvino_answers_each_face_of_any_number_in_its_place(classify, count):
    faces = np.random.default_rng(count).integers(0, 256, (count, 1, 48, 48), np.uint8)
    probabilities = classify["openvino"](faces)
    assert (probabilities.shape, probabilities.dtype) == ((count, 7), np.float32)
    alone = np.concatenate([classify["openvino"](face[None]) for face in faces])
    np.testing.assert_allclose(probabilities, alone, atol=1e-6)


def test_both_runtimes_answer_alike(classify):
    faces = np.random.default_rng(0).integers(0, 256, (7, 1, 48, 48), np.uint8)
    answers = [classify[runtime](faces) for runtime in fer_runtimes.RUNTIMES]
    np.testing.assert_allclose(*answers, atol=0.1)  # INT8 rounds differently in each


def test_a_runtime_that_is_not_known_is_named():
    with pytest.raises(ValueError, match="RUNTIME must be one of onnxruntime, openvino, not 'torch'"):
        fer_runtimes.open_classifier(RELEASED_ONNX, "torch", 1)
