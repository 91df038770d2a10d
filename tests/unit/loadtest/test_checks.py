"""Every way in which an answer can be wrong is seen, and called what it is."""

import numpy as np
import pytest

from fer_client import (
    ContractError,
    ImageRefusedError,
    RequestTimeoutError,
    ServerError,
    ServerOverloadedError,
    ServerUnreachableError,
)
from fer_contract import LABELS, QUALITY_COLUMNS
from fer_loadtest.checks import Expected, WrongAnswerError, check_tensors, is_expected_refusal, kind_of
from fer_loadtest.transports import ServedModel

SERVED = ServedModel("fer", LABELS, "test-1", tells_faces_found=True, quality_columns=QUALITY_COLUMNS)
OLDER = ServedModel("fer", LABELS, "test-1")
TWO_FACES = Expected(2, 640, 480, found=5)


def good_tensors():
    return {
        "IMAGE_SIZE": np.array([640, 480], np.int32),
        "FACES_FOUND": np.array([5], np.int32),
        "BOXES": np.array([[0, 0, 100, 100], [500, 380, 640, 480]], np.float32),
        "LANDMARKS": np.full((2, 5, 2), 50, np.float32),
        "DETECTION_SCORES": np.array([0.9, 0.6], np.float32),
        "PROBABILITIES": np.full((2, 7), 1 / 7, np.float32),
        "QUALITY": np.full((2, len(QUALITY_COLUMNS)), 12, np.float32),
    }


def test_a_right_answer_passes():
    assert check_tensors(good_tensors(), TWO_FACES, SERVED, "url") == 2


def test_no_face_passes_where_none_is_expected():
    tensors = {name: t if name == "IMAGE_SIZE" else t[:0] for name, t in good_tensors().items()}
    tensors["FACES_FOUND"] = np.zeros(1, np.int32)
    assert Expected.of(tensors) == Expected(0, 640, 480, found=0)
    assert check_tensors(tensors, Expected.of(tensors), SERVED, "url") == 0


def test_an_older_server_need_not_tell_quality_and_faces_found():
    tensors = good_tensors()
    del tensors["FACES_FOUND"], tensors["QUALITY"]
    assert Expected.of(tensors) == Expected(2, 640, 480, found=None)
    assert check_tensors(tensors, Expected.of(tensors), OLDER, "url") == 2


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("IMAGE_SIZE", lambda t: t[::-1], "480x640, expected 640x480"),
        ("BOXES", lambda t: t + 1, "do not lie within"),
        ("BOXES", lambda t: t[:, [2, 3, 0, 1]], "do not lie within"),
        ("BOXES", lambda t: t * np.float32("nan"), "do not lie within"),
        ("LANDMARKS", lambda t: t * np.float32("inf"), "LANDMARKS has values that are not finite"),
        ("QUALITY", lambda t: t * np.float32("nan"), "QUALITY has values that are not finite"),
        ("FACES_FOUND", lambda t: t + 1, "FACES_FOUND is 6, expected 5"),
        ("DETECTION_SCORES", lambda t: t + 0.2, "not within 0..1"),
        ("PROBABILITIES", lambda t: t * np.float32("nan"), "not within 0..1"),
        ("PROBABILITIES", lambda t: t * 0.9, "PROBABILITIES sum to"),
    ],
)
def test_a_value_that_cannot_be_is_a_wrong_answer(name, change, message):
    tensors = good_tensors()
    tensors[name] = change(tensors[name]).astype(tensors[name].dtype)
    with pytest.raises(WrongAnswerError, match=message):
        check_tensors(tensors, TWO_FACES, SERVED, "url")


def test_another_number_of_faces_is_a_wrong_answer():
    with pytest.raises(WrongAnswerError, match="2 faces, expected 3"):
        check_tensors(good_tensors(), Expected(3, 640, 480), SERVED, "url")


@pytest.mark.parametrize("name", ["LANDMARKS", "QUALITY", "FACES_FOUND"])
def test_a_missing_tensor_breaks_the_contract(name):
    tensors = good_tensors()
    del tensors[name]
    with pytest.raises(ContractError, match=f"{name} is missing"):
        check_tensors(tensors, TWO_FACES, SERVED, "url")


def test_fewer_faces_found_than_returned_break_the_contract():
    tensors = good_tensors() | {"FACES_FOUND": np.array([1], np.int32)}
    with pytest.raises(ContractError, match="FACES_FOUND is 1, expected the number of boxes, 2, or more"):
        check_tensors(tensors, Expected(2, 640, 480, found=1), SERVED, "url")


def test_an_answer_to_a_corrupt_file_is_wrong():
    with pytest.raises(WrongAnswerError, match="expected a refusal with 400"):
        check_tensors(good_tensors(), Expected(None), SERVED, "url")


def test_only_a_refusal_that_names_the_image_is_expected_and_only_of_a_corrupt_file():
    refusal = ImageRefusedError("url", "IMAGE: the JPEG ends early")
    assert is_expected_refusal(refusal, Expected(None))
    assert not is_expected_refusal(refusal, TWO_FACES)
    assert not is_expected_refusal(ImageRefusedError("url", "unexpected shape"), Expected(None))
    assert not is_expected_refusal(ServerError("url", "IMAGE"), Expected(None))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (WrongAnswerError("2 faces"), "wrong answer"),
        (ContractError("url", "shape"), "wrong answer"),
        (ServerOverloadedError("url", "Exceeds maximum queue size"), "overloaded (503)"),
        (ServerOverloadedError("url", "Socket closed"), "unreachable"),
        (ServerOverloadedError("url", "recvmsg:Connection reset by peer"), "unreachable"),
        (RequestTimeoutError("url", "30 s"), "timeout"),
        (ServerUnreachableError("url", "refused"), "unreachable"),
        (ImageRefusedError("url", "IMAGE"), "refused (400)"),
        (ServerError("url", "stub died"), "server failed (500)"),
        (KeyError("x"), "defect of the load test"),
    ],
)
def test_failures_are_called_what_they_are(error, kind):
    assert kind_of(error) == kind
