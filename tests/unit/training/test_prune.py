import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import torch

from fer_training.checkpoint import load_checkpoint
from fer_training.cost import count_macs, count_parameters
from fer_training.errors import CheckpointError
from fer_training.network import Classifier
from fer_training.prediction import build_network, predict_logits
from fer_training.prune import prune
from fer_training.recipe import NetworkRecipe
from fer_training.train import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def wide(recipe):
    """The tiny recipe, with channels to spare."""
    repconv = dataclasses.replace(recipe.network.repconv, stem_channels=16, stages=((16, 24), (24, 16)))
    network = dataclasses.replace(recipe.network, repconv=repconv, dropout=0.0)
    return dataclasses.replace(recipe, network=network)


@pytest.fixture(scope="module")
def parent(tmp_path_factory, wide, data):
    return load_checkpoint(train(wide, data, tmp_path_factory.mktemp("parent"), device=CPU))


def test_multiply_accumulates_are_counted_by_hand(recipe):
    plain = dataclasses.replace(recipe.network, attention="none")
    network = Classifier(plain, 7)
    # 48 px: stem 1 -> 8 at 24 px; 8 -> 8 twice at 24 px; 8 -> 16, 16 -> 16 at 12 px; the last layer
    expected = 9 * (24 * 24 * (8 + 8 * 8 * 2) + 12 * 12 * (8 * 16 + 16 * 16)) + 16 * 7
    assert count_macs(network) == expected
    assert count_parameters(torch.nn.Linear(3, 4)) == 16


def test_the_smaller_network_computes_no_more_than_asked_for(parent, data):
    whole = Classifier(parent.recipe.network, 7)
    shape, network = prune(parent, data.training, macs=0.5)
    assert count_macs(network) <= 0.5 * count_macs(whole)
    channels = [shape.repconv.stem_channels, *(width for stage in shape.repconv.stages for width in stage)]
    assert all(width % 8 == 0 and width >= 8 for width in channels)
    assert [stage[-1] for stage in shape.repconv.stages] == [24, 16], "channels before an attention module are kept"
    assert count_macs(Classifier(shape, 7)) == count_macs(network)


def test_keeping_everything_changes_nothing(parent, data):
    _, network = prune(parent, data.training, macs=1.0)
    expected = predict_logits(build_network(parent), data.validation.images)
    np.testing.assert_allclose(predict_logits(network, data.validation.images), expected, rtol=1e-3, atol=1e-4)


def test_a_channel_that_does_nothing_goes_first(parent, data):
    idle = {name: weight.clone() for name, weight in parent.average.items()}
    dead = [1, 2, 4, 7, 9, 11, 12, 15]
    for name in ("weight", "bias"):  # of the stem's batch norm: these channels are 0 for every face
        idle[f"backbone.layers.0.norm.{name}"][dead] = 0.0
    spoilt = dataclasses.replace(parent, average=idle)
    macs = count_macs(Classifier(parent.recipe.network, 7))
    shape, network = prune(spoilt, data.training, macs=1 - 1 / macs)
    assert shape.repconv.stem_channels == 8
    expected = predict_logits(build_network(spoilt), data.validation.images)
    np.testing.assert_allclose(predict_logits(network, data.validation.images), expected, rtol=1e-3, atol=1e-4)


def test_a_pruned_network_is_trained_on_and_resumed(parent, wide, data, tmp_path):
    shape, network = prune(parent, data.training, macs=0.6)
    smaller = dataclasses.replace(wide, name="pruned", network=shape)
    path = train(smaller, data, tmp_path, device=CPU, initial_weights=network.state_dict())
    checkpoint = load_checkpoint(path)
    fresh = load_checkpoint(train(smaller, data, tmp_path / "fresh", device=CPU))
    assert checkpoint.history[0].train_loss < fresh.history[0].train_loss
    assert count_macs(build_network(checkpoint)) == count_macs(network)


def test_only_repconv_is_pruned(parent, data):
    other = dataclasses.replace(parent.recipe, network=NetworkRecipe(backbone="resnet18"))
    with pytest.raises(CheckpointError, match="only networks of backbone repconv, without local_regions"):
        prune(dataclasses.replace(parent, recipe=other), data.training, macs=0.5)


def test_a_network_that_cannot_become_so_small_says_how_small_it_can(parent, data):
    with pytest.raises(CheckpointError, match=r"cannot be pruned to 1.0% .* it keeps \d+.\d%. Give a larger --macs"):
        prune(parent, data.training, macs=0.01)
