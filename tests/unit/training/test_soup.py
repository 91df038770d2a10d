"""The mean of several runs' weights, made by fer-train soup."""

import dataclasses
import json

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import onnx
import torch

from fer_contract import ONNX_VERSION_KEY
from fer_training.checkpoint import load_checkpoint, load_runs
from fer_training.errors import CheckpointError
from fer_training.export import export
from fer_training.faces import LabelledFaces
from fer_training.metrics import negative_log_likelihood
from fer_training.network import Classifier
from fer_training.prediction import build_network, predict_logits, softmax
from fer_training.provenance import recipe_of, soup_of
from fer_training.recipe import recipe_from_table
from fer_training.soup import average_runs
from fer_training.tables import format_result
from fer_training.train import train

CPU = torch.device("cpu")


def change(record, /, **fields):
    return dataclasses.replace(record, **fields)


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory, recipe, data):
    """A parent, and two runs of two epochs that started from it."""
    folder = tmp_path_factory.mktemp("runs")
    train(recipe, data, folder / "parent", device=CPU)
    child = change(recipe, optimisation=change(recipe.optimisation, epochs=2), starts_from="parent")
    for seed in (3, 4):
        one = change(child, name="child" if seed == 3 else f"child-seed{seed}", seed=seed)
        train(one, data, folder / one.name, device=CPU, runs_dir=folder)
    return folder


@pytest.fixture(scope="module")
def runs(runs_dir):
    return load_runs([runs_dir / "child", runs_dir / "child-seed4"])


@pytest.fixture(scope="module")
def soup(runs, data):
    return average_runs(runs, data, "the command")


def test_weights_are_the_mean_of_all_runs(runs, soup):
    first, second = (run.average for run in runs.values())
    for name, weights in soup.average.items():
        if "running_" not in name and weights.is_floating_point():
            torch.testing.assert_close(weights, (first[name] + second[name]) / 2)
    assert any((first[name] - second[name]).abs().max() > 1e-3 for name in first if name.endswith("kernel_3x3"))


