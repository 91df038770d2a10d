"""What a server says about the pictures of faces, and what the client makes of its bounds."""

import csv
import dataclasses
import io
import json
import math
import pickle

import numpy as np
import pytest

from fer_client import (
    ContractError,
    CroppedPrediction,
    Face,
    FerClient,
    ImageSize,
    Prediction,
    QualityBound,
    ServerInfo,
)
from fer_client._results import cropped_prediction_from_tensors
from fer_client._server import LOW_CONFIDENCE, ServedModel
from fer_client.command.records import CsvWriter, JsonLinesWriter, ManyTableWriter, OneTableWriter, Outcome
from fer_client.command.status import format_info

OUTPUT = {"name": "QUALITY", "data_type": "TYPE_FP32", "dims": [-1, 2]}
COLUMNS = "gray, turn"
BOUNDS = "gray:30::too dark, gray::220:too bright, turn:-40:40:turned away"
LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.fixture
def measuring_triton(fake_triton):
    """A stand-in of columns and bounds that this client has never heard of; its face is happy with 0.7."""
    fake_triton.config["output"].append(OUTPUT)
    fake_triton.config["parameters"]["quality_columns"] = {"string_value": COLUMNS}
    fake_triton.config["parameters"]["quality_bounds"] = {"string_value": BOUNDS}
    fake_triton.config["parameters"]["uncertain_below"] = {"string_value": "0.5"}
    fake_triton.answer["QUALITY"] = np.array([[120, 3]], np.float32)
    return fake_triton


@pytest.mark.parametrize(
    ("values", "reasons"),
    [
        ((120, 3), ()),
        ((30, 40), ()),
        ((29, 3), ("too dark",)),
        ((221, 3), ("too bright",)),
        ((10, -41), ("too dark", "turned away")),
        ((math.nan, 0), ("too dark", "too bright")),
    ],
)
def test_a_face_beyond_the_servers_bounds_is_uncertain_for_its_reasons(measuring_triton, url, values, reasons):
    measuring_triton.answer["QUALITY"] = np.array([values], np.float32)
    with FerClient(url) as client:
        [face] = client.predict(b"photo").faces
    assert (face.uncertain, face.uncertain_reasons) == (bool(reasons), reasons)
    assert list(face.quality) == ["gray", "turn"]
    assert face.quality["turn"] == values[1]


def test_a_low_probability_is_the_last_reason(measuring_triton, url):
    measuring_triton.config["parameters"]["uncertain_below"]["string_value"] = "0.8"
    measuring_triton.answer["QUALITY"] = np.array([[10, 0]], np.float32)
    with FerClient(url) as client:
        [face] = client.predict(b"photo").faces
    assert face.uncertain_reasons == ("too dark", LOW_CONFIDENCE)
    assert "uncertain (too dark, low confidence)" in repr(face)


def test_a_server_that_measures_nothing_is_as_it_was(fake_triton, url):
    with FerClient(url) as client:
        [face] = client.predict(b"photo").faces
        assert client.quality_columns == ()
        assert "QUALITY" not in client.infer(b"photo")
    assert (face.quality, face.uncertain, face.uncertain_reasons) == ({}, False, ())
    assert "quality" not in face.to_dict()


def test_numpy_gets_the_tensor_back(measuring_triton, url):
    with FerClient(url) as client:
        prediction = client.predict(b"photo")
        assert client.quality_columns == ("gray", "turn")
        assert np.array_equal(prediction.quality, client.infer(b"photo")["QUALITY"])
    assert prediction.quality.dtype == np.float32


def test_no_face_has_no_quality(measuring_triton, url):
    measuring_triton.faces(0)
    measuring_triton.answer["QUALITY"] = np.empty((0, 2), np.float32)
    with FerClient(url) as client:
        assert client.predict(b"photo").faces == ()


