import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import copy

import torch
from torch import nn
from torch.nn import functional

from fer_training.backbones.repconv import RepConv, RepConvNet, reparameterise
from fer_training.network import Classifier, normalise


@pytest.fixture
def network(recipe):
    torch.manual_seed(0)
    return Classifier(recipe.network, classes=7).eval()


@pytest.mark.parametrize("size_px", [40, 48])
def test_any_view_gets_seven_logits(network, size_px):
    assert network(torch.zeros(3, 1, size_px, size_px)).shape == (3, 7)


def test_the_stem_and_every_stage_but_the_first_halve_the_resolution(network):
    assert network.backbone.layers(torch.zeros(1, 1, 48, 48)).shape == (1, 16, 12, 12)


def test_an_answer_does_not_depend_on_the_other_faces_in_the_batch(network):
    faces = torch.randn(4, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(network(faces)[2:3], network(faces[2:3]), rtol=1e-4, atol=1e-5)


def test_pixels_are_centred_on_mid_gray():
    pixels = torch.tensor([[[[0, 128, 192]]]], dtype=torch.uint8)
    assert normalise(pixels).flatten().tolist() == [-2.0, 0.0, 1.0]


def shake(module):
    """Gives every parameter and statistic a value of its own, as training would."""
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                value.add_(torch.rand_like(value) * (1.0 if name.endswith("running_var") else 0.5))
    return module


@pytest.mark.parametrize(("channels_in", "stride"), [(6, 1), (6, 2), (4, 1)])
def test_the_merged_kernel_computes_the_sum_of_the_branches(channels_in, stride):
    torch.manual_seed(0)
    layer = shake(RepConv(channels_in, 6, stride=stride))
    features = torch.randn(2, channels_in, 9, 9)
    total = functional.conv2d(features, layer.scale_3x3 * layer.kernel_3x3, stride=stride, padding=1)
    total = total + functional.conv2d(features, layer.scale_1x1 * layer.kernel_1x1, stride=stride)
    if channels_in == 6 and stride == 1:
        total = total + layer.scale_identity.view(1, 6, 1, 1) * features
    assert layer.has_identity == (channels_in == 6 and stride == 1)
    expected = functional.relu(layer.eval().norm(total))
    torch.testing.assert_close(layer(features), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("branches", [True, False])
def test_the_plain_network_computes_the_same_from_convolutions_alone(branches):
    torch.manual_seed(0)
    network = shake(
        RepConvNet(channels=1, stem_channels=8, stages=((8, 8), (16, 16)), branches=branches, attention="se")
    ).eval()
    plain = copy.deepcopy(network)
    reparameterise(plain)
    faces = torch.randn(3, 1, 48, 48)
    torch.testing.assert_close(plain(faces), network(faces), rtol=1e-4, atol=1e-4)
    assert not [layer for layer in plain.modules() if isinstance(layer, RepConv | nn.BatchNorm2d)]
    assert sum(p.numel() for p in plain.parameters()) < sum(p.numel() for p in network.parameters())


def test_every_branch_learns():
    torch.manual_seed(0)
    layer = RepConv(4, 4)
    layer(torch.randn(2, 4, 6, 6)).square().mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in layer.parameters())
