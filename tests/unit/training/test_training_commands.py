"""The commands as a user runs them: on a CSV, one after the other."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

from small_data import RECIPE_TOML

from fer_training import evaluate, export, train
from fer_training.checkpoint import load_checkpoint


def run(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"fer_training.{command}", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with `quick.toml` and a `fer2013.csv` of 16 Training and 14 PublicTest rows."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "quick.toml").write_text(RECIPE_TOML, encoding="utf-8")
    images = np.random.default_rng(0).integers(0, 256, (30, 2304))
    lines = [
        f"{row % 7},{' '.join(map(str, image))},{'Training' if row < 16 else 'PublicTest'}"
        for row, image in enumerate(images)
    ]
    (folder / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *lines, ""]), encoding="utf-8")
    return folder


def test_train_then_export_then_evaluate(folder):
    training = run("train", "--recipe", folder / "quick.toml", "--fer2013", folder, "--out", folder / "run")
    assert training.returncode == 0, training.stderr
    first, *epochs, last = training.stdout.splitlines()
    assert first.startswith("16 of 16 training images kept")
    assert [line.split()[1] for line in epochs] == ["1/2", "2/2"]
    assert last == f"wrote {folder / 'run' / 'checkpoint.pt'}"

    checkpoint, release = folder / "run" / "checkpoint.pt", folder / "release"
    exporting = run("export", "--checkpoint", checkpoint, "--fer2013", folder, "--out", release)
    assert exporting.returncode == 0, exporting.stderr
    assert "PublicTest: 14 images" in exporting.stdout
    metrics = json.loads((release / "metrics.json").read_text(encoding="utf-8"))

    evaluating = run("evaluate", "--onnx", release / "fer_classifier.onnx", "--fer2013", folder, "--json")
    assert evaluating.returncode == 0, evaluating.stderr
    assert json.loads(evaluating.stdout) == metrics["evaluation"]

    measuring = run("evaluate", "--checkpoint", checkpoint, "--fer2013", folder, "--usage", "Training")
    assert measuring.returncode == 0, measuring.stderr
    assert "Training: 16 images" in measuring.stdout
    assert [line.split()[0] for line in measuring.stdout.splitlines()[-7:]] == [
        "angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"
    ]  # fmt: skip


def test_another_seed_is_another_run(folder):
    arguments = ["--recipe", folder / "quick.toml", "--fer2013", folder, "--runs", folder / "runs", "--seed", 9]
    training = run("train", *arguments)
    assert training.returncode == 0, training.stderr
    checkpoint = load_checkpoint(folder / "runs" / "quick-seed9" / "checkpoint.pt")
    assert (checkpoint.recipe.name, checkpoint.recipe.seed) == ("quick-seed9", 9)
    assert checkpoint.origin.command == (
        "python -m fer_training.train --recipe training/recipes/quick.toml --fer2013 DIR --seed 9"
    )


def test_a_seed_that_no_checkpoint_may_have_is_refused_before_training(folder):
    refused = run("train", "--recipe", folder / "quick.toml", "--fer2013", folder, "--seed", -1)
    assert refused.returncode == 2
    assert refused.stderr == (
        "fer_training.train: --seed: seed must be a whole number from 0 to 2.14748e+09, but is -1.\n"
    )


def test_prune_then_export(folder):
    runs = folder / "pruning"
    whole = ["--recipe", folder / "quick.toml", "--fer2013", folder]
    assert run("train", *whole, "--runs", runs).returncode == 0
    recipe = (folder / "quick.toml").read_text(encoding="utf-8")
    (folder / "fewer.toml").write_text(recipe.replace("epochs = 2", "epochs = 1"), encoding="utf-8")
    parent = runs / "quick" / "checkpoint.pt"
    pruning = ["--checkpoint", parent, "--macs", 0.5, "--recipe", folder / "fewer.toml", "--fer2013", folder]
    pruned = run("prune", *pruning, "--runs", runs)
    assert pruned.returncode == 0, pruned.stderr
    lines = pruned.stdout.splitlines()
    assert lines[0].startswith("from  stem 16, stages 16:")
    assert lines[1].startswith("to    stem 8, stages ")
    assert lines[-1] == f"wrote {runs / 'fewer' / 'checkpoint.pt'}"
    exported = run("export", "--checkpoint", runs / "fewer" / "checkpoint.pt", "--fer2013", folder, "--out", runs)
    assert exported.returncode == 0, exported.stderr
    metrics = json.loads((runs / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["training"]["command"].startswith("python -m fer_training.prune --checkpoint runs/quick/")


def test_soup_of_two_seeds_then_export(folder):
    runs = folder / "cooking"
    (folder / "go-on.toml").write_text('extends = "quick.toml"\nstarts_from = "quick"\n', encoding="utf-8")
    for recipe, *seed in (["quick"], ["go-on"], ["go-on", "--seed", 7]):
        arguments = ["--recipe", folder / f"{recipe}.toml", "--fer2013", folder, "--runs", runs, *seed]
        assert run("train", *arguments).returncode == 0
    arguments = [runs / "go-on", runs / "go-on-seed7", "--fer2013", folder, "--out", runs / "go-on-soup"]
    cooked = run("soup", *arguments)
    assert cooked.returncode == 0, cooked.stderr
    names = [line.partition(":")[0] for line in cooked.stdout.splitlines()]
    assert names == ["go-on", "go-on-seed7", "mean, go-on-soup", f"wrote {runs / 'go-on-soup' / 'checkpoint.pt'}"]
    again = run("soup", *arguments)
    assert again.returncode == 2
    assert again.stderr == (
        f"fer_training.soup: {runs / 'go-on-soup' / 'checkpoint.pt'} exists already. Give another --out.\n"
    )
    checkpoint = runs / "go-on-soup" / "checkpoint.pt"
    exported = run("export", "--checkpoint", checkpoint, "--fer2013", folder, "--out", runs)
    assert exported.returncode == 0, exported.stderr
    metrics = json.loads((runs / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["model"]["version"], metrics["training"]["epochs"]) == ("go-on-soup", 4)
    assert list(metrics["training"]["mean_of"]) == ["go-on", "go-on-seed7"]
    assert metrics["training"]["command"] == (
        "python -m fer_training.soup runs/go-on runs/go-on-seed7 --fer2013 DIR --out runs/go-on-soup"
    )


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (train, ["--recipe", "quick.toml", "--fer2013", ".", "--out", "run"]),
        (evaluate, ["--onnx", "none.onnx", "--fer2013", "."]),
        (export, ["--checkpoint", "none.pt", "--fer2013", ".", "--out", "release"]),
    ],
    ids=["train", "evaluate", "export"],
)
def test_what_a_user_can_put_right_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, command, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick.toml").write_text(RECIPE_TOML, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    assert command.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{command.__name__}: fer2013.csv: cannot be read")
