import dataclasses

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import torch

from fer_training.checkpoint import load_checkpoint
from fer_training.distillation import Teachers
from fer_training.errors import CheckpointError
from fer_training.network import Classifier
from fer_training.prediction import predict_logits, softmax
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
    train(run_longer(recipe), data, runs / "tiny", device=CPU)
    return runs


@pytest.mark.parametrize("views", ["augmented", "plain"])
def test_a_student_learns_from_its_teacher_alone(runs, recipe, data, tmp_path, views):
    """With all weight on the teacher, labels are never looked at: wrong ones do no harm."""
    wrong = dataclasses.replace(data.training, labels=(data.training.labels + 3) % 7)
    mislabelled = dataclasses.replace(data, training=wrong)
    path = train(distil(run_longer(recipe), views), mislabelled, tmp_path, device=CPU, runs_dir=runs)
    checkpoint = load_checkpoint(path)
    assert checkpoint.history[-1].validation_accuracy > 0.5  # by chance 0.14
    assert checkpoint.history[-1].train_loss < checkpoint.history[0].train_loss
    assert checkpoint.origin.teachers == {"tiny": load_checkpoint(runs / "tiny" / "checkpoint.pt").hash_weights()}


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
