"""The commands as a user runs them: on a CSV, one after the other."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

from PIL import Image
from small_data import RECIPE_TOML, draw_images, fer_train, write_fer2013

from fer_commands.exit_codes import ExitCode
from fer_contract import LABELS
from fer_training.checkpoint import load_checkpoint
from fer_training.cli import TRAIN
from fer_training.onnx_classifier import open_onnx
from fer_training.recipe import load_recipe

RECIPES = Path(__file__).resolve().parents[3] / "training" / "recipes"
BAD = {
    "report-data": ["--fer2013", "none"],
    "run": ["--recipe", "quick.toml", "--fer2013", "none", "--out", "run"],
    "evaluate": ["--onnx", "broken.onnx", "--fer2013", "."],
    "export": ["--checkpoint", "broken.pt", "--fer2013", ".", "--out", "release"],
    "compare": ["broken.onnx", "broken.pt", "--fer2013", "."],
    "robustness": ["--onnx", "broken.onnx", "--fer2013", "."],
    "summarise": ["broken", "none"],
    "soup": ["broken", "none", "--fer2013", ".", "--out", "soup"],
    "prune": ["--checkpoint", "broken.pt", "--macs", "0.5", "--recipe", "quick.toml", "--fer2013", "."],
    "save-logits": ["--checkpoint", "broken.pt", "--fer2013", ".", "--out", "logits.npz"],
    "save-weights": ["--checkpoint", "broken.pt", "--out", "weights.pt"],
    "save-faces": ["--fer2013", "none", "--out", "faces"],
    "convert-dlib": ["--dat", "broken.dat", "--out", "dlib.npz"],
    "add-normalisation": ["--onnx", "broken.onnx", "--fer2013", ".", "--out", "release"],
    "quality-bounds": ["--onnx", "broken.onnx", "--fer2013", "."],
    "head-model": ["--fer2013", "none"],
    "tables": ["broken.json"],
}
"""Of each command, a line that names a file which is missing or cannot be used."""


@pytest.fixture
def run(capsys):
    """Runs a command in this process, and returns its exit code, standard output and standard error."""

    def run(command: str, *arguments: object) -> SimpleNamespace:
        code = fer_train(command, *arguments)
        output = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=output.out, stderr=output.err)

    return run


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


def test_train_then_export_then_evaluate(folder, run):
    training = run("run", "--recipe", folder / "quick.toml", "--fer2013", folder, "--out", folder / "run")
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


def test_another_seed_is_another_run(folder, run):
    arguments = ["--recipe", folder / "quick.toml", "--fer2013", folder, "--runs", folder / "runs", "--seed", 9]
    training = run("run", *arguments)
    assert training.returncode == 0, training.stderr
    checkpoint = load_checkpoint(folder / "runs" / "quick-seed9" / "checkpoint.pt")
    assert (checkpoint.recipe.name, checkpoint.recipe.seed) == ("quick-seed9", 9)
    assert checkpoint.origin.command == ("fer-train run --recipe training/recipes/quick.toml --fer2013 DIR --seed 9")


def test_a_seed_that_no_checkpoint_may_have_is_refused_before_training(folder, run):
    refused = run("run", "--recipe", folder / "quick.toml", "--fer2013", folder, "--seed", -1)
    assert refused.returncode == 2
    assert refused.stderr == ("fer-train run: --seed: seed must be a whole number from 0 to 2.14748e+09, but is -1.\n")


def test_prune_then_export(folder, run):
    runs = folder / "pruning"
    whole = ["--recipe", folder / "quick.toml", "--fer2013", folder]
    assert run("run", *whole, "--runs", runs).returncode == 0
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
    exported = run(
        "export", "--checkpoint", runs / "fewer" / "checkpoint.pt", "--fer2013", folder, "--out", runs / "release"
    )
    assert exported.returncode == 0, exported.stderr
    metrics = json.loads((runs / "release" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["training"]["command"].startswith("fer-train prune --checkpoint runs/quick/")


def test_soup_of_two_seeds_then_export(folder, run):
    runs = folder / "cooking"
    (folder / "go-on.toml").write_text('extends = "quick.toml"\nstarts_from = "quick"\n', encoding="utf-8")
    for recipe, *seed in (["quick"], ["go-on"], ["go-on", "--seed", 7]):
        arguments = ["--recipe", folder / f"{recipe}.toml", "--fer2013", folder, "--runs", runs, *seed]
        assert run("run", *arguments).returncode == 0
    arguments = [runs / "go-on", runs / "go-on-seed7", "--fer2013", folder, "--out", runs / "go-on-soup"]
    cooked = run("soup", *arguments)
    assert cooked.returncode == 0, cooked.stderr
    names = [line.partition(":")[0] for line in cooked.stdout.splitlines()]
    assert names == ["go-on", "go-on-seed7", "mean, go-on-soup", f"wrote {runs / 'go-on-soup' / 'checkpoint.pt'}"]
    again = run("soup", *arguments)
    assert again.returncode == 2
    assert again.stderr == (
        f"fer-train soup: {runs / 'go-on-soup' / 'checkpoint.pt'} exists already. Give another --out.\n"
    )
    checkpoint = runs / "go-on-soup" / "checkpoint.pt"
    exported = run("export", "--checkpoint", checkpoint, "--fer2013", folder, "--out", runs / "release")
    assert exported.returncode == 0, exported.stderr
    metrics = json.loads((runs / "release" / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["model"]["version"], metrics["training"]["epochs"]) == ("go-on-soup", 4)
    assert list(metrics["training"]["mean_of"]) == ["go-on", "go-on-seed7"]
    assert metrics["training"]["command"] == (
        "fer-train soup runs/go-on runs/go-on-seed7 --fer2013 DIR --out runs/go-on-soup"
    )


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A folder with a small FER2013, a recipe, and a broken file of every kind."""
    broken = tmp_path_factory.mktemp("broken")
    write_fer2013(broken, training=16)
    (broken / "quick.toml").write_text(RECIPE_TOML, encoding="utf-8")
    (broken / "broken").mkdir()
    for name in ("broken.onnx", "broken.pt", "broken.dat", "broken.json", "broken/checkpoint.pt"):
        (broken / name).write_bytes(b"broken")
    return broken


