"""The three commands as a user runs them: on a CSV, one after the other."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'fer-triton[train]'")

from fer_training import evaluate, export, train

RECIPE = """
seed = 1
[network]
backbone = "repconv"
[network.repconv]
stem_channels = 4
stages = [[4]]
[augmentation]
view_px = 40
full_view_epochs = 1
flip_probability = 0.5
rotation_deg = 5.0
scale = 0.1
[loss]
label_smoothing = 0.1
[optimisation]
optimiser = "sgd"
epochs = 2
batch_size = 8
learning_rate = 0.05
warmup_epochs = 1.0
momentum = 0.9
weight_decay = 1e-4
average_decay = 0.9
"""


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
    (folder / "quick.toml").write_text(RECIPE, encoding="utf-8")
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
    (tmp_path / "quick.toml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    assert command.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{command.__name__}: fer2013.csv: cannot be read")