def test_a_crop_has_the_columns_of_its_own_model():
    bounds = (QualityBound("gray", 30.0, math.inf, "too dark"),)
    served = ServedModel("fer_cropped", ("a", "b"), "v1", quality_columns=("gray",), quality_bounds=bounds)
    assert served.output_shapes["QUALITY"] == (1, 1)
    tensors = {
        "IMAGE_SIZE": np.array([48, 48], np.int32),
        "PROBABILITIES": np.array([[0.9, 0.1]], np.float32),
        "QUALITY": np.array([[12]], np.float32),
    }
    crop = cropped_prediction_from_tensors(tensors, served)
    assert (crop.quality, crop.uncertain_reasons) == ({"gray": 12.0}, ("too dark",))
    assert CroppedPrediction.from_dict(json.loads(json.dumps(crop.to_dict()))).uncertain_reasons == ("too dark",)


def set_parameter(name, value):
    return lambda config: config["parameters"].update({name: {"string_value": value}})


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (set_parameter("quality_columns", ""), r"parameter 'quality_columns' is '', expected a list like a,b,c"),
        (set_parameter("quality_columns", "a,a"), r"parameter 'quality_columns' is 'a,a', expected a list"),
        (
            set_parameter("quality_columns", "gray,turn,x"),
            r"output QUALITY is TYPE_FP32 \[-1, 2\], expected .*\[-1, 3\]",
        ),
        (
            set_parameter("quality_bounds", "size:3::small"),
            r"'quality_bounds' bounds 'size', which 'quality_columns' does",
        ),
        (
            set_parameter("quality_bounds", "gray:dark::x"),
            r"'quality_bounds' has 'gray:dark::x', expected column:min:max",
        ),
        (set_parameter("quality_bounds", "gray:5:3:x"), r"has 'gray:5:3:x', expected column:min:max:reason"),
        (set_parameter("quality_bounds", "gray:::x"), r"has 'gray:::x', expected column:min:max:reason"),
        (set_parameter("quality_bounds", "gray:1:2:x:y"), r"has 'gray:1:2:x:y', expected column:min:max:reason"),
    ],
)
def test_bounds_that_make_no_sense_are_told(measuring_triton, url, change, difference):
    change(measuring_triton.config)
    with FerClient(url) as client, pytest.raises(ContractError, match=difference):
        client.predict(b"photo")


def test_a_bound_without_a_reason_gives_one():
    bound = QualityBound.parse("gray:30:")
    assert bound == QualityBound("gray", 30.0, math.inf, "gray out of bounds")
    served = ServedModel("fer", LABELS, "v1", quality_columns=("gray",), quality_bounds=(bound,))
    assert served.find_reasons(0.9, {"gray": 3.0}) == ("gray out of bounds",)


def test_the_same_reason_is_given_once():
    bounds = tuple(QualityBound.parse(text) for text in ("yaw:-9:9:turned away", "pitch:-9:9:turned away"))
    served = ServedModel("fer", LABELS, "v1", quality_columns=("yaw", "pitch"), quality_bounds=bounds)
    assert served.find_reasons(0.9, {"yaw": 40.0, "pitch": 20.0}) == ("turned away",)


def test_a_bound_reads_well():
    texts = ("gray:30:220:odd", "gray:30::dark", "gray::220:bright")
    assert [str(QualityBound.parse(text)) for text in texts] == [
        "gray at least 30 and at most 220, else odd",
        "gray at least 30, else dark",
        "gray at most 220, else bright",
    ]
    assert QualityBound.parse("gray:30::dark").to_dict() == {"column": "gray", "min": 30, "max": None, "reason": "dark"}


@pytest.fixture
def prediction(measuring_triton):
    measuring_triton.answer["QUALITY"] = np.array([[10.123456, 50]], np.float32)
    with FerClient(measuring_triton.url("http")) as client:
        return client.predict(b"photo")


def test_what_was_written_can_be_read_back(prediction):
    document = json.loads(json.dumps(prediction.to_dict()))
    assert document["faces"][0]["quality"] == {"gray": 10.1235, "turn": 50.0}
    assert document["faces"][0]["uncertain_reasons"] == ["too dark", "turned away"]
    assert Prediction.from_dict(document).to_dict() == prediction.to_dict()
    assert pickle.loads(pickle.dumps(prediction)) == prediction


