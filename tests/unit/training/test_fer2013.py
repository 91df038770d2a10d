from pathlib import Path

import numpy as np
import pytest

from fer_training import fer2013
from fer_training.errors import DataError
from fer_training.fer2013 import load_evaluation_data, load_training_data, read_csv

RNG = np.random.default_rng(0)
FACES = RNG.integers(0, 256, (8, 48, 48), dtype=np.uint8)
BLANK = np.full((48, 48), 7, dtype=np.uint8)
GOOD = " ".join(["9"] * 2304)


def write_csv(directory: Path, rows: list[tuple[object, object, str]]) -> Path:
    lines = ["emotion,pixels,Usage"]
    for emotion, pixels, usage in rows:
        text = pixels if isinstance(pixels, str) else " ".join(map(str, np.ravel(pixels)))
        lines.append(f"{emotion},{text},{usage}")
    path = directory / "fer2013.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_every_pixel_and_label_is_read_in_file_order(tmp_path):
    path = write_csv(tmp_path, [(3, FACES[0], "Training"), (6, FACES[1], "PublicTest"), (0, FACES[2], "Training")])
    splits = read_csv(path)
    np.testing.assert_array_equal(splits["Training"].images, FACES[[0, 2]])
    np.testing.assert_array_equal(splits["PublicTest"].images, FACES[[1]])
    assert splits["Training"].labels.tolist() == [3, 0]
    assert splits["Training"].rows.tolist() == [0, 2]
    assert len(splits["PrivateTest"]) == 0


def test_columns_may_come_in_any_order_and_after_a_byte_order_mark(tmp_path):
    pixels = " ".join(map(str, FACES[0].ravel()))
    path = tmp_path / "fer2013.csv"
    path.write_text(f"\ufeffUsage,emotion,pixels\r\nPublicTest,4,{pixels}\r\n", encoding="utf-8")
    faces = read_csv(path)["PublicTest"]
    np.testing.assert_array_equal(faces.images[0], FACES[0])
    assert faces.labels.tolist() == [4]


def test_training_drops_what_teaches_nothing_or_gives_an_evaluation_image_away(tmp_path):
    write_csv(
        tmp_path,
        [
            (0, FACES[0], "Training"),
            (1, FACES[1], "Training"),  # identical to a PublicTest image
            (2, FACES[2], "Training"),  # identical to a PrivateTest image
            (3, BLANK, "Training"),
            (4, FACES[3], "Training"),  # listed below
            (5, FACES[4], "Training"),
            (5, FACES[1], "PublicTest"),
            (5, BLANK, "PublicTest"),
            (5, FACES[2], "PrivateTest"),
        ],
    )
    (tmp_path / "excluded_rows.txt").write_text("4\n\n", encoding="utf-8")
    data = load_training_data(tmp_path)
    assert data.training.labels.tolist() == [0, 5]
    assert (data.dropped.found, data.dropped.kept) == (6, 2)
    assert list(data.dropped.dropped.values()) == [1, 1, 2]
    assert str(data.dropped) == (
        "2 of 6 training images kept; dropped: 1 listed in excluded_rows.txt, 1 constant, "
        "2 identical to an evaluation image"
    )
    assert len(data.validation) == 2


def test_evaluation_keeps_every_row_of_its_usage_and_parses_no_other(tmp_path):
    write_csv(tmp_path, [(0, "not pixels", "Training"), (5, BLANK, "PublicTest"), (5, BLANK, "PublicTest")])
    assert len(load_evaluation_data(tmp_path, "PublicTest")) == 2


def text_of(image) -> str:
    return " ".join(map(str, np.ravel(image)))


def test_an_image_is_marked_if_listed_or_seen_in_another_evaluation_usage(tmp_path):
    write_csv(
        tmp_path,
        [
            (0, FACES[0], "Training"),
            (
                0,
                " ".join(f"{pixel:03}" for pixel in FACES[1].ravel()) + " ",
                "PrivateTest",
            ),  # the same, written otherwise
            (1, FACES[0], "PublicTest"),
            (1, FACES[1], "PublicTest"),
            (1, FACES[2], "PublicTest"),
            (1, FACES[3], "PublicTest"),  # listed below
            (1, FACES[4], "PublicTest"),
            (1, FACES[4], "PublicTest"),  # twice in its own usage is nothing to mark
            (1, np.concatenate([FACES[5][:24], FACES[6][24:]]), "PublicTest"),  # only begins like a PrivateTest image
            (1, FACES[5], "PrivateTest"),
            (2, FACES[2], "PrivateTest"),
            (3, FACES[7], "Training"),
        ],
    )
    (tmp_path / "excluded_rows.txt").write_text("5\n", encoding="utf-8")
    marks = [False, True, True, True, False, False, False]  # Of the first, it is the twin in Training that is dropped.
    public_test = load_evaluation_data(tmp_path, "PublicTest")
    assert public_test.seen_elsewhere.tolist() == marks
    assert len(public_test) == 7
    assert load_training_data(tmp_path).validation.seen_elsewhere.tolist() == marks
    assert load_evaluation_data(tmp_path, "PrivateTest").seen_elsewhere.tolist() == [True, False, True]
    assert load_evaluation_data(tmp_path, "Training").seen_elsewhere.tolist() == [True, False]


