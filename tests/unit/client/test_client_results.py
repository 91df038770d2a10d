import dataclasses
import json
import pickle

import numpy as np
import pytest

import fer_contract
from fer_client import Box, CroppedPrediction, Face, ImageSize, Landmarks, Prediction
from fer_client._results import cropped_prediction_from_tensors, prediction_from_tensors
from fer_client._server import ServedModel

LABELS = ("angry", "happy", "neutral")
SERVED = ServedModel("fer", LABELS, "v1", uncertain_below=0.7)


@pytest.fixture
def tensors():
    return {
        "IMAGE_SIZE": np.array([640, 480], np.int32),
        "BOXES": np.array([[10, 20, 40, 60], [1, 2, 3, 5]], np.float32),
        "LANDMARKS": np.arange(20, dtype=np.float32).reshape(2, 5, 2),
        "DETECTION_SCORES": np.array([0.9, 0.6], np.float32),
        "PROBABILITIES": np.array([[0.2, 0.75, 0.05], [0.1, 0.25, 0.65]], np.float32),
    }


@pytest.fixture
def prediction(tensors):
    return prediction_from_tensors(tensors, SERVED)


def test_each_row_of_the_tensors_becomes_a_face_in_the_same_order(prediction):
    first, second = prediction.faces
    assert prediction.image_size == ImageSize(640, 480)
    assert prediction.model_version == "v1"
    assert first.box == Box(10, 20, 40, 60)
    assert (first.box.width, first.box.height) == (30, 40)
    assert first.landmarks.right_eye == (0, 1)
    assert first.landmarks.left_mouth_corner == (8, 9)
    assert second.landmarks.nose_tip == (14, 15)
    assert first.detection_score == pytest.approx(0.9)
    assert list(first.probabilities) == list(LABELS)
    assert (first.emotion, second.emotion) == ("happy", "neutral")
    assert first.confidence == first.probabilities["happy"] == pytest.approx(0.75)


def test_a_face_below_the_servers_threshold_is_uncertain(prediction):
    assert [face.uncertain for face in prediction.faces] == [False, True]


def test_faces_that_the_server_left_out_are_told(tensors):
    tensors["FACES_FOUND"] = np.array([5], np.int32)
    found = prediction_from_tensors(tensors, dataclasses.replace(SERVED, tells_faces_found=True))
    assert (len(found.faces), found.faces_found, found.faces_left_out) == (2, 5, 3)
    assert (
        repr(found) == "Prediction(640 x 480 px, 2 of 5 faces: happy 75.0%; neutral 65.0%, uncertain (low confidence))"
    )
    assert found.to_dict()["faces_found"] == 5
    assert Prediction.from_dict(json.loads(json.dumps(found.to_dict()))).faces_found == 5


def test_without_word_from_the_server_the_faces_answered_are_those_found(prediction):
    assert (prediction.faces_found, prediction.faces_left_out) == (2, 0)


def test_what_an_older_version_wrote_can_be_read(prediction):
    document = prediction.to_dict()
    del document["faces_found"]
    assert Prediction.from_dict(document).faces_found == 2


def test_numpy_gets_the_tensors_back(prediction, tensors):
    assert np.array_equal(prediction.boxes, tensors["BOXES"])
    assert np.array_equal(prediction.landmarks, tensors["LANDMARKS"])
    assert np.array_equal(prediction.detection_scores, tensors["DETECTION_SCORES"])
    assert np.array_equal(prediction.probabilities, tensors["PROBABILITIES"])
    assert prediction.probabilities.dtype == np.float32


def test_no_rows_are_no_faces_and_empty_arrays():
    empty = prediction_from_tensors(
        {
            "IMAGE_SIZE": np.array([640, 480], np.int32),
            "BOXES": np.empty((0, 4), np.float32),
            "LANDMARKS": np.empty((0, 5, 2), np.float32),
            "DETECTION_SCORES": np.empty(0, np.float32),
            "PROBABILITIES": np.empty((0, 3), np.float32),
        },
        SERVED,
    )
    assert empty.faces == ()
    assert (empty.boxes.shape, empty.landmarks.shape, empty.detection_scores.shape) == ((0, 4), (0, 5, 2), (0,))
    assert len(empty.probabilities) == 0