@pytest.mark.parametrize(("uncertain", "reasons"), [(True, (LOW_CONFIDENCE,)), (False, ())])
def test_a_face_that_an_older_version_wrote_has_the_reason_that_there_was(prediction, uncertain, reasons):
    document = prediction.faces[0].to_dict() | {"uncertain": uncertain}
    del document["quality"], document["uncertain_reasons"]
    face = Face.from_dict(document)
    assert (face.uncertain, face.uncertain_reasons, face.quality) == (uncertain, reasons, {})


@pytest.mark.parametrize("change", [{"uncertain_reasons": "dark"}, {"uncertain_reasons": 5}, {"quality": [1]}])
def test_what_something_else_wrote_is_refused(prediction, change):
    with pytest.raises(ValueError, match=r"not a Face.to_dict\(\) document"):
        Face.from_dict(prediction.faces[0].to_dict() | change)


def written(writer, outcomes):
    writer.begin(LABELS, ("gray", "turn"))
    for outcome in outcomes:
        writer.write(outcome)
    return writer._stream.getvalue()


def test_every_format_says_why_a_face_is_uncertain(prediction):
    outcomes = [Outcome("dark.jpg", prediction, request_ms=1.0)]
    [row] = csv.DictReader(io.StringIO(written(CsvWriter(io.StringIO()), outcomes)))
    assert (row["uncertain"], row["uncertain_reasons"]) == ("true", "too dark; turned away")
    assert (row["gray"], row["turn"]) == ("10.1235", "50.0")
    [line] = written(JsonLinesWriter(io.StringIO()), outcomes).splitlines()
    assert json.loads(line)["faces"][0]["uncertain_reasons"] == ["too dark", "turned away"]
    *_, header, row = written(OneTableWriter(io.StringIO(), "http://host"), outcomes).splitlines()
    assert header.endswith("  why uncertain")
    assert row.endswith("  too dark, turned away")
    header, row = written(ManyTableWriter(io.StringIO(), ["dark.jpg"]), outcomes).splitlines()
    assert header.index("why uncertain") == row.index("too dark, turned away")


def test_a_table_of_certain_faces_has_no_column_for_reasons(prediction):
    certain = dataclasses.replace(prediction.faces[0], uncertain=False, uncertain_reasons=())
    outcome = Outcome("light.jpg", dataclasses.replace(prediction, faces=(certain,)), request_ms=1.0)
    assert "why" not in written(OneTableWriter(io.StringIO(), "http://host"), [outcome])


def test_the_reasons_of_a_crop_stand_in_a_column_too():
    crop = CroppedPrediction(ImageSize(48, 48), {"happy": 0.25, "sad": 0.75}, True, "v1", ("too dark", LOW_CONFIDENCE))
    *_, header, row = written(OneTableWriter(io.StringIO(), "http://host"), [Outcome("a.jpg", crop)]).splitlines()
    assert header.index("why uncertain") == row.index("too dark, low confidence")


def test_info_lists_columns_and_bounds():
    bounds = tuple(QualityBound.parse(text) for text in BOUNDS.split(","))
    server = ServerInfo("http://host", "triton", "2", (), (), LABELS, "v1", 0.5, ("gray", "turn"), bounds, None, None)
    lines = format_info(server, "--url")
    assert ("quality", "gray, turn") in lines
    start = lines.index(("bounds", "gray at least 30, else too dark"))
    assert lines[start + 2] == ("", "turn at least -40 and at most 40, else turned away")
    document = json.loads(json.dumps(server.to_dict()))
    assert document["quality_columns"] == ["gray", "turn"]
    assert document["quality_bounds"][2] == {"column": "turn", "min": -40, "max": 40, "reason": "turned away"}


def test_info_of_a_server_that_measures_nothing_says_so():
    server = ServerInfo("http://host", "triton", "2", (), (), LABELS, "v1", 0.5, (), (), None, None)
    assert ("quality", "not measured") in format_info(server, "--url")
