import json
import pickle

import numpy as np
import pytest

import fer_contract
from fer_client import Box, Landmarks, Prediction
from fer_client._results import faces_from_tensors

LABELS = ("angry", "happy", "neutral")


@pytest.fixture
def tensors():
    return {
        "BOXES": np.array([[10, 20, 40, 60], [1, 2, 3, 5]], np.float32),
        "LANDMARKS": np.arange(20, dtype=np.float32).reshape(2, 5, 2),
        "DETECTION_SCORES": np.array([0.9, 0.6], np.float32),
        "PROBABILITIES": np.array([[0.2, 0.7, 0.1], [0.1, 0.2, 0.7]], np.float32),
    }


def test_each_row_of_the_tensors_becomes_a_face_in_the_same_order(tensors):
    first, second = faces_from_tensors(tensors, LABELS)
    assert first.box == Box(10, 20, 40, 60)
    assert (first.box.width, first.box.height) == (30, 40)
    assert first.landmarks.right_eye == (0, 1)
    assert first.landmarks.left_mouth_corner == (8, 9)
    assert second.landmarks.nose_tip == (14, 15)
    assert first.detection_score == pytest.approx(0.9)
    assert list(first.probabilities) == list(LABELS)
    assert (first.emotion, second.emotion) == ("happy", "neutral")
    assert first.confidence == first.probabilities["happy"] == pytest.approx(0.7)


def test_no_rows_are_no_faces():
    empty = {
        "BOXES": np.empty((0, 4), np.float32),
        "LANDMARKS": np.empty((0, 5, 2), np.float32),
        "DETECTION_SCORES": np.empty(0, np.float32),
        "PROBABILITIES": np.empty((0, 3), np.float32),
    }
    assert faces_from_tensors(empty, LABELS) == ()


def test_landmarks_are_named_as_the_contract_names_their_rows():
    assert Landmarks._fields == fer_contract.LANDMARK_NAMES


def test_results_are_frozen_and_can_be_sent_to_other_processes(tensors):
    prediction = Prediction((640, 480), faces_from_tensors(tensors, LABELS), "v1")
    with pytest.raises(AttributeError):
        prediction.faces = ()
    with pytest.raises(AttributeError):
        prediction.faces[0].box = None
    assert pickle.loads(pickle.dumps(prediction)) == prediction


def test_to_dict_is_plain_json_with_tidy_numbers(tensors):
    [face, _] = faces_from_tensors(tensors, LABELS)
    assert json.loads(json.dumps(face.to_dict())) == {
        "box": {"x_min": 10.0, "y_min": 20.0, "x_max": 40.0, "y_max": 60.0},
        "detection_score": 0.9,
        "emotion": "happy",
        "confidence": 0.7,
        "probabilities": {"angry": 0.2, "happy": 0.7, "neutral": 0.1},
        "landmarks": {
            "right_eye": {"x": 0.0, "y": 1.0},
            "left_eye": {"x": 2.0, "y": 3.0},
            "nose_tip": {"x": 4.0, "y": 5.0},
            "right_mouth_corner": {"x": 6.0, "y": 7.0},
            "left_mouth_corner": {"x": 8.0, "y": 9.0},
        },
    }