def test_a_cropped_face_has_an_expression_and_no_place(tensors):
    cropped = cropped_prediction_from_tensors({**tensors, "PROBABILITIES": tensors["PROBABILITIES"][1:]}, SERVED)
    assert isinstance(cropped, CroppedPrediction)
    assert (cropped.emotion, cropped.uncertain, cropped.model_version) == ("neutral", True, "v1")
    assert cropped.confidence == pytest.approx(0.65)
    assert cropped.image_size == (640, 480)


def test_landmarks_are_named_as_the_contract_names_their_rows():
    assert Landmarks._fields == fer_contract.LANDMARK_NAMES


def test_results_are_frozen_and_can_be_sent_to_other_processes(prediction):
    with pytest.raises(AttributeError):
        prediction.faces = ()
    with pytest.raises(AttributeError):
        prediction.faces[0].box = None
    assert pickle.loads(pickle.dumps(prediction)) == prediction


def test_to_dict_is_plain_json_with_tidy_numbers(prediction):
    document = json.loads(json.dumps(prediction.to_dict()))
    assert document["image_size"] == {"width": 640, "height": 480}
    assert document["model_version"] == "v1"
    assert len(document["faces"]) == 2
    assert document["faces"][0] == {
        "box": {"x_min": 10.0, "y_min": 20.0, "x_max": 40.0, "y_max": 60.0},
        "detection_score": 0.9,
        "emotion": "happy",
        "confidence": 0.75,
        "uncertain": False,
        "uncertain_reasons": [],
        "probabilities": {"angry": 0.2, "happy": 0.75, "neutral": 0.05},
        "landmarks": {
            "right_eye": {"x": 0.0, "y": 1.0},
            "left_eye": {"x": 2.0, "y": 3.0},
            "nose_tip": {"x": 4.0, "y": 5.0},
            "right_mouth_corner": {"x": 6.0, "y": 7.0},
            "left_mouth_corner": {"x": 8.0, "y": 9.0},
        },
    }


def test_what_was_written_can_be_read_back(prediction):
    document = json.loads(json.dumps({"image": "photo.jpg", **prediction.to_dict()}))
    read = Prediction.from_dict(document)
    assert read.to_dict() == prediction.to_dict()
    assert read.faces[1].uncertain
    cropped = CroppedPrediction(ImageSize(48, 48), {"happy": 0.25, "sad": 0.75}, uncertain=True, model_version="v1")
    assert CroppedPrediction.from_dict(json.loads(json.dumps(cropped.to_dict()))) == cropped


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document.clear(), r"not a Prediction.to_dict\(\) document: key 'image_size' is missing"),
        (lambda document: document.update(faces=5), r"not a Prediction.to_dict\(\) document: "),
        (lambda document: document.update(faces_found=1), "faces_found is less than the number of faces, 2"),
        (lambda document: document["faces"][0].pop("box"), r"not a Face.to_dict\(\) document: key 'box' is missing"),
        (lambda document: document["faces"][0]["box"].update(z=1), r"not a Face.to_dict\(\) document: .*'z'"),
        (lambda document: document["faces"][0].update(probabilities={}), "there are no probabilities"),
        (lambda document: document["faces"][0].update(probabilities=[0.5]), r"not a Face.to_dict\(\) document"),
        (lambda document: document["faces"][0].update(detection_score="high"), r"not a Face.to_dict\(\) document"),
    ],
)
def test_what_something_else_wrote_is_refused(prediction, change, message):
    document = prediction.to_dict()
    change(document)
    with pytest.raises(ValueError, match=message):
        Prediction.from_dict(document)


def test_a_repr_reads_well(prediction):
    assert (
        repr(prediction) == "Prediction(640 x 480 px, 2 faces: happy 75.0%; neutral 65.0%, uncertain (low confidence))"
    )
    assert repr(prediction.faces[0]) == "Face(happy 75.0%, box 10, 20, 30 x 40 px, score 0.90)"
    assert repr(Prediction(ImageSize(640, 480), (), "v1")) == "Prediction(640 x 480 px, 0 faces)"
    cropped = CroppedPrediction(ImageSize(48, 48), {"happy": 0.25, "sad": 0.75}, uncertain=True, model_version="v1")
    assert repr(cropped) == "CroppedPrediction(48 x 48 px, sad 75.0%, uncertain)"


def test_results_compare_and_copy_by_value(prediction):
    assert dataclasses.replace(prediction.faces[0], uncertain=True) != prediction.faces[0]
    assert Face.from_dict(prediction.faces[0].to_dict()).emotion == "happy"
