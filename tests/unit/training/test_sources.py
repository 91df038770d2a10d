"""The options that say where images come from, and whole runs on other data than FER2013."""

import argparse
import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

from PIL import Image
from small_data import RECIPE_TOML, fer_train, write_fer2013

from fer_training.checkpoint import load_checkpoint
from fer_training.errors import RecipeError
from fer_training.recipe import DataRecipe
from fer_training.sources import (
    add_source_options,
    describe_source,
    load_for_measuring,
    load_for_training,
    parse_options,
)

EMOTIONS = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")


def parse(*arguments: object, to_measure: bool = False) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_source_options(parser, to_measure=to_measure)
    return parse_options(parser, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def ck48(tmp_path_factory):
    """Twelve subjects, each with all seven emotions."""
    folder = tmp_path_factory.mktemp("ck48")
    rng = np.random.default_rng(0)
    for emotion in EMOTIONS:
        (folder / emotion).mkdir()
        for subject in range(12):
            pixels = rng.integers(0, 256, (48, 48), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / emotion / f"S{subject:03}_001_00000001.png")
    return folder


def test_a_source_must_be_given_and_only_one(capsys):
    for arguments in ([], ["--fer2013", "a", "--ck48", "b"]):
        with pytest.raises(SystemExit):
            parse(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fer2013", "a", "--fold", "3"], "--fold goes with --ck48"),
        (["--ck48", "a", "--split-seed", "3"], "--split-seed goes with --folder"),
        (["--folder", "a", "--usage", "Training"], "--usage goes with --fer2013"),
    ],
)
def test_an_option_of_another_source_is_refused(capsys, arguments, message):
    with pytest.raises(SystemExit):
        parse(*arguments, to_measure=True)
    assert message in capsys.readouterr().err


def test_a_fold_is_trained_on_and_measured(ck48, recipe):
    arguments = parse("--ck48", ck48, "--fold", 2, "--folds", 4, to_measure=True)
    data = load_for_training(arguments, recipe)
    faces, name = load_for_measuring(arguments)
    assert name == "fold 2"
    assert len(data.training) + len(faces) == 84
    np.testing.assert_array_equal(faces.images, data.validation.images)
    assert describe_source(arguments) == "--ck48 DIR --fold 2 --folds 4"


def test_class_folders_have_a_validation_and_a_test_split(ck48, recipe):
    arguments = parse("--folder", ck48, "--split-seed", 1, to_measure=True)
    data = load_for_training(arguments, recipe)
    validation, _ = load_for_measuring(arguments)
    test, name = load_for_measuring(parse("--folder", ck48, "--split-seed", 1, "--split", "test", to_measure=True))
    assert name == "test"
    assert len(data.training) + len(validation) + len(test) == 84
    assert len(test) > len(validation) > 0
    assert describe_source(arguments) == "--folder DIR --split-seed 1"


def test_the_train_command_trains_on_a_fold(ck48, tmp_path, capsys):
    recipe = tmp_path / "posed.toml"
    recipe.write_text(RECIPE_TOML.replace("[loss]", "[loss]\nclass_weights = { contempt = 2.0 }"), encoding="utf-8")
    arguments = ["--recipe", recipe, "--ck48", ck48, "--fold", 1, "--folds", 4, "--runs", tmp_path / "runs"]
    assert fer_train("run", *arguments) == 0
    run = tmp_path / "runs" / "posed-fold1"
    checkpoint = load_checkpoint(run / "checkpoint.pt")
    assert checkpoint.class_names[-1] == "contempt"
    assert checkpoint.origin.command.endswith("--ck48 DIR --fold 1 --folds 4")
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint.pt", "curves.png", "log.csv"]


def test_a_record_says_whatever_chose_the_images(tmp_path):
    def describe(*arguments):
        return describe_source(parse(*arguments, to_measure=True))

    assert describe("--fer2013", tmp_path, "--usage", "Training") == "--fer2013 DIR --usage Training"
    assert describe("--fer2013", tmp_path, "--usage", "HeldOut") == "--fer2013 DIR --usage HeldOut"
    options = ["--split-seed", 3, "--subject-pattern", "(P +)_", "--skip-unreadable", "--split", "test"]
    assert describe("--folder", tmp_path, *options) == (
        "--folder DIR --split-seed 3 --subject-pattern '(P +)_' --skip-unreadable --split test"
    )


def test_held_out_images_are_left_out_of_training_and_can_be_measured_on(tmp_path, recipe):
    write_fer2013(tmp_path, training=10)
    data = load_for_training(parse("--fer2013", tmp_path), dataclasses.replace(recipe, data=DataRecipe(hold_out=True)))
    assert len(data.training) == len(data.validation) == 5  # of so few one half
    measured, usage = load_for_measuring(parse("--fer2013", tmp_path, "--usage", "HeldOut", to_measure=True))
    assert measured.sha256() == data.validation.sha256()
    assert usage == "HeldOut"


def test_a_recipe_that_leaves_images_out_is_for_fer2013(ck48, recipe):
    picky = dataclasses.replace(recipe, data=DataRecipe(drop_conflicting=True))
    with pytest.raises(RecipeError, match=r"tiny: its \[data\] section is for --fer2013"):
        load_for_training(parse("--ck48", ck48), picky)
