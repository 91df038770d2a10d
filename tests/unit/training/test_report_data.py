"""The report as a user gets it, and the counts of the real FER2013."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_data import fer_train

from fer_training import report_data
from fer_training.faces import VOTES, TrainingData
from fer_training.fer2013 import load_evaluation_data, load_training_data, read_csv
from fer_training.folders import load_ck48, load_class_folders

FACES = np.random.default_rng(0).integers(0, 256, (9, 48, 48), dtype=np.uint8)
HAPPY, NOBODY = "0,10,0,0,0,0,0,0,0,0", "0,1,0,0,0,0,0,0,0,9"


@pytest.fixture
def call(capsys):
    """Runs the command and returns its exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            code = fer_train("report-data", *arguments)
        except SystemExit as error:
            code = error.code
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


@pytest.fixture
def fer2013(tmp_path) -> Path:
    rows = [
        (3, 0, "Training", HAPPY),
        (3, 0, "Training", HAPPY),  # a repeat
        (0, 1, "Training", HAPPY),
        (2, 1, "Training", HAPPY),  # the same with another label
        (3, 2, "Training", NOBODY),
        (4, 3, "Training", HAPPY),  # also in PublicTest
        (3, 3, "PublicTest", HAPPY),
        (3, 4, "PublicTest", NOBODY),
    ]
    faces = [f"{label},{' '.join(map(str, FACES[face].ravel()))},{usage}" for label, face, usage, _ in rows]
    votes = [f"{usage},,{counts}" for _, _, usage, counts in rows]
    (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *faces]), encoding="utf-8")
    (tmp_path / "fer2013new.csv").write_text("\n".join(["Usage,Image name," + ",".join(VOTES), *votes]), "utf-8")
    return tmp_path


def test_fer2013_in_text(call, fer2013):
    code, text, _ = call("--fer2013", fer2013, "--votes")
    assert code == 0
    sha256 = load_training_data(fer2013, votes=True).training.sha256()
    assert [line.rstrip() for line in text.splitlines()] == [
        "5 of 6 training images kept; dropped: 1 identical to an evaluation image; kept in spite of it: "
        "1 no face by FER+ votes, 2 identical to one with another label, 1 repeats of an earlier one",
        "",
        "images    Training  trained on  PublicTest",
        "angry            1           1           0",
        "disgust          0           0           0",
        "fear             1           1           0",
        "happy            3           3           2",
        "sad              1           0           0",
        "surprise         0           0           0",
        "neutral          0           0           0",
        "all              6           5           2",
        "",
        "identical    groups   images  groups of several labels  images in these",
        "Training          2        4                         1                2",
        "PublicTest        0        0                         0                0",
        "all               3        6                         2                4",
        "1 of Training are also in PublicTest",
        "1 of PublicTest are also in Training",
        "FER+, trained on: 1 of 5 show no face; the label has the most votes in 50.0%",
        "FER+, PublicTest: 1 of 2 show no face; the label has the most votes in 100.0%",
        "",
        f"SHA-256 of the training set: {sha256}",
    ]


def test_fer2013_in_json_with_everything_dropped(call, fer2013):
    code, text, _ = call("--fer2013", fer2013, "--drop-no-face", "--drop-conflicting", "--json")
    assert code == 0
    report = json.loads(text)
    data = load_training_data(fer2013, drop_no_face=True, drop_conflicting=True)
    assert report["training_sha256"] == data.training.sha256()
    assert report["splits"]["trained on"]["happy"] == sum(report["splits"]["trained on"].values()) == 2
    assert report["dropped"]["dropped"] == data.dropped.dropped
    assert report["votes"] == {}
    assert str(fer2013) not in text


def write_folder(directory: Path, names: list[str], file: str) -> Path:
    for label, name in enumerate(names):
        (directory / name).mkdir()
        for number in range(4):
            Image.fromarray(FACES[number] ^ label).save(directory / name / file.format(number))
    return directory


