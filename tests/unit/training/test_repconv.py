import copy

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import torch
from torch import nn
from torch.nn import functional

from fer_training.backbones.repconv import RepConv, RepConvNet, reparameterise


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
    network = shake(RepConvNet(1, stem_channels=8, stages=((8, 8), (16, 16)), branches=branches, attention="se")).eval()
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