def test_batch_norms_have_the_statistics_of_whole_images(soup, runs, data):
    network = Classifier(soup.recipe.network, 7)
    network.load_state_dict(soup.average)
    # Of the first layer they can be computed: nothing but its kernel is before it.
    name = next(name for name in soup.average if name.endswith("running_mean"))
    layer = network.get_submodule(name.removesuffix(".norm.running_mean"))
    with torch.no_grad():
        faces = network.preprocess(torch.from_numpy(data.training.images).unsqueeze(1))
        features = torch.nn.functional.conv2d(faces, layer.kernel(), stride=layer.stride, padding=1)
    torch.testing.assert_close(layer.norm.running_mean, features.mean((0, 2, 3)), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(layer.norm.running_var, features.var((0, 2, 3)), rtol=1e-3, atol=1e-5)
    trained = next(iter(runs.values())).average[name]
    assert not torch.allclose(layer.norm.running_mean, trained, rtol=1e-2)


def test_it_tells_what_it_was_made_of(runs, soup, data):
    assert soup.recipe == change(runs["child"].recipe, name="child-soup")
    assert {name: run.weights_sha256 for name, run in soup.origin.mean_of.items()} == {
        name: run.hash_weights() for name, run in runs.items()
    }
    assert [run.recipe for run in soup.origin.mean_of.values()] == [run.recipe for run in runs.values()]
    assert [run.origin for run in soup.origin.mean_of.values()] == [run.origin for run in runs.values()]
    assert soup.origin.command == "the command"
    (record,) = soup.history
    assert record.epoch == 4
    assert record.elapsed_s == pytest.approx(sum(run.history[-1].elapsed_s for run in runs.values()))
    assert record.validation_accuracy > 0.5  # by chance 0.14
    probabilities = softmax(predict_logits(build_network(soup), data.validation.images))
    assert record.validation_accuracy == (probabilities.argmax(axis=1) == data.validation.labels).mean()
    assert record.validation_nll == pytest.approx(negative_log_likelihood(probabilities, data.validation.labels), 1e-5)


def test_it_is_exported_and_built_on_like_any_run(runs, soup, recipe, data, tmp_path):
    path = tmp_path / "child-soup" / "checkpoint.pt"
    path.parent.mkdir()
    soup.save(path)
    assert load_checkpoint(path).origin == soup.origin
    exported = export(path, data.validation, tmp_path / "release")
    metadata = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    described = json.loads(metadata["fer.recipe"])
    assert described["name"] == metadata[ONNX_VERSION_KEY] == "child-soup"
    recipes = {name: recipe_from_table(table, "") for name, table in described["mean_of"].items()}
    assert recipes == {name: run.recipe for name, run in runs.items()}
    metrics = json.loads((tmp_path / "release" / "metrics.json").read_text(encoding="utf-8"))
    assert format_result(metrics).startswith("| child-soup: [child](recipes/child.toml) |")
    again = change(recipe, optimisation=change(recipe.optimisation, epochs=1), starts_from="child-soup")
    path = train(again, data, tmp_path / "again", device=CPU, runs_dir=tmp_path)
    assert load_checkpoint(path).origin.starts_from_sha256 == soup.hash_weights()


def test_it_cannot_be_resumed(soup, data, tmp_path):
    soup.save(tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="is a mean of runs: name it as a recipe's starts_from"):
        train(change(soup.recipe, starts_from=""), data, tmp_path, device=CPU, resume=True)


def test_recipes_and_teachers_may_differ(runs, data):
    second = runs["child-seed4"]
    recipe = change(
        second.recipe,
        network=change(second.recipe.network, dropout=0.5),
        loss=change(second.recipe.loss, focal_gamma=1.0),
    )
    other = change(second, recipe=recipe, origin=change(second.origin, teachers={"a.onnx": "0" * 64}))
    soup = average_runs({**runs, "child-seed4": other}, data)
    assert soup.recipe.network == runs["child"].recipe.network
    assert soup.origin.mean_of["child-seed4"].recipe == other.recipe
    assert soup.origin.mean_of["child-seed4"].origin.teachers == {"a.onnx": "0" * 64}


def test_a_head_for_votes_is_kept_where_all_have_one(runs, data):
    features = next(iter(runs.values())).average["head.weight"].shape[1]
    head = {"votes_head.weight": torch.ones(10, features), "votes_head.bias": torch.zeros(10)}
    one, two = (change(run, average={**run.average, **head}) for run in runs.values())
    assert torch.equal(
        average_runs({"one": one, "two": two}, data).average["votes_head.weight"], torch.ones(10, features)
    )
    assert "votes_head.weight" not in average_runs({"one": one, "two": runs["child-seed4"]}, data).average


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: change(run, recipe=change(run.recipe, network=change(run.recipe.network, attention="eca"))),
         "child-seed4: its network is not child's"),
        (lambda run: change(run, class_names=run.class_names[::-1]), "child-seed4: its network is not child's"),
        (lambda run: change(run, origin=change(run.origin, starts_from_sha256="")),
         "child-seed4: its checkpoint names no run that it started from"),
        (lambda run: change(run, origin=change(run.origin, starts_from_sha256="0" * 64)),
         "child-seed4: it started from another run than child"),
        (lambda run: change(run, origin=change(run.origin, data_sha256="0" * 64)),
         "child-seed4: it was trained on other images, labels or votes than child"),
    ],
)  # fmt: skip
def test_runs_of_different_kinds_are_not_averaged(runs, data, spoil, message):
    with pytest.raises(CheckpointError, match=message):
        average_runs({**runs, "child-seed4": spoil(runs["child-seed4"])}, data)


def test_runs_that_cannot_be_averaged_are_refused(runs, soup, data):
    with pytest.raises(CheckpointError, match="child: a mean is of two runs or more"):
        average_runs({"child": runs["child"]}, data)
    with pytest.raises(CheckpointError, match="No run: a mean is of two runs or more"):
        average_runs({}, data)
    with pytest.raises(CheckpointError, match="copy: its weights are child's. Give each run once"):
        average_runs({"child": runs["child"], "copy": runs["child"]}, data)
    with pytest.raises(CheckpointError, match="soup: it is a mean of runs itself. Give those: child, child-seed4"):
        average_runs({"child": runs["child"], "soup": soup}, data)
    part = data.training
    fewer = change(data, training=LabelledFaces(part.images[:50], part.labels[:50]))
    with pytest.raises(CheckpointError, match="child: it was trained on other images, labels or votes than are given"):
        average_runs(runs, fewer)


@pytest.mark.parametrize(
    ("name", "recipe", "soup"),
    [("averaged", "averaged", "averaged-soup"), ("averaged-seed2", "averaged", "averaged-soup"),
     ("ck48-seed2-fold3", "ck48", "ck48-fold3-soup"), ("averaged-soup", "averaged", "averaged-soup-soup"),
     ("seed-soup-x", "seed-soup-x", "seed-soup-x-soup")],
)  # fmt: skip
def test_a_name_tells_the_recipe(name, recipe, soup):
    assert recipe_of(name) == recipe
    assert soup_of(name) == soup
