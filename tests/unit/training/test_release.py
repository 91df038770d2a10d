"""The shipped network: it is what its papers say it is."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import onnx

from fer_contract import LABELS, ONNX_LABELS_KEY, ONNX_VERSION_KEY
from fer_training.damage import DAMAGES
from fer_training.evaluate import evaluate_onnx
from fer_training.fer2013 import load_evaluation_data
from fer_training.onnx_classifier import open_onnx
from fer_training.provenance import recipe_of, with_seed
from fer_training.recipe import load_recipe, recipe_from_table
from fer_training.robustness import damage_faces, format_robustness, read_robustness
from fer_training.tables import format_classes, format_confusion, format_coverage, format_result

ROOM = Path(__file__).parents[3] / "training"
METRICS = json.loads((ROOM / "release" / "metrics.json").read_text(encoding="utf-8"))
ROBUSTNESS = json.loads((ROOM / "release" / "robustness.json").read_text(encoding="utf-8"))
MODEL = ROOM / "release" / METRICS["model"]["file"]


def test_the_figures_belong_to_the_shipped_file():
    assert hashlib.sha256(MODEL.read_bytes()).hexdigest() == METRICS["model"]["sha256"]
    assert MODEL.stat().st_size == METRICS["model"]["size_bytes"] < 10e6


def test_the_shipped_file_fits_the_contract_and_names_its_recipe():
    open_onnx(MODEL)
    metadata = {entry.key: entry.value for entry in onnx.load(MODEL).metadata_props}
    assert metadata[ONNX_LABELS_KEY] == ",".join(LABELS)
    assert metadata[ONNX_VERSION_KEY] == METRICS["model"]["version"]
    described = json.loads(metadata["fer.recipe"])
    assert described["name"] == METRICS["model"]["version"]
    recipes = [recipe_from_table(table, "") for table in described.get("mean_of", {"": described}).values()]
    for recipe in recipes:
        published = load_recipe(ROOM / "recipes" / f"{recipe_of(recipe.name)}.toml")
        reseeded = dataclasses.replace(published, name=with_seed(published.name, recipe.seed), seed=recipe.seed)
        assert recipe in (published, reseeded)
    assert recipes[0].seed == METRICS["training"]["seed"]
    assert sum(recipe.optimisation.epochs for recipe in recipes) == METRICS["training"]["epochs"]
    assert list(described.get("mean_of", {})) == list(METRICS["training"].get("mean_of", {}))


def test_the_shipped_network_reaches_what_it_has_to():
    assert METRICS["evaluation"]["usage"] == "PublicTest"
    assert METRICS["evaluation"]["images"] == 3589
    assert METRICS["evaluation"]["accuracy"] >= 0.70
    assert METRICS["evaluation"]["macro_f1"] >= 0.67
    assert METRICS["evaluation"]["ece"] <= 0.03
    assert METRICS["speed"]["images_per_s"] >= 500


@pytest.mark.parametrize("document", ["RESULTS.md", "MODEL_CARD.md"])
def test_the_documents_name_the_shipped_file_and_its_accuracy(document):
    text = (ROOM / document).read_text(encoding="utf-8")
    assert f"{METRICS['model']['version']}+{METRICS['model']['sha256'][:8]}" in text
    assert f"{METRICS['evaluation']['accuracy']:.2%}".replace("%", " %") in text


@pytest.mark.parametrize(
    ("document", "tables"),
    [
        ("RESULTS.md", [format_result, format_classes, format_confusion, format_coverage]),
        ("MODEL_CARD.md", [format_classes, format_confusion, format_coverage]),
    ],
)
def test_the_documents_have_the_tables_of_the_release(document, tables):
    text = (ROOM / document).read_text(encoding="utf-8")
    for table in tables:
        assert table(METRICS) in text


def test_the_figures_on_damaged_copies_are_the_shipped_file_s():
    assert ROBUSTNESS["sha256"] == METRICS["model"]["sha256"]
    assert list(ROBUSTNESS["damages"]) == list(DAMAGES)
    assert ROBUSTNESS["damages"]["clean"]["accuracy"] == pytest.approx(METRICS["evaluation"]["accuracy"])
    table = format_robustness(read_robustness(json.dumps(ROBUSTNESS)))
    assert table in (ROOM / "RESULTS.md").read_text(encoding="utf-8")


@pytest.mark.skipif("FER2013_DIR" not in os.environ, reason="FER2013_DIR is not set: no fer2013.csv to measure on")
def test_the_shipped_network_measures_as_published():
    figures = evaluate_onnx(MODEL, load_evaluation_data(Path(os.environ["FER2013_DIR"]), "PublicTest"))
    published = METRICS["evaluation"]
    assert figures.images == published["images"]
    # Another CPU's rounding may turn a face or two that sit on the edge between two classes.
    assert figures.accuracy == pytest.approx(published["accuracy"], abs=2.5 / figures.images)
    assert figures.macro_f1 == pytest.approx(published["macro_f1"], abs=2e-3)
    assert figures.ece == pytest.approx(published["ece"], abs=2e-3)
    assert figures.nll == pytest.approx(published["nll"], abs=1e-4)


@pytest.mark.skipif("FER2013_DIR" not in os.environ, reason="FER2013_DIR is not set: no fer2013.csv to measure on")
@pytest.mark.parametrize("name", ["dark 0.15", "noise", "mouth covered"])
def test_the_shipped_network_measures_as_published_on_damaged_copies(name):
    faces = load_evaluation_data(Path(os.environ["FER2013_DIR"]), "PublicTest")
    figures = evaluate_onnx(MODEL, damage_faces(faces, name))
    published = ROBUSTNESS["damages"][name]
    assert figures.accuracy == pytest.approx(published["accuracy"], abs=5.5 / figures.images)
    assert figures.ece == pytest.approx(published["ece"], abs=3e-3)
