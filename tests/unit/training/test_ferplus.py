from pathlib import Path

import numpy as np
import pytest

from fer_training.errors import DataError
from fer_training.faces import VOTES
from fer_training.fer2013 import load_training_data
from fer_training.ferplus import is_no_face, measure_agreement, read_votes

HEADER = "Usage,Image name," + ",".join(VOTES)
FACES = np.random.default_rng(0).integers(0, 256, (6, 48, 48), dtype=np.uint8)
NOBODY = "0,1,0,0,0,0,0,0,4,5"
HAPPY = "0,10,0,0,0,0,0,0,0,0"
SAD = "2,0,0,6,0,0,0,0,0,0"


def write_csv(directory: Path, usages: list[str]) -> None:
    rows = [f"3,{' '.join(map(str, image.ravel()))},{usage}" for image, usage in zip(FACES, usages, strict=False)]
    (directory / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *rows, ""]), encoding="utf-8")


def write_votes(directory: Path, rows: list[tuple[str, str]], header: str = HEADER) -> Path:
    path = directory / "fer2013new.csv"
    # The image names count backwards: nothing may go by them.
    lines = [f"{usage},fer{len(rows) - row:07}.png,{votes}" for row, (usage, votes) in enumerate(rows)]
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return path


def test_votes_go_with_their_rows_as_parts_of_one(tmp_path):
    write_csv(tmp_path, ["Training", "PublicTest", "Training", "Training"])
    (tmp_path / "excluded_rows.txt").write_text("0\n", encoding="utf-8")
    write_votes(tmp_path, [("Training", NOBODY), ("PublicTest", SAD), ("Training", HAPPY), ("Training", SAD)])
    data = load_training_data(tmp_path, votes=True)
    assert data.training.votes.dtype == np.float32
    np.testing.assert_allclose(data.training.votes, [[0, 1, *[0] * 8], [0.25, 0, 0, 0.75, *[0] * 6]])
    np.testing.assert_allclose(data.validation.votes, [[0.25, 0, 0, 0.75, *[0] * 6]])
    np.testing.assert_array_equal(data.training.images, FACES[[2, 3]])


def test_votes_are_part_of_the_hash_and_not_read_unless_asked_for(tmp_path):
    write_csv(tmp_path, ["Training", "PublicTest"])
    without = load_training_data(tmp_path)
    assert without.training.votes is None
    assert without.validation.votes is None
    write_votes(tmp_path, [("Training", HAPPY), ("PublicTest", HAPPY)])
    assert load_training_data(tmp_path, votes=True).training.sha256() != without.training.sha256()


@pytest.mark.parametrize("votes", [False, True])
def test_images_without_a_face_are_dropped_on_demand(tmp_path, votes):
    write_csv(tmp_path, ["Training", "Training", "PublicTest"])
    write_votes(tmp_path, [("Training", NOBODY), ("Training", SAD), ("PublicTest", NOBODY)])
    data = load_training_data(tmp_path, votes=votes, drop_no_face=True)
    assert data.dropped.dropped["no face by FER+ votes"] == 1
    assert len(data.training) == len(data.validation) == 1
    assert (data.training.votes is not None) == votes


def test_images_without_a_face_are_noticed_otherwise(tmp_path):
    write_csv(tmp_path, ["Training", "Training", "PublicTest"])
    write_votes(tmp_path, [("Training", NOBODY), ("Training", SAD), ("PublicTest", HAPPY)])
    report = load_training_data(tmp_path, votes=True).dropped
    assert report.noticed["no face by FER+ votes"] == 1
    assert report.kept == 2
    assert "no face by FER+ votes" not in load_training_data(tmp_path).dropped.noticed


def test_no_face_needs_more_votes_than_any_other_answer():
    votes = np.array([[0, 0, 0, 0, 0, 0, 0, 0, 4, 6], [0, 3, 3, 0, 0, 0, 0, 0, 0, 4], [5, 0, 0, 0, 0, 0, 0, 0, 0, 5]])
    assert is_no_face((votes / 10).astype(np.float32)).tolist() == [True, True, False]


