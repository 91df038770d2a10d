"""Results as a table, JSON, JSON lines and CSV."""

import csv
import io
import json
import os
from dataclasses import replace

import pytest

from fer_client import (
    Box,
    CroppedPrediction,
    Face,
    ImageRefusedError,
    ImageSize,
    ImageUnreadableError,
    Landmarks,
    Point,
    Prediction,
    RequestTimeoutError,
    ServerUnreachableError,
    TlsError,
)
from fer_client.command.records import (
    CsvWriter,
    JsonLinesWriter,
    JsonWriter,
    ManyTableWriter,
    OneTableWriter,
    Outcome,
    Tally,
)

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
PROBABILITIES = dict(zip(LABELS, (0.05, 0.05, 0.05, 0.6, 0.15, 0.05, 0.05), strict=True))
URL = "http://host:8000"


def prediction(faces, *, uncertain=False):
    face = Face(Box(10.5, 20, 30, 40), Landmarks(*(Point(1, 2),) * 5), 0.9, PROBABILITIES, uncertain)
    return Prediction(ImageSize(64, 48), (face,) * faces, "v1")


CROP = CroppedPrediction(ImageSize(48, 48), PROBABILITIES, uncertain=False, model_version="v1")
OUTCOMES = [
    Outcome("two.jpg", prediction(2)),
    Outcome("none.jpg", prediction(0)),
    Outcome("bad.jpg", error=ImageRefusedError(URL, "IMAGE: no image")),
    Outcome("gone.jpg", error=ImageUnreadableError("gone.jpg", "No such file or directory")),
    Outcome("crop.jpg", CROP),
    Outcome("maybe.jpg", prediction(1, uncertain=True)),
]


def written(writer_class, outcomes, *arguments):
    """What a writer makes of outcomes."""
    stream, tally = io.StringIO(), Tally(seconds=2.0)
    writer = writer_class(stream, *arguments)
    writer.begin(LABELS)
    for outcome in outcomes:
        writer.write(outcome)
        tally.count(outcome)
    writer.end(tally)
    return stream.getvalue()


def test_json_is_one_document_whatever_came_of_the_images():
    document = json.loads(written(JsonWriter, OUTCOMES))
    assert [image["image"] for image in document["images"]] == [outcome.name for outcome in OUTCOMES]
    assert Prediction.from_dict(document["images"][0]) == prediction(2)
    assert document["images"][1]["faces"] == []
    assert document["images"][2]["error"] == {"kind": "refused", "message": f"{URL} refused the image: IMAGE: no image"}
    assert CroppedPrediction.from_dict(document["images"][4]) == CROP
    assert document["summary"] == {
        "images": 6,
        "answered": 4,
        "faces": 4,
        "faces_found": 4,
        "without_face": 1,
        "refused": 1,
        "unreadable": 1,
        "failed": 0,
        "seconds": 2.0,
        "images_per_s": 2.0,
        "left_out": {},
    }


def test_json_without_images_is_a_document_too():
    assert json.loads(written(JsonWriter, []))["images"] == []


def test_json_lines_are_documents():
    documents = [json.loads(line) for line in written(JsonLinesWriter, OUTCOMES).splitlines()]
    assert documents == json.loads(written(JsonWriter, OUTCOMES))["images"]


def test_csv_has_a_row_for_each_face_and_for_each_image_without():
    rows = list(csv.DictReader(io.StringIO(written(CsvWriter, OUTCOMES))))
    faces = [(row["image"], row["face"], row["emotion"], row["happy"], row["error"]) for row in rows]
    assert faces == [
        ("two.jpg", "1", "happy", "0.6", ""),
        ("two.jpg", "2", "happy", "0.6", ""),
        ("none.jpg", "", "", "", ""),
        ("bad.jpg", "", "", "", f"refused: {URL} refused the image: IMAGE: no image"),
        ("gone.jpg", "", "", "", "unreadable: cannot read gone.jpg: No such file or directory"),
        ("crop.jpg", "1", "happy", "0.6", ""),
        ("maybe.jpg", "1", "happy", "0.6", ""),
    ]
    assert (rows[0]["x_min"], rows[0]["width"], rows[0]["detection_score"]) == ("10.5", "64", "0.9")
    assert [row["uncertain"] for row in rows] == ["false", "false", "", "", "", "false", "true"]