def test_a_row_of_another_usage_that_is_no_image_marks_nothing(tmp_path):
    face = text_of(FACES[0])
    write_csv(
        tmp_path,
        [
            (0, face + " 1", "PrivateTest"),
            (0, face[:-2] + "x", "PrivateTest"),
            (0, "", "PrivateTest"),
            (0, face, "PublicTest"),
        ],
    )
    assert load_evaluation_data(tmp_path, "PublicTest").seen_elsewhere.tolist() == [False]


def test_a_listed_evaluation_row_is_still_evaluated_and_drops_nothing(tmp_path):
    write_csv(tmp_path, [(0, FACES[0], "Training"), (0, FACES[1], "PublicTest")])
    (tmp_path / "excluded_rows.txt").write_text("1\n", encoding="utf-8")
    data = load_training_data(tmp_path)
    assert (len(data.training), len(data.validation)) == (1, 1)
    assert sum(data.dropped.dropped.values()) == 0


def write_duplicates(directory: Path) -> None:
    write_csv(
        directory,
        [
            (0, FACES[0], "Training"),
            (1, FACES[0], "Training"),
            (1, FACES[0], "Training"),  # three of one picture with two labels
            (2, FACES[1], "Training"),
            (2, FACES[1], "Training"),  # a repeat
            (3, FACES[2], "Training"),
            (4, FACES[3], "Training"),  # both listed below
            (5, FACES[3], "Training"),
            (6, FACES[2], "PublicTest"),  # another label there is no conflict: its twin is dropped anyway
            (6, FACES[4], "PublicTest"),
        ],
    )
    (directory / "excluded_rows.txt").write_text("6\n7\n", encoding="utf-8")


def test_duplicates_are_noticed(tmp_path):
    write_duplicates(tmp_path)
    data = load_training_data(tmp_path)
    assert data.training.labels.tolist() == [0, 1, 1, 2, 2]
    assert str(data.dropped) == (
        "5 of 8 training images kept; dropped: 2 listed in excluded_rows.txt, 1 identical to an evaluation image; "
        "kept in spite of it: 3 identical to one with another label, 1 repeats of an earlier one"
    )


def test_conflicting_duplicates_are_dropped_on_demand(tmp_path):
    write_duplicates(tmp_path)
    data = load_training_data(tmp_path, drop_conflicting=True)
    assert data.training.labels.tolist() == [2, 2]
    assert data.dropped.dropped == {
        "listed in excluded_rows.txt": 2,
        "constant": 0,
        "identical to an evaluation image": 1,
        "identical to one with another label": 3,
    }
    assert data.dropped.noticed == {"repeats of an earlier one": 1}
    assert data.dropped.kept == len(data.training)


def write_many(directory, repeats=3, count=120):
    """Training images, each several times, the first of them also in PublicTest, one constant and one listed."""
    images = np.random.default_rng(1).integers(0, 256, (count, 48, 48), dtype=np.uint8)
    rows = [(index % 7, image, "Training") for index, image in enumerate(images) for _ in range(repeats)]
    rows += [(0, BLANK, "Training"), (1, images[0], "PublicTest"), (1, FACES[0], "PublicTest")]
    write_csv(directory, rows)
    (directory / "excluded_rows.txt").write_text(f"{repeats}\n", encoding="utf-8")


def test_held_out_images_are_watched_and_not_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr(fer2013, "HELD_OUT_IMAGES", 90)
    write_many(tmp_path)
    whole, data = load_training_data(tmp_path), load_training_data(tmp_path, hold_out=True)
    assert len(data.validation) + len(data.training) == len(whole.training) == 3 * 120 - 1 - 3
    assert 80 <= len(data.validation) <= 100
    assert data.dropped.dropped["held out"] == len(data.validation)
    assert data.dropped.kept == len(data.training)
    trained = {image.tobytes() for image in data.training.images}
    assert not trained & {image.tobytes() for image in data.validation.images}  # repeats stay together
    assert np.bincount(data.validation.labels, minlength=7).min() >= 9  # each class has its part
    assert BLANK.tobytes() not in {image.tobytes() for image in data.validation.images}
    measured = load_evaluation_data(tmp_path, "HeldOut")
    np.testing.assert_array_equal(measured.images, data.validation.images)


def test_the_same_images_are_held_out_whatever_else_is_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(fer2013, "HELD_OUT_IMAGES", 90)
    write_many(tmp_path)
    path = tmp_path / "fer2013.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("\n0,", "\n3,", 1), encoding="utf-8")  # a repeat of the first image contradicts it
    first = load_training_data(tmp_path, hold_out=True)
    second = load_training_data(tmp_path, hold_out=True, drop_conflicting=True)
    assert first.validation.sha256() == second.validation.sha256()


