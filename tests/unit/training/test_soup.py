"""The mean of several runs' weights, made by fer_training.soup."""

import dataclasses

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import torch

from fer_training.checkpoint import load_checkpoint, load_runs
from fer_training.errors import CheckpointError
from fer_training.export import export
from fer_training.faces import LabelledFaces
from fer_training.network import Classifier
from fer_training.recipe import name_of_file
from fer_training.soup import average_runs
from fer_training.train import train

CPU = torch.device("cpu")


def change(record, /, **fields):
    return dataclasses.replace(record, **fields)


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory, recipe, data):
    """A parent, two runs of two epochs that started from it, and one that did not."""
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
    assert not any(name.startswith("votes_head") for name in soup.average)
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


def test_it_tells_what_it_was_made_of(runs, soup):
    assert soup.recipe == change(runs["child"].recipe, name="child-soup")
    assert {name: run.weights_sha256 for name, run in soup.origin.mean_of.items()} == {
        name: run.hash_weights() for name, run in runs.items()
    }
    assert [run.recipe for run in soup.origin.mean_of.values()] == [run.recipe for run in runs.values()]
    assert soup.origin.command == "the command"
    (record,) = soup.history
    assert record.epoch == 4
    assert record.elapsed_s == pytest.approx(sum(run.history[-1].elapsed_s for run in runs.values()))
    assert record.validation_accuracy > 0.5  # by chance 0.14


def test_it_is_exported_and_built_on_like_any_run(runs_dir, soup, recipe, data, tmp_path):
    (tmp_path / "child-soup").mkdir()
    soup.save(tmp_path / "child-soup" / "checkpoint.pt")
    assert load_checkpoint(tmp_path / "child-soup" / "checkpoint.pt").origin == soup.origin
    export(tmp_path / "child-soup" / "checkpoint.pt", data.validation, tmp_path / "release")
    again = change(recipe, optimisation=change(recipe.optimisation, epochs=1), starts_from="child-soup")
    path = train(change(again, augmentation=change(again.augmentation, full_view_epochs=0)), data,
                 tmp_path / "again", device=CPU, runs_dir=tmp_path)  # fmt: skip
    assert load_checkpoint(path).origin.starts_from_sha256 == soup.hash_weights()


def test_recipes_may_differ_and_all_teachers_are_named(runs, data):
    second = runs["child-seed4"]
    other = change(second, recipe=change(second.recipe, loss=change(second.recipe.loss, focal_gamma=1.0)),
                   origin=change(second.origin, teachers={"a.onnx": "0" * 64}))  # fmt: skip
    soup = average_runs({**runs, "child-seed4": other}, data)
    assert soup.origin.mean_of["child-seed4"].recipe == other.recipe
    assert soup.origin.teachers == {"a.onnx": "0" * 64}
    first = change(runs["child"], origin=change(runs["child"].origin, teachers={"a.onnx": "1" * 64}))
    with pytest.raises(CheckpointError, match="child-seed4: its teacher a.onnx is another than that of a run before"):
        average_runs({"child": first, "child-seed4": other}, data)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: change(run, recipe=change(run.recipe, network=change(run.recipe.network, attention="eca"))),
         "child-seed4: its network is not child's"),
        (lambda run: change(run, origin=change(run.origin, starts_from_sha256="0" * 64)),
         "child-seed4: it started from other weights than child"),
        (lambda run: change(run, origin=change(run.origin, data_sha256="0" * 64)),
         "child-seed4: it was trained on other images than child"),
    ],
)  # fmt: skip
def test_runs_of_different_kinds_are_not_averaged(runs, data, spoil, message):
    with pytest.raises(CheckpointError, match=message):
        average_runs({**runs, "child-seed4": spoil(runs["child-seed4"])}, data)


def test_runs_that_cannot_be_averaged_are_refused(runs, runs_dir, data):
    with pytest.raises(CheckpointError, match="child: one run is its own mean. Give two or more"):
        average_runs({"child": runs["child"]}, data)
    parent = load_runs([runs_dir / "parent"])["parent"]
    with pytest.raises(CheckpointError, match="parent: it started from random weights"):
        average_runs({"parent": parent, "again": parent}, data)
    part = data.training
    fewer = dataclasses.replace(data, training=LabelledFaces(part.images[:50], part.labels[:50]))
    with pytest.raises(CheckpointError, match="child: it was trained on other images than are given"):
        average_runs(runs, fewer)


@pytest.mark.parametrize(
    ("name", "file"),
    [("averaged", "averaged"), ("averaged-seed2", "averaged"), ("averaged-soup", "averaged"),
     ("ck48-seed2-fold3", "ck48"), ("seed-soup-x", "seed-soup-x")],
)  # fmt: skip
def test_a_name_tells_the_recipe_file(name, file):
    assert name_of_file(name) == file
