"""How large a network is and how much it computes. Used by `export` and `prune`."""

import copy
from typing import Any

import torch
from torch import nn

from fer_contract import FACE_SIZE_PX
from fer_training.backbones.repconv import reparameterise
from fer_training.network import Classifier


def count_parameters(network: nn.Module) -> int:
    """All weights, of the network in the form that it has."""
    return sum(parameter.numel() for parameter in network.parameters())


@torch.inference_mode()
def count_macs(network: Classifier) -> int:
    """Multiply-accumulate operations of all convolutions and linear layers for one face, in the exported form."""
    exported = copy.deepcopy(network).eval()
    reparameterise(exported)
    total = 0

    def add(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal total
        weight = layer.get_parameter("weight")
        total += output.numel() * weight[0].numel()  # (C_in / groups, k, k) or (C_in,) for each output value

    for layer in exported.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(add)
    exported(torch.zeros(1, 1, FACE_SIZE_PX, FACE_SIZE_PX))
    return total