def test_quotes_do_not_change_what_is_read(tmp_path):
    path = tmp_path / "fer2013.csv"
    path.write_text(f'"emotion","pixels","Usage"\n"3","{text_of(FACES[0])}","PublicTest"\n', encoding="utf-8")
    faces = read_csv(path)["PublicTest"]
    np.testing.assert_array_equal(faces.images[0], FACES[0])
    assert faces.labels.tolist() == [3]


def test_the_hash_of_a_training_set_does_not_depend_on_how_rows_were_dropped(tmp_path):
    by_list, by_rule = tmp_path / "list", tmp_path / "rule"
    rows = [(0, FACES[0], "Training"), (1, FACES[1], "Training"), (2, FACES[2], "PublicTest")]
    for directory in (by_list, by_rule):
        directory.mkdir()
    write_csv(by_list, rows)
    (by_list / "excluded_rows.txt").write_text("1\n", encoding="utf-8")
    write_csv(by_rule, [*rows, (1, FACES[1], "PrivateTest")])
    assert load_training_data(by_list).training.sha256() == load_training_data(by_rule).training.sha256()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((7, GOOD, "Training"), "row 1: emotion must be a whole number from 0 to 6, but is '7'"),
        (("happy", GOOD, "Training"), "row 1: emotion must be .* but is 'happy'"),
        (("", GOOD, "Training"), "row 1: emotion must be .* but is ''"),
        ((0, GOOD, "Test"), "row 1: Usage must be one of Training, PublicTest, PrivateTest, but is 'Test'"),
        ((0, "1 2 3", "Training"), r"row 1: pixels must be 2304 numbers \(48 x 48\), but there are 3"),
        ((0, "", "Training"), "row 1: pixels must be"),
        ((0, GOOD + " 9", "Training"), "row 1: pixels must be 2304 numbers .* there are 2305"),
        ((0, GOOD[:-1] + "x", "Training"), "row 1: pixels must be whole numbers separated by spaces"),
        ((0, "3.5 " + GOOD[2:], "Training"), "row 1: pixels must be"),
        ((0, "256 " + GOOD[2:], "Training"), "row 1: pixels must be from 0 to 255, but go from 9 to 256"),
        ((0, "-1 " + GOOD[2:], "Training"), "row 1: pixels must be from 0 to 255, but go from -1 to 9"),
        ((0, GOOD, "Training,extra"), "row 1: has 4 columns, but the header has 3"),
    ],
)
def test_an_unusable_row_is_refused_with_file_and_number(tmp_path, row, message):
    write_csv(tmp_path, [(0, GOOD, "Training"), row])
    with pytest.raises(DataError, match=rf"fer2013.csv, {message}"):
        load_training_data(tmp_path)


def test_a_missing_file_names_the_folder_to_give(tmp_path):
    with pytest.raises(DataError, match=r"fer2013.csv: cannot be read .* Give --fer2013 the folder"):
        load_training_data(tmp_path)


def test_a_missing_column_is_named(tmp_path):
    (tmp_path / "fer2013.csv").write_text("emotion,pixels\n0,1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"fer2013\.csv: column Usage is missing"):
        load_training_data(tmp_path)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "fer2013.csv").write_bytes(b"emotion,pixels,Usage\n\xff\xfe\xfd")
    with pytest.raises(DataError, match=r"fer2013.csv, after line \d: is not CSV in UTF-8"):
        load_training_data(tmp_path)


@pytest.mark.parametrize("usage", ["Training", "PublicTest"])
def test_training_needs_both_of_its_usages(tmp_path, usage):
    other = {"Training": "PublicTest", "PublicTest": "Training"}[usage]
    write_csv(tmp_path, [(0, GOOD, other)])
    with pytest.raises(DataError, match=f"has no {usage} rows"):
        load_training_data(tmp_path)


def test_an_evaluation_without_rows_is_refused(tmp_path):
    write_csv(tmp_path, [(0, GOOD, "Training")])
    with pytest.raises(DataError, match="has no PrivateTest rows"):
        load_evaluation_data(tmp_path, "PrivateTest")


def test_nothing_left_to_train_on_is_refused_with_the_reasons(tmp_path):
    write_csv(tmp_path, [(0, BLANK, "Training"), (0, FACES[0], "PublicTest")])
    with pytest.raises(DataError, match=r"nothing is left to train on: .* 1 constant"):
        load_training_data(tmp_path)


@pytest.mark.parametrize("line", ["2", "-1", "fer0000001.png"])
def test_an_excluded_row_that_does_not_exist_is_refused(tmp_path, line):
    write_csv(tmp_path, [(0, FACES[0], "Training"), (0, FACES[1], "PublicTest")])
    (tmp_path / "excluded_rows.txt").write_text(f"0\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"excluded_rows.txt, line 2: must be a row number .* 0 to 1, but is '{line}'"):
        load_training_data(tmp_path)
