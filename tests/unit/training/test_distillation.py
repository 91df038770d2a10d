import dataclasses
import hashlib

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import numpy as np
import torch

from fer_training.checkpoint import load_checkpoint
from fer_training.distillation import Teachers
from fer_training.errors import CheckpointError, RecipeError
from fer_training.export import export
from fer_training.network import Classifier
from fer_training.prediction import open_onnx, predict_logits, predict_onnx, softmax
from fer_training.recipe import DistillationRecipe
from fer_training.train import train

CPU = torch.device("cpu")


def distil(recipe, views="augmented", weight=1.0, teachers=("tiny",), name="student"):
    """The recipe with teachers."""
    distillation = DistillationRecipe(teachers=teachers, temperature=3.0, weight=weight, views=views)
    return dataclasses.replace(recipe, name=name, seed=11, distillation=distillation)


def run_longer(recipe):
    """The recipe with enough epochs for an answer to be sure of itself."""
    return dataclasses.replace(recipe, optimisation=dataclasses.replace(recipe.optimisation, epochs=12))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, recipe, data):
    """A folder of runs, with a finished teacher in it."""
    runs = tmp_path_factory.mktemp("runs")
    checkpoint = train(run_longer(recipe), data, runs / "tiny", device=CPU)
    export(checkpoint, data.validation, runs / "released").rename(runs / "tiny.onnx")
    return runs


@pytest.mark.parametrize(("teacher", "views"), [("tiny", "augmented"), ("tiny", "plain"), ("tiny.onnx", "plain")])
def test_a_student_learns_from_its_teacher_alone(runs, recipe, data, tmp_path, teacher, views):
    """With all weight on the teacher, labels are never looked at: wrong ones do no harm."""
    wrong = dataclasses.replace(data.training, labels=(data.training.labels + 3) % 7)
    mislabelled = dataclasses.replace(data, training=wrong)
    student = distil(run_longer(recipe), views, teachers=(teacher,))
    checkpoint = load_checkpoint(train(student, mislabelled, tmp_path, device=CPU, runs_dir=runs))
    assert checkpoint.history[-1].validation_accuracy > 0.5  # by chance 0.14
    assert checkpoint.history[-1].train_loss < checkpoint.history[0].train_loss
    weights = load_checkpoint(runs / "tiny" / "checkpoint.pt").hash_weights()
    file = hashlib.sha256((runs / "tiny.onnx").read_bytes()).hexdigest()
    assert checkpoint.origin.teachers == {teacher: file if teacher == "tiny.onnx" else weights}


def test_teachers_answer_with_the_mean_of_their_softened_probabilities(recipe, data):
    networks = []
    for seed in range(2):
        torch.manual_seed(seed)
        networks.append(Classifier(recipe.network, 7))
    teachers = Teachers(networks, distil(recipe).distillation, CPU)
    images = data.validation.images[:5]
    faces = torch.from_numpy(images).unsqueeze(1)
    expected = sum(softmax(predict_logits(network, images) / 3.0) for network in networks) / 2
    answers = teachers.answer(networks[0].preprocess(faces)).numpy()
    assert answers == pytest.approx(expected, abs=1e-5)
    mirrored = sum(softmax(predict_logits(network, images[:, :, ::-1].copy()) / 3.0) for network in networks) / 2
    assert teachers.answer_plain(faces).numpy() == pytest.approx((expected + mirrored) / 2, abs=1e-5)


def test_an_exported_teacher_answers_beside_a_network(runs, recipe, data):
    torch.manual_seed(0)
    network, file = Classifier(recipe.network, 7), open_onnx(runs / "tiny.onnx")
    teachers = Teachers([file, network], distil(recipe).distillation, CPU)
    images = data.validation.images[:5]
    expected = 0
    for view in (images, images[:, :, ::-1].copy()):
        expected = expected + softmax(predict_logits(network, view) / 3.0) / 4
        expected = expected + softmax(np.log(predict_onnx(file, view).clip(1e-9)) / 3.0) / 4
    answers = teachers.answer_plain(torch.from_numpy(images).unsqueeze(1))
    assert answers.numpy() == pytest.approx(expected, abs=1e-5)


def test_an_exported_teacher_must_be_usable_and_looks_at_whole_faces(runs, recipe, data, tmp_path):
    with pytest.raises(RecipeError, match=r"distillation.views must be 'plain' for tiny.onnx"):
        train(distil(recipe, teachers=("tiny.onnx",)), data, tmp_path, device=CPU, runs_dir=runs)
    with pytest.raises(CheckpointError, match=r"none.onnx: is not there"):
        train(distil(recipe, "plain", teachers=("none.onnx",)), data, tmp_path, device=CPU, runs_dir=runs)
    renamed = dataclasses.replace(data.training, class_names=tuple("abcdefg"))
    with pytest.raises(CheckpointError, match="its classes are angry, .*, not the data's"):
        train(
            distil(recipe, "plain", teachers=("tiny.onnx",)),
            dataclasses.replace(data, training=renamed),
            tmp_path,
            device=CPU,
            runs_dir=runs,
        )


def test_a_run_is_not_resumed_with_other_teachers(runs, recipe, data, tmp_path):
    def interrupt(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(distil(recipe), data, tmp_path / "student", device=CPU, runs_dir=runs, on_epoch=interrupt)
    other = tmp_path / "other"
    train(dataclasses.replace(recipe, seed=5), data, other / "tiny", device=CPU)
    with pytest.raises(CheckpointError, match="learned from other teachers' weights"):
        train(distil(recipe), data, tmp_path / "student", device=CPU, runs_dir=other, resume=True)


def test_a_teacher_must_be_there_finished_and_of_the_same_kind(runs, recipe, data, tmp_path):
    with pytest.raises(CheckpointError, match=r"none.checkpoint.pt: cannot be read"):
        train(distil(recipe, teachers=("none",)), data, tmp_path / "a", device=CPU, runs_dir=runs)
    equalising = dataclasses.replace(recipe, network=dataclasses.replace(recipe.network, equalise=True))
    with pytest.raises(CheckpointError, match="network.equalise must be the same for teacher and student"):
        train(distil(equalising), data, tmp_path / "b", device=CPU, runs_dir=runs)
    renamed = dataclasses.replace(data.training, class_names=tuple("abcdefg"))
    with pytest.raises(CheckpointError, match="its classes are angry, .*, not the data's"):
        train(distil(recipe), dataclasses.replace(data, training=renamed), tmp_path / "c", device=CPU, runs_dir=runs)
