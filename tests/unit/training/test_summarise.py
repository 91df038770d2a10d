import dataclasses

import pytest
from small_data import fer_train

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import torch

from fer_training import summarise
from fer_training.checkpoint import load_checkpoint
from fer_training.train import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, recipe, data):
    """Two finished runs of one epoch, of two seeds."""
    folder = tmp_path_factory.mktemp("runs")
    short = dataclasses.replace(recipe, optimisation=dataclasses.replace(recipe.optimisation, epochs=1))
    for seed in (1, 2):
        one = dataclasses.replace(short, name=f"tiny-seed{seed}", seed=seed)
        train(one, data, folder / one.name, device=CPU)
    return sorted(folder.iterdir())


def test_mean_and_standard_deviation_are_those_of_the_runs():
    table = summarise.format_summary({"a": {"accuracy": 0.60}, "b": {"accuracy": 0.62}, "c": {"accuracy": 0.67}})
    assert [line.split() for line in table.splitlines()] == [
        ["accuracy"], ["a", "0.6000"], ["b", "0.6200"], ["c", "0.6700"], ["mean", "0.6300"], ["std", "0.0361"]
    ]  # fmt: skip


def test_one_run_has_no_spread():
    assert "std" not in summarise.format_summary({"a": {"accuracy": 0.6}})


def test_runs_are_measured_as_export_does(runs, data):
    checkpoint = load_checkpoint(runs[0] / "checkpoint.pt")
    figures = summarise.measure(checkpoint, data.validation)
    assert figures["accuracy"] == checkpoint.history[-1].validation_accuracy
    assert figures["nll"] <= checkpoint.history[-1].validation_nll + 1e-6, "a fitted temperature can only help"
    assert list(figures) == ["accuracy", "balanced_accuracy", "macro_f1", "ece", "nll", "aurc"]


def test_the_command_prints_what_the_runs_noted(runs, capsys):
    assert fer_train("summarise", *runs) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["tiny-seed1", "tiny-seed2", "mean", "std"]
    noted = load_checkpoint(runs[1] / "checkpoint.pt").history[-1].validation_accuracy
    assert lines[2].split()[1] == f"{noted:.4f}"


def test_two_runs_of_one_name_are_not_taken_for_one(runs, capsys):
    assert fer_train("summarise", str(runs[0]), str(runs[0])) == 2
    assert "a run before it is called tiny-seed1 too" in capsys.readouterr().err


def test_an_unfinished_run_is_one_line_and_exit_code_2(runs, recipe, data, tmp_path, capsys):
    def interrupt(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, tmp_path / "half", device=CPU, on_epoch=interrupt)
    assert fer_train("summarise", str(tmp_path / "half")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "epoch 1 of 4. Finish it with fer-train run --resume" in line
