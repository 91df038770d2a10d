"""Each option of a recipe in a short real run: it does what it is called."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import torch

from fer_training.checkpoint import load_checkpoint
from fer_training.errors import DataError, RecipeError
from fer_training.faces import VOTES
from fer_training.network import Classifier, equalise
from fer_training.optimisation import choose_autocast_type
from fer_training.prediction import build_network, predict_logits, softmax
from fer_training.recipe import CaptureRecipe, NetworkRecipe
from fer_training.train import train
from fer_training.training_run import TrainingRun

CPU = torch.device("cpu")


def change(recipe, **sections):
    """The recipe, of two epochs, with fields of its sections changed."""
    sections["optimisation"] = {"epochs": 2} | sections.get("optimisation", {})
    changed = {name: dataclasses.replace(getattr(recipe, name), **fields) for name, fields in sections.items()}
    return dataclasses.replace(recipe, **changed)


def run(recipe, data, folder):
    return load_checkpoint(train(recipe, data, folder, device=CPU))


def differs(a, b):
    return any(not torch.equal(a.network[name], b.network[name]) for name in a.network)


@pytest.fixture(scope="module")
def voted(data):
    """The data with votes that follow the labels: seven of the ten columns, each all of one class's."""
    votes = np.eye(len(VOTES), dtype=np.float32)[data.training.labels]
    return dataclasses.replace(data, training=dataclasses.replace(data.training, votes=votes))


@pytest.mark.parametrize(
    "sections",
    [
        {"loss": {"focal_gamma": 2.0}},
        {"loss": {"class_weights": {"fear": 1.5, "disgust": 1.5}}},
        {"augmentation": {"mixup_alpha": 0.4}},
        {"augmentation": {"noise": 8.0}},
        {"optimisation": {"optimiser": "adamw", "learning_rate": 0.003}},
        {"optimisation": {"gradient_clip": 0.1}},
        {"optimisation": {"backbone_rate": 0.3}},
        {"network": {"equalise": True}},
        {"network": {"attention": "eca"}},
        {"network": {"local_regions": True}},
    ],
    ids=lambda sections: "-".join(f"{name}={value}" for fields in sections.values() for name, value in fields.items()),
)
def test_an_option_changes_the_run_and_the_network_still_learns(recipe, data, tmp_path, sections):
    plain = run(change(recipe), data, tmp_path / "plain")
    optional = run(change(recipe, **sections), data, tmp_path / "optional")
    if "network" not in sections or "equalise" in sections["network"]:
        assert differs(plain, optional)
    assert optional.history[1].train_loss < optional.history[0].train_loss


def test_pictures_are_spoiled_only_where_the_recipe_says_so(recipe, data, tmp_path):
    plain = run(change(recipe), data, tmp_path / "plain")
    spoiled = CaptureRecipe(0.5, darkest=0.3, noise=8.0, blur_px=1.0)
    optional = run(dataclasses.replace(change(recipe), capture=spoiled), data, tmp_path / "optional")
    assert differs(plain, optional)
    assert optional.history[1].train_loss < optional.history[0].train_loss


def test_a_second_head_learns_the_votes_and_is_gone_after_training(recipe, voted, tmp_path):
    checkpoint = run(change(recipe, loss={"votes_auxiliary": 1.0}), voted, tmp_path)
    assert checkpoint.network["votes_head.weight"].shape == (10, 16)
    assert checkpoint.history[1].train_loss < checkpoint.history[0].train_loss
    network = build_network(checkpoint)
    assert network.votes_head is None
    assert predict_logits(network, voted.validation.images[:2]).shape == (2, 7)


def test_votes_alone_teach_the_labels(recipe, voted, tmp_path):
    """With votes as the whole target, wrong labels do no harm. Votes are named in another order than labels."""
    columns = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
    votes = np.zeros((len(voted.training), len(VOTES)), np.float32)
    votes[np.arange(len(votes)), [VOTES.index(columns[label]) for label in voted.training.labels]] = 1
    training = dataclasses.replace(voted.training, votes=votes, labels=(voted.training.labels + 3) % 7)
    longer = change(recipe, loss={"votes_as_labels": 1.0}, optimisation={"epochs": 6})
    checkpoint = run(longer, dataclasses.replace(voted, training=training), tmp_path)
    assert checkpoint.history[-1].validation_accuracy > 0.5  # by chance 0.14