def test_agreement_is_measured_where_a_label_of_fer2013_has_the_most_votes():
    votes = np.zeros((4, 10), np.float32)
    votes[[0, 1, 2, 3], [VOTES.index(name) for name in ("happiness", "anger", "sadness", "contempt")]] = 1
    assert measure_agreement(votes, np.array([3, 0, 3, 3])) == pytest.approx(2 / 3)
    assert measure_agreement(votes[3:], np.array([3])) is None


def test_columns_may_come_in_any_order_and_after_a_byte_order_mark(tmp_path):
    path = tmp_path / "fer2013new.csv"
    path.write_text("\ufeff" + ",".join([*reversed(VOTES), "Usage"]) + "\r\n9,8,7,6,5,4,3,2,1,0,Training\r\n", "utf-8")
    np.testing.assert_allclose(read_votes(path, ["Training"])[0] * 45, range(10), rtol=1e-6)


def test_the_complete_file_goes_with_a_csv_that_lacks_a_usage(tmp_path):
    path = write_votes(
        tmp_path, [("Training", SAD), ("PrivateTest", NOBODY), ("PublicTest", HAPPY), ("PrivateTest", "none," * 9)]
    )
    assert read_votes(path, ["Training", "PublicTest"]).argmax(axis=1).tolist() == [3, 1]


@pytest.mark.parametrize(
    ("usages", "message"),
    [
        (["Training"], "has 2 rows of Training, but fer2013.csv has 1. Both files must have the same rows"),
        (["Training"] * 3, "has 2 rows of Training, but fer2013.csv has 3"),
        (["Training", "PublicTest", "Training"], "row 2: Usage is Training, but row 1 of fer2013.csv is of PublicTest"),
        (["Training", "Training", "PublicTest"], "has 2 rows of PublicTest, Training, but fer2013.csv has 3"),
    ],
)
def test_rows_that_are_not_those_of_the_csv_are_refused(tmp_path, usages, message):
    path = write_votes(tmp_path, [("Training", SAD), ("PrivateTest", SAD), ("Training", HAPPY)])
    with pytest.raises(DataError, match=rf"fer2013new\.csv[,:] {message}"):
        read_votes(path, usages)


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        ("0,1,0,0,0,0,0,0,0,x", "NF must be a whole number of votes, but is 'x'"),
        ("0.5,1,0,0,0,0,0,0,0,0", "neutral must be a whole number of votes, but is '0.5'"),
        ("1,-1,0,0,0,0,0,0,0,0", "happiness must be a whole number of votes, but is '-1'"),
        ("1,,0,0,0,0,0,0,0,0", "happiness must be a whole number of votes, but is ''"),
        (",".join("0" * 10), "has no votes at all. Each image needs at least one"),
        ("1,0", "has 4 columns, but the header has 12"),
    ],
)
def test_an_unusable_row_is_refused_with_file_and_number(tmp_path, votes, message):
    path = write_votes(tmp_path, [("Training", HAPPY), ("Training", votes)])
    with pytest.raises(DataError, match=rf"fer2013new\.csv, row 1:? {message}"):
        read_votes(path, ["Training"] * 2)


@pytest.mark.parametrize("column", ["Usage", "contempt", "NF"])
def test_a_missing_column_is_named(tmp_path, column):
    path = write_votes(tmp_path, [], HEADER.replace(column, "other"))
    with pytest.raises(DataError, match=rf"fer2013new\.csv: column {column} is missing. Expected Usage, neutral"):
        read_votes(path, [])


def test_a_missing_file_says_where_it_belongs(tmp_path):
    write_csv(tmp_path, ["Training", "PublicTest"])
    with pytest.raises(DataError, match=r"fer2013new\.csv: cannot be read .* Put FER\+'s fer2013new.csv beside"):
        load_training_data(tmp_path, votes=True)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "fer2013new.csv").write_bytes(HEADER.encode() + b"\n\xff\xfe\xfd")
    with pytest.raises(DataError, match=r"fer2013new\.csv, after line \d: is not CSV in UTF-8"):
        read_votes(tmp_path / "fer2013new.csv", ["Training"])