def test_a_table_of_many_has_a_line_for_each_face():
    lines = written(ManyTableWriter, OUTCOMES, [outcome.name for outcome in OUTCOMES]).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["two.jpg", "1", "10,", "20,", "20", "x", "20", "0.90", "happy", "60.0%", "sad", "15.0%"],
        ["two.jpg", "2", "10,", "20,", "20", "x", "20", "0.90", "happy", "60.0%", "sad", "15.0%"],
        ["none.jpg", "-", "-", "-", "no", "face", "found"],
        ["crop.jpg", "-", "-", "-", "happy", "60.0%", "sad", "15.0%"],
        ["maybe.jpg", "1", "10,", "20,", "20", "x", "20", "0.90", "happy", "60.0%", "(uncertain)", "sad", "15.0%"],
    ]
    assert lines[0].index("apparent expression") == lines[1].index("happy") == lines[3].index("no face")
    assert max(map(len, lines)) <= 110


CROWD = replace(prediction(2), faces_left_out=3)


def test_faces_that_the_server_left_out_are_told_in_every_format():
    outcomes = [Outcome("crowd.jpg", CROWD, request_ms=1.0), Outcome("crop.jpg", CROP)]
    document = json.loads(written(JsonWriter, outcomes))
    assert document["images"][0]["faces_found"] == 5
    assert (document["summary"]["faces"], document["summary"]["faces_found"]) == (3, 6)
    rows = list(csv.DictReader(io.StringIO(written(CsvWriter, outcomes))))
    assert [row["faces_found"] for row in rows] == ["5", "5", ""]
    many = written(ManyTableWriter, outcomes, ["crowd.jpg", "crop.jpg"]).splitlines()
    assert many[3].split() == ["crowd.jpg", "-", "-", "-", "3", "more,", "not", "classified"]
    one = written(OneTableWriter, outcomes[:1], URL).splitlines()
    assert one[-1] == "the 2 largest of 5 faces; the others are not classified"
    tally = Tally()
    tally.count(outcomes[0])
    assert str(tally).startswith("1 image, 2 of 5 faces (the largest of each image), 0 refused")


def test_columns_that_were_added_come_after_those_that_were_there():
    header = written(CsvWriter, []).split(",")
    assert header[: header.index("error") + 1] == [
        *("image", "width", "height", "face", "x_min", "y_min", "x_max", "y_max", "detection_score"),
        *("emotion", "confidence", "uncertain", *LABELS, "model_version", "error"),
    ]


def test_a_table_of_one_crop_has_its_probabilities():
    request, _, header, row = written(OneTableWriter, [Outcome("crop.jpg", CROP, request_ms=12.4)], URL).splitlines()
    assert request == f"crop.jpg: 48 x 48 px, model v1, 12 ms at {URL}"
    assert header.split() == ["apparent", "expression", *LABELS]
    assert row.split() == ["happy", "60.0%", *(f"{value:.1%}" for value in PROBABILITIES.values())]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TlsError(URL, "x"), "tls"),
        (ServerUnreachableError(URL, "x"), "unreachable"),
        (RequestTimeoutError(URL, "x"), "timeout"),
    ],
)
def test_programs_tell_errors_by_their_kind(error, kind):
    assert Outcome("a.jpg", error=error).error_kind == kind


def test_a_name_that_is_no_text_keeps_its_bytes_in_json_and_is_readable_elsewhere():
    name = os.fsdecode(b"caf\xe9.jpg")
    [line] = written(JsonLinesWriter, [Outcome(name, prediction(1))]).splitlines()
    assert os.fsencode(json.loads(line)["image"]) == b"caf\xe9.jpg"
    assert r"caf\xe9.jpg" in written(CsvWriter, [Outcome(name, prediction(1))])
    assert r"caf\xe9.jpg" in written(ManyTableWriter, [Outcome(name, prediction(1))], [name])


def test_a_name_cannot_move_the_cursor():
    name = "a\x1b[2J\nb.jpg"
    assert r"a\x1b[2J\nb.jpg" in written(ManyTableWriter, [Outcome(name, prediction(1))], [name])


def test_the_summary_is_a_line():
    tally = Tally(seconds=2.0)
    for outcome in OUTCOMES:
        tally.count(outcome)
    assert str(tally) == "6 images, 4 faces, 1 without a face, 1 refused, 1 unreadable; 2.0 s, 2.0 images/s"
    assert str(Tally()) == "0 images, 0 faces, 0 refused; 0.0 s, 0.0 images/s"