def test_the_second_head_needs_votes(recipe, data):
    with pytest.raises(DataError, match=r"votes_auxiliary needs FER\+ votes"):
        TrainingRun(change(recipe, loss={"votes_auxiliary": 1.0}), data, CPU)


def test_a_heavier_class_is_answered_more_often(recipe, data, tmp_path):
    plain = run(change(recipe), data, tmp_path / "plain")
    heavy = run(change(recipe, loss={"class_weights": {"fear": 10.0}}), data, tmp_path / "heavy")
    shares = [
        softmax(predict_logits(build_network(one), data.validation.images))[:, 2].mean() for one in (plain, heavy)
    ]
    assert shares[1] > shares[0] + 0.05


def test_a_class_weight_for_no_class_is_refused(recipe, data):
    with pytest.raises(RecipeError, match="names 'joy', which the data does not have"):
        TrainingRun(change(recipe, loss={"class_weights": {"joy": 2.0}}), data, CPU)


def test_other_classes_train_too(recipe, data, tmp_path):
    names = ("angry", "disgust", "fear", "happy", "sad", "surprise", "contempt")
    faces = [dataclasses.replace(one, class_names=names) for one in (data.training, data.validation)]
    checkpoint = run(change(recipe), dataclasses.replace(data, training=faces[0], validation=faces[1]), tmp_path)
    assert checkpoint.class_names == names


def test_a_network_may_enlarge_the_face_and_take_colour():
    torch.manual_seed(0)
    network = Classifier(NetworkRecipe("mobilenet_v3_small", input_px=96, channels=3, width=0.25), classes=5).eval()
    seen = []
    network.backbone.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    assert network(torch.zeros(2, 1, 48, 48)).shape == (2, 5)
    assert seen[0].shape == (2, 3, 96, 96)


def test_equalisation_spreads_the_brightness_evenly():
    ramp = torch.arange(100, 100 + 16, dtype=torch.uint8).repeat_interleave(144).view(1, 1, 48, 48)
    equal = equalise(ramp)
    assert equal.dtype == torch.uint8
    assert sorted(set(equal.flatten().tolist())) == [round(255 * step / 16) for step in range(1, 17)]
    assert equal.flatten()[0] == 16
    darker = equalise(torch.cat([ramp, ramp // 2]))
    assert torch.equal(darker[:1], equal), "each image by its own histogram"


def test_half_precision_training_needs_a_gpu():
    with pytest.raises(RecipeError, match="--precision fp16 needs --device cuda"):
        choose_autocast_type("fp16", CPU)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_training_on_a_gpu_learns_and_resumes(recipe, data, tmp_path, precision):
    cuda = torch.device("cuda")

    def interrupt(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, tmp_path, device=cuda, precision=precision, on_epoch=interrupt)
    checkpoint = load_checkpoint(train(recipe, data, tmp_path, device=cuda, precision=precision, resume=True))
    assert checkpoint.history[-1].validation_accuracy > 0.5


def test_fresh_statistics_are_those_of_the_whole_training_images(recipe, data, tmp_path):
    plain = run(change(recipe), data, tmp_path / "plain")
    fresh = run(change(recipe, optimisation={"fresh_statistics": True}), data, tmp_path / "fresh")
    for name, weight in plain.average.items():
        gathered = name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        assert torch.equal(weight, fresh.average[name]) != gathered, name
    network = Classifier(recipe.network, 7)
    network.load_state_dict(fresh.average)
    norm = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    seen = []
    norm.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    predict_logits(network, data.training.images)
    means = seen[0].mean(dim=(0, 2, 3))
    torch.testing.assert_close(norm.running_mean, means, rtol=1e-3, atol=1e-3)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(plain.average["backbone.layers.0.norm.running_mean"], means, rtol=1e-3, atol=1e-3)
