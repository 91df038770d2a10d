import dataclasses
from pathlib import Path

import pytest
from small_data import fer_train

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import torch

from fer_contract import LABELS
from fer_training.checkpoint import load_checkpoint, load_finished
from fer_training.errors import CheckpointError
from fer_training.export import export
from fer_training.prediction import build_network
from fer_training.recipe import load_recipe
from fer_training.train import train

CPU = torch.device("cpu")
ROOM = Path(__file__).resolve().parents[3] / "training"


@pytest.fixture(scope="module")
def run(tmp_path_factory, recipe, data):
    short = dataclasses.replace(recipe, optimisation=dataclasses.replace(recipe.optimisation, epochs=1))
    return train(short, data, tmp_path_factory.mktemp("runs") / "tiny", device=CPU)


def save(checkpoint, out):
    return fer_train("save-weights", "--checkpoint", str(checkpoint), "--out", str(out))


def test_kept_weights_are_the_run_for_whatever_works_with_its_network(run, data, recipe, tmp_path, capsys):
    kept = tmp_path / "kept" / "tiny" / "checkpoint.pt"
    assert save(run, kept) == 0
    whole, weights = load_checkpoint(run), load_checkpoint(kept)
    assert whole.hash_weights() in capsys.readouterr().out
    assert weights.hash_weights() == whole.hash_weights()
    assert (weights.recipe, weights.origin, weights.history) == (whole.recipe, whole.origin, whole.history)
    assert kept.stat().st_size < 0.5 * run.stat().st_size
    first = export(run, data.validation, tmp_path / "a")
    assert export(kept, data.validation, tmp_path / "b").read_bytes() == first.read_bytes()
    child = dataclasses.replace(whole.recipe, name="child", starts_from="tiny")
    started = load_checkpoint(train(child, data, tmp_path / "child", device=CPU, runs_dir=kept.parents[1]))
    assert started.origin.starts_from_sha256 == whole.hash_weights()


def test_kept_weights_are_not_gone_on_with_and_replace_nothing(run, data, tmp_path, capsys):
    kept = tmp_path / "checkpoint.pt"
    save(run, kept)
    with pytest.raises(CheckpointError, match="is the weights of a run alone: name it as a recipe's starts_from"):
        train(load_checkpoint(run).recipe, data, tmp_path, device=CPU, resume=True)
    assert save(run, kept) == 2
    assert "exists already. Give another --out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        save(run, tmp_path / "weights.npz")
    assert "--out must end in .pt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "weights"), [("face-student", "f5c6407569462e5f"), ("face-taught", "927a058c376ec774")]
)
def test_checkpoints_of_older_commits_are_read(name, weights):
    """Both were written before the commands became one, and say so."""
    checkpoint = load_finished(ROOM / "kept" / f"{name}.pt", LABELS)
    assert checkpoint.hash_weights().startswith(weights)
    assert checkpoint.recipe == load_recipe(ROOM / "recipes" / f"{name}.toml")
    assert checkpoint.origin.command.startswith("python -m fer_training.train ")
    build_network(checkpoint)
