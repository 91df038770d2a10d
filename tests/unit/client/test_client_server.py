import numpy as np
import pytest

from fer_client import ContractError, FerClient


def test_labels_and_version_come_from_the_server_and_are_asked_for_once(fake_triton, url):
    fake_triton.config["parameters"]["labels"]["string_value"] = "a, b,c,d,e,f,g"
    with FerClient(url) as client:
        assert client.labels == ("a", "b", "c", "d", "e", "f", "g")
        assert client.model_version == "fake-1"
        [face] = client.predict(b"photo").faces
        assert face.emotion == "d"
    assert fake_triton.asked["config"] == 1


def test_more_outputs_and_optional_inputs_are_fine(fake_triton, url):
    fake_triton.config["output"].append({"name": "UNCERTAIN", "data_type": "TYPE_BOOL", "dims": [-1]})
    fake_triton.config["input"].append({"name": "HINT", "data_type": "TYPE_FP32", "dims": [1], "optional": True})
    with FerClient(url) as client:
        assert len(client.predict(b"photo").faces) == 1


FACES_FOUND = {"name": "FACES_FOUND", "data_type": "TYPE_INT32", "dims": [1]}


def test_a_server_that_says_how_many_faces_there_are_is_asked_for_it(fake_triton, url):
    fake_triton.config["output"].append(FACES_FOUND)
    fake_triton.answer["FACES_FOUND"] = np.array([7], np.int32)
    with FerClient(url) as client:
        prediction = client.predict(b"photo")
        assert (len(prediction.faces), prediction.faces_found) == (1, 7)
        assert client.infer(b"photo")["FACES_FOUND"].tolist() == [7]


def test_a_server_that_does_not_say_how_many_faces_there_are_is_not_asked(fake_triton, url):
    with FerClient(url) as client:
        assert client.predict(b"photo").faces_found == 1
        assert "FACES_FOUND" not in client.infer(b"photo")


def test_fewer_faces_found_than_answered_is_another_contract(fake_triton, url):
    fake_triton.config["output"].append(FACES_FOUND)
    fake_triton.answer["FACES_FOUND"] = np.array([0], np.int32)
    with FerClient(url) as client, pytest.raises(ContractError, match="FACES_FOUND is 0, expected the number of boxes"):
        client.predict(b"photo")


def without_parameters(config):
    config["parameters"] = {}


def without_version(config):
    del config["parameters"]["model_version"]


def with_equal_labels(config):
    config["parameters"]["labels"]["string_value"] = "happy,happy"


def with_fewer_labels(config):
    config["parameters"]["labels"]["string_value"] = "happy,sad"


def without_output(config):
    config["output"] = [output for output in config["output"] if output["name"] != "BOXES"]


def with_other_type(config):
    config["output"][0]["data_type"] = "TYPE_INT64"


def with_other_count(config):
    config["output"].append({**FACES_FOUND, "dims": [2]})


def with_other_input(config):
    config["input"][0]["name"] = "PHOTO"


def with_more_inputs(config):
    config["input"].append({"name": "HINT", "data_type": "TYPE_FP32", "dims": [1]})


def with_batching(config):
    config["max_batch_size"] = 8


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (
            without_parameters,
            r"parameter 'labels' is '', expected a list like a,b,c; parameter 'model_version' is missing;",
        ),
        (without_version, r"differs: parameter 'model_version' is missing;"),
        (with_equal_labels, r"parameter 'labels' is 'happy,happy', expected a list"),
        (with_fewer_labels, r"output PROBABILITIES is TYPE_FP32 \[-1, 7\], expected TYPE_FP32 \[-1, 2\]"),
        (without_output, r"differs: output BOXES is missing, expected TYPE_FP32 \[-1, 4\];"),
        (with_other_type, r"output IMAGE_SIZE is TYPE_INT64 \[2\], expected TYPE_INT32 \[2\]"),
        (with_other_count, r"output FACES_FOUND is TYPE_INT32 \[2\], expected TYPE_INT32 \[1\]"),
        (with_other_input, r"inputs are PHOTO TYPE_STRING \[1\], expected IMAGE TYPE_STRING \[1\]"),
        (with_more_inputs, r"inputs are IMAGE TYPE_STRING \[1\], HINT TYPE_FP32 \[1\], expected IMAGE"),
        (with_batching, r"max_batch_size is 8, expected 0"),
    ],
)
def test_a_server_of_another_contract_is_told_what_differs(fake_triton, url, change, difference):
    change(fake_triton.config)
    with FerClient(url) as client, pytest.raises(ContractError, match=difference):
        client.predict(b"photo")
    assert fake_triton.asked["infer"] == 0


def test_an_answer_of_another_shape_is_told_what_differs(fake_triton, url):
    fake_triton.answer["DETECTION_SCORES"] = np.zeros(3, np.float32)
    with (
        FerClient(url) as client,
        pytest.raises(ContractError, match=r"output DETECTION_SCORES has the shape \[3\], expected \[1\]"),
    ):
        client.predict(b"photo")


def test_an_answer_without_a_tensor_is_told_which(fake_triton, url):
    del fake_triton.answer["BOXES"]
    with FerClient(url) as client, pytest.raises(ContractError, match="output BOXES is missing from an answer"):
        client.predict(b"photo")