@pytest.mark.parametrize("command", TRAIN.subcommands)
def test_a_file_that_cannot_be_used_is_one_line_and_the_same_exit_code_everywhere(broken, monkeypatch, capsys, command):
    monkeypatch.chdir(broken)
    assert fer_train(command, *BAD[command]) == ExitCode.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fer-train {command}: ")
    assert "broken" in line or "none" in line


@pytest.mark.parametrize("command", TRAIN.subcommands)
def test_help_has_examples_that_are_understood_and_exit_codes(capsys, command):
    with pytest.raises(SystemExit) as ended:
        fer_train(command, "--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: fer-train {command} ")
    assert f"  fer-train {command} " in text
    assert "exit codes:\n  0 " in text


def test_the_script_names_its_commands_without_loading_what_they_need():
    code = "import sys; from fer_training.cli import main; sys.modules['torch'] = None; main(['--help'])"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(f"    {command}" in listed.stdout for command in TRAIN.subcommands)


def test_what_is_not_installed_is_one_line_with_the_remedy():
    code = "import sys; sys.modules['torch'] = None; from fer_training.cli import main; sys.exit(main(['run']))"
    refused = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert refused.returncode == ExitCode.FAILED
    assert refused.stderr == "fer-train run: torch is not installed: pip install 'fer-triton[train]'\n"


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A user's own faces: ten drawn ones in a folder for each class; and `own.toml`, cut down to six epochs."""
    own = tmp_path_factory.mktemp("own")
    for label, image in enumerate(draw_images(70).reshape(7, 10, 48, 48)):
        folder = own / "faces" / LABELS[label]
        folder.mkdir(parents=True)
        for number, pixels in enumerate(image):
            Image.fromarray(pixels).save(folder / f"s{number}_{label}.png")
    (own / "compact.toml").write_text((RECIPES / "compact.toml").read_text(encoding="utf-8"), encoding="utf-8")
    recipe = (RECIPES / "own.toml").read_text(encoding="utf-8")
    (own / "own.toml").write_text(recipe.replace("epochs = 40", "epochs = 6"), encoding="utf-8")
    return own


def test_a_recipe_that_needs_votes_names_the_one_for_own_faces(own, capsys):
    assert fer_train("run", "--recipe", own / "compact.toml", "--folder", own / "faces", "--out", own / "no") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "fer-train run: compact: it needs FER+ votes. Only FER2013 has them, with fer2013new.csv beside "
        "fer2013.csv. For other data take a recipe without votes, such as training/recipes/own.toml."
    )
    assert not (own / "no").exists()
    assert not load_recipe(RECIPES / "own.toml").needs_votes


def test_own_faces_are_trained_on_measured_and_exported(own, capsys):
    faces, checkpoint, release = ["--folder", own / "faces"], own / "runs" / "own" / "checkpoint.pt", own / "release"
    assert fer_train("report-data", *faces) == 0
    assert fer_train("run", "--recipe", own / "own.toml", *faces, "--runs", own / "runs") == 0
    assert fer_train("evaluate", "--checkpoint", checkpoint, *faces, "--split", "test") == 0
    assert fer_train("export", "--checkpoint", checkpoint, *faces, "--out", release) == 0
    assert "10 subjects, each in one split only" in capsys.readouterr().out
    open_onnx(release / "fer_classifier.onnx")

    shipped = (release / "fer_classifier.onnx").read_bytes(), (release / "metrics.json").read_bytes()
    assert fer_train("export", "--checkpoint", checkpoint, *faces, "--out", release) == 2
    assert capsys.readouterr().err == (
        f"fer-train export: {release / 'fer_classifier.onnx'} exists already. "
        "Give another --out, or --force to replace what is there.\n"
    )
    assert shipped == ((release / "fer_classifier.onnx").read_bytes(), (release / "metrics.json").read_bytes())
    assert fer_train("export", "--checkpoint", checkpoint, *faces, "--out", release, "--force") == 0
    assert (release / "metrics.json").read_bytes() != shipped[1]  # It has another time and speed.