def test_a_folder(call, tmp_path):
    write_folder(tmp_path, ["anger", "joy"], "{}.png")
    (tmp_path / "joy" / "notes.txt").write_text("no image", encoding="utf-8")
    code, _, error = call("--folder", tmp_path)
    assert code == 2
    assert "notes.txt: the bytes are not an image" in error
    code, text, _ = call("--folder", tmp_path, "--skip-unreadable", "--split-seed", 5)
    assert code == 0
    assert "dropped: 1 unreadable (not_an_image)" in text
    assert "images  training  validation     test\nangry          2           1        1\n" in text
    assert "file names tell no subjects" in text
    assert "no image is in two splits" in text
    assert load_class_folders(tmp_path, seed=5, skip_unreadable=True).training.sha256() in text
    code, text, _ = call("--folder", tmp_path, "--skip-unreadable", "--subject-pattern", r"(\d)\.PNG")
    assert "4 subjects, each in one split only" in text


def test_ck48(call, tmp_path):
    write_folder(
        tmp_path, ["anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise"], "S{:03}_001_00000001.png"
    )
    code, text, _ = call("--ck48", tmp_path, "--fold", 1, "--folds", 4, "--json")
    assert code == 0
    report = json.loads(text)
    assert report["subjects"] == 4
    assert report["splits"]["validation"] == dict.fromkeys(report["splits"]["training"], 1)
    assert report["training_sha256"] == load_ck48(tmp_path, fold=1, folds=4).training.sha256()


@pytest.mark.parametrize("source", ["--fer2013", "--folder", "--ck48"])
def test_what_the_user_can_put_right_is_one_line_on_stderr(call, tmp_path, source):
    code, out, error = call(source, tmp_path / "none")
    assert (code, out) == (2, "")
    assert error.startswith("fer-train report-data: ")
    assert "none" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "one of the arguments --fer2013 --folder --ck48 is required"),
        (("--folder", ".", "--votes"), "--votes goes with --fer2013"),
        (("--ck48", ".", "--subject-pattern", "x"), "--subject-pattern goes with --folder"),
        (("--fer2013", ".", "--fold", "1"), "--fold goes with --ck48"),
        (("--folder", ".", "--subject-pattern", "("), "'(' is no regular expression"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(call, arguments, message):
    code, _, error = call(*arguments)
    assert code == 2
    assert message in error


@pytest.fixture(scope="module")
def real() -> tuple[Path, TrainingData, report_data.DataReport]:
    if "FER2013_DIR" not in os.environ:
        pytest.skip("FER2013_DIR is not set: no fer2013.csv to report on")
    directory = Path(os.environ["FER2013_DIR"])
    rows = read_csv(directory / "fer2013.csv")
    data = load_training_data(directory, votes=(directory / "fer2013new.csv").exists(), rows=rows)
    return directory, data, report_data.report_fer2013(rows, data)


def test_nothing_trained_on_is_in_public_test(real):
    directory, data, report = real
    assert report.across_splits["Training"]["PublicTest"] > 0
    trained_on = {image.tobytes() for image in data.training.images}
    assert not trained_on & {image.tobytes() for image in data.validation.images}
    # The two ways to find twins agree: parsed images, and text that begins alike.
    public_test = load_evaluation_data(directory, "PublicTest")
    np.testing.assert_array_equal(public_test.images, data.validation.images)
    np.testing.assert_array_equal(public_test.seen_elsewhere, data.validation.seen_elsewhere)


def test_the_real_fer2013_has_the_known_flaws(real):
    directory, data, report = real
    if data.dropped.found != 28709 or not (directory / "excluded_rows.txt").exists():
        pytest.skip("FER2013_DIR holds a part of FER2013 only, or no excluded_rows.txt")
    assert data.dropped.dropped == {
        "listed in excluded_rows.txt": 703,
        "constant": 0,
        "identical to an evaluation image": 0,
    }
    assert data.dropped.noticed["identical to one with another label"] == 73
    assert data.dropped.noticed["repeats of an earlier one"] == 1021
    assert (
        replace(data.training, votes=None).sha256()
        == "54b175b360b35d67042ea0e3908e5dd72ed6c65bd0aaf98da6630f7525e3aeca"
    )
    assert report.identical["Training"] == report_data.IdenticalImages(1035, 2271, 39, 107)
    # In all three usages there are 57 groups of several labels.
    assert report.identical["all"].conflicting_groups == (57 if "PrivateTest" in report.splits else 47)
    if data.training.votes is None:
        pytest.skip("FER2013_DIR holds no fer2013new.csv")
    assert data.dropped.noticed["no face by FER+ votes"] == 139
    assert report.votes["PublicTest"].no_face == 11
    assert report.votes["trained on"].agreement > 0.6
