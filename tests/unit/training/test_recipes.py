import dataclasses
from pathlib import Path

import pytest
from small_data import RECIPE_TOML

from fer_training.errors import RecipeError
from fer_training.recipe import load_recipe, recipe_from_table

RECIPES = sorted((Path(__file__).parents[3] / "training" / "recipes").glob("*.toml"))


def test_there_are_recipes_to_ship():
    assert RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_under_its_own_name(path):
    assert load_recipe(path).name == path.stem


def test_lists_become_tuples_and_whole_numbers_become_floats(recipe_table):
    recipe_table["augmentation"]["rotation_deg"] = 5
    recipe = recipe_from_table(recipe_table, "tiny.toml")
    assert recipe.network.repconv.stages == ((8, 8), (16, 16))
    assert isinstance(recipe.augmentation.rotation_deg, float)


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        ("optimisation", "epochs", 0, "optimisation.epochs must be a whole number from 1 to 1000, but is 0"),
        ("optimisation", "epochs", 2.5, "optimisation.epochs must be a whole number"),
        ("optimisation", "epochs", True, "optimisation.epochs must be a whole number"),
        ("optimisation", "momentum", "0.9", "optimisation.momentum must be a number from 0 to 0.999, but is '0.9'"),
        ("optimisation", "optimiser", "lion", "optimisation.optimiser must be one of sgd, adamw, but is 'lion'"),
        ("loss", "label_smoothing", float("nan"), "loss.label_smoothing must be a number"),
        ("loss", "class_weights", {"fear": 0}, "loss.class_weights.fear must be a number from 0.1 to 10, but is 0"),
        ("loss", "class_weights", 1.5, "loss.class_weights must be a table, but is 1.5"),
        ("augmentation", "view_px", 64, "augmentation.view_px must be a whole number from 24 to 48, but is 64"),
        ("augmentation", "full_view_epochs", 5, r"full_view_epochs must be at most optimisation.epochs \(4\)"),
        ("optimisation", "frozen_epochs", 4, r"frozen_epochs must be below optimisation.epochs \(4\), but is 4"),
        ("optimisation", "backbone_rate", 1.5, "optimisation.backbone_rate must be a number from 0 to 1, but is 1.5"),
        ("network", "backbone", "vgg", "network.backbone must be one of repconv, mobilenet_v3_small, .* but is 'vgg'"),
        ("network", "backbone", "resnet18", r"\[network.repconv\] must be there if, and only if"),
        ("network", "equalise", 1, "network.equalise must be true or false, but is 1"),
        ("network", "depth", 3, "network.depth is not a field. Known here: backbone, input_px, channels"),
        ("network", "repconv", {"stem_channels": 8, "stages": []}, "stages must be a list that is not empty"),
        ("network", "repconv", {"stem_channels": 8, "stages": [[8], []]}, "stages must be a list that is not empty"),
        ("network", "repconv", {"stem_channels": 8, "stages": [[8, -1]]}, "must be a whole number from 1 to 1024"),
    ],
)
def test_a_wrong_field_is_refused_by_name(recipe_table, section, field, value, message):
    recipe_table[section][field] = value
    with pytest.raises(RecipeError, match=f"tiny.toml: .*{message}"):
        recipe_from_table(recipe_table, "tiny.toml")


def test_a_missing_field_is_refused_by_name(recipe_table):
    del recipe_table["optimisation"]["epochs"]
    with pytest.raises(RecipeError, match=r"tiny.toml: optimisation.epochs is missing. It has no default: write it"):
        recipe_from_table(recipe_table, "tiny.toml")


def test_a_section_that_is_not_one_is_refused(recipe_table):
    recipe_table["network"] = 3
    with pytest.raises(RecipeError, match=r"network must be a section \(\[network\]\), but is 3"):
        recipe_from_table(recipe_table, "tiny.toml")


def test_a_name_that_cannot_be_a_version_is_refused(recipe_table):
    with pytest.raises(RecipeError, match=r"my recipe.toml: a recipe's file name must be letters, digits"):
        recipe_from_table({**recipe_table, "name": "my recipe"}, "my recipe.toml")


def test_a_missing_file_and_a_file_that_is_not_toml_are_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"none.toml: cannot be read .* Give --recipe a .toml file"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("epochs = = 3", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"bad\.toml: is not TOML"):
        load_recipe(tmp_path / "bad.toml")


def test_a_recipe_that_extends_another_is_that_one_but_for_what_it_names(tmp_path):
    weighted = RECIPE_TOML.replace("[loss]", "[loss]\nclass_weights = { sad = 1.5 }")
    (tmp_path / "base.toml").write_text(weighted, encoding="utf-8")
    (tmp_path / "longer.toml").write_text(
        'extends = "base.toml"\nseed = 7\n[optimisation]\nepochs = 5\n[loss]\nclass_weights = { fear = 2.0 }\n',
        encoding="utf-8",
    )
    base, longer = load_recipe(tmp_path / "base.toml"), load_recipe(tmp_path / "longer.toml")
    optimisation = dataclasses.replace(base.optimisation, epochs=5)
    loss = dataclasses.replace(base.loss, class_weights={"fear": 2.0})  # a field, not a section
    assert longer == dataclasses.replace(base, name="longer", seed=7, optimisation=optimisation, loss=loss)


def test_an_extending_recipe_can_start_from_random_weights_instead(tmp_path):
    (tmp_path / "start.toml").write_text('starts_from = "dlib.npz"\n' + RECIPE_TOML, encoding="utf-8")
    (tmp_path / "twin.toml").write_text('extends = "start.toml"\nstarts_from = ""\n', encoding="utf-8")
    start, twin = load_recipe(tmp_path / "start.toml"), load_recipe(tmp_path / "twin.toml")
    assert dataclasses.replace(start, name="twin", starts_from="") == twin


def test_only_a_recipe_that_is_there_and_whole_is_extended(tmp_path):
    path = tmp_path / "longer.toml"
    path.write_text('extends = "base.toml"\n', encoding="utf-8")
    with pytest.raises(RecipeError, match="base.toml: cannot be read"):
        load_recipe(path)
    (tmp_path / "base.toml").write_text('extends = "other.toml"\n', encoding="utf-8")
    with pytest.raises(RecipeError, match="longer.toml: base.toml, which it extends, extends another one"):
        load_recipe(path)
    path.write_text("extends = 3\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="longer.toml: extends must be text, but is 3"):
        load_recipe(path)
