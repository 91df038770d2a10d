"""A teacher's answers in a file: written by fer-train save-logits, and learned from without the teacher."""

import dataclasses

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import numpy as np
import torch
from small_data import RECIPE_TOML, fer_train, write_fer2013

from fer_training.checkpoint import load_checkpoint
from fer_training.distillation import Teachers
from fer_training.errors import CheckpointError, RecipeError
from fer_training.fer2013 import load_training_data
from fer_training.prediction import build_network
from fer_training.recipe import DistillationRecipe, load_recipe
from fer_training.teacher_logits import TeacherLogits, load_teacher_logits
from fer_training.train import train

CPU = torch.device("cpu")
PLAIN = DistillationRecipe(teachers=("teacher.npz",), temperature=3.0, weight=1.0, views="plain")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with FER2013's files, a finished run `teacher` and its answers in `teacher.npz`."""
    folder = tmp_path_factory.mktemp("answers")
    write_fer2013(folder, training=16)
    (folder / "quick.toml").write_text(RECIPE_TOML, encoding="utf-8")
    train(load_recipe(folder / "quick.toml"), load_training_data(folder), folder / "teacher", device=CPU)
    checkpoint, out = folder / "teacher" / "checkpoint.pt", folder / "teacher.npz"
    arguments = ["--checkpoint", checkpoint, "--fer2013", folder, "--device", "cpu", "--out", out]
    assert fer_train("save-logits", *arguments) == 0
    return folder


@pytest.fixture(scope="module")
def student(folder):
    recipe = load_recipe(folder / "quick.toml")
    return dataclasses.replace(recipe, name="student", seed=11, distillation=PLAIN)


def test_kept_logits_are_the_teachers(folder):
    images = torch.from_numpy(load_training_data(folder).training.images).unsqueeze(1)
    network = build_network(load_checkpoint(folder / "teacher" / "checkpoint.pt"))
    kept = load_teacher_logits(folder / "teacher.npz")
    now, then = (Teachers([answerer], PLAIN, CPU).answer_plain(images).numpy() for answerer in (network, kept))
    assert then == pytest.approx(now, abs=1e-4)  # they are kept in half precision
    both = Teachers([network, kept], PLAIN, CPU).answer_plain(images).numpy()
    assert both == pytest.approx((now + then) / 2, abs=1e-6)


def test_a_student_learns_without_its_teacher(folder, student, tmp_path):
    data = load_training_data(folder)
    (tmp_path / "teacher.npz").write_bytes((folder / "teacher.npz").read_bytes())
    train(student, data, tmp_path / "student", device=CPU, runs_dir=tmp_path)
    losses = [epoch.train_loss for epoch in load_checkpoint(tmp_path / "student" / "checkpoint.pt").history]
    at_hand = dataclasses.replace(student, distillation=dataclasses.replace(PLAIN, teachers=("teacher",)))
    train(at_hand, data, tmp_path / "at-hand", device=CPU, runs_dir=folder)
    expected = [epoch.train_loss for epoch in load_checkpoint(tmp_path / "at-hand" / "checkpoint.pt").history]
    assert losses == pytest.approx(expected, rel=1e-2)


def test_answers_of_augmented_views_are_not_kept(folder, student, tmp_path):
    augmented = dataclasses.replace(student, distillation=dataclasses.replace(PLAIN, views="augmented"))
    with pytest.raises(RecipeError, match="distillation.views must be 'plain' for teacher.npz"):
        train(augmented, load_training_data(folder), tmp_path / "student", device=CPU, runs_dir=folder)


def test_answers_to_other_images_or_classes_are_refused(folder, student, tmp_path):
    data = load_training_data(folder)
    kept = load_teacher_logits(folder / "teacher.npz")
    for change, message in (
        ({"data_sha256": "0" * 64}, "teacher.npz: its answers are to other images, labels or votes than these"),
        (
            {"logits": kept.logits[:, 1:]},
            "teacher.npz: its answers are to other images, labels or votes than these",
        ),
        ({"class_names": tuple("abcdefg")}, "teacher.npz: its classes are a, b, c, d, e, f, g, not the data's"),
    ):
        dataclasses.replace(kept, **change).save(tmp_path / "teacher.npz")
        with pytest.raises(CheckpointError, match=message):
            train(student, data, tmp_path / "student", device=CPU, runs_dir=tmp_path)


def test_a_file_that_holds_no_answers_is_refused_by_name(folder, tmp_path):
    path = tmp_path / "teacher.npz"
    with pytest.raises(CheckpointError, match=r"teacher.npz: is not there. Write it with fer-train save-logits"):
        load_teacher_logits(path)
    whole = (folder / "teacher.npz").read_bytes()
    deflated = whole.index(b"LOGITS.npy") + 40
    flipped = whole[:deflated] + bytes([whole[deflated] ^ 0xFF]) + whole[deflated + 1 :]
    for content in (b"", b"no zip", whole[: len(whole) // 2], flipped):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"teacher.npz: is no file of fer-train save-logits"):
            load_teacher_logits(path)
    np.savez(path, FACES=np.zeros(3))
    with pytest.raises(CheckpointError, match=r"teacher.npz: is no file of fer-train save-logits"):
        load_teacher_logits(path)
    TeacherLogits(np.zeros((2, 5, 3), np.float32), tuple("ab"), "").save(path)
    with pytest.raises(CheckpointError, match=r"the shape of its logits is \(2, 5, 3\)"):
        load_teacher_logits(path)


def test_what_save_logits_cannot_do_is_said_before_it_begins(folder, tmp_path, capsys):
    def run(*options):
        arguments = ["--checkpoint", folder / "teacher" / "checkpoint.pt", "--fer2013", folder, *options]
        return fer_train("save-logits", *arguments)

    with pytest.raises(SystemExit):
        run("--out", tmp_path / "answers")
    assert "--out must end in .npz" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert run("--out", tmp_path / "answers.npz", "--device", "cuda") == 2
        assert "PyTorch finds no NVIDIA GPU" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
