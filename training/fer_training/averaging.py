"""Averages of weights, and the batch norms' statistics that fit them. Used by `training_run` and `soup`."""

from typing import Final

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from fer_training.network import Classifier

STATISTICS_BATCH: Final = 256


def average_weight(decay: float, step: int) -> float:
    """How far a step moves the average of the weights towards them, 0..1.

    The decay grows from 0.1 to `decay` over the first steps, lest the random start weigh in for long.
    Source: TensorFlow's ExponentialMovingAverage, `num_updates`.

    Args:
        decay: of the recipe.
        step: counted from 0 over the whole run.
    """
    return 1 - min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, weight: torch.Tensor) -> None:
    """Moves the averaged weights and batch norm statistics towards the network's.

    Args:
        average: what is moved.
        network: of the same kind.
        weight: float32, (), from `average_weight`, on the networks' device.
    """
    means, values = [], []
    for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            means.append(mean)
            values.append(value)
        else:
            mean.copy_(value)
    # All tensors at once: one by one they are hundreds of small kernels on a GPU.
    steps = torch._foreach_sub(values, means)
    torch._foreach_mul_(steps, weight)
    torch._foreach_add_(means, steps)


def refresh_statistics(network: Classifier, images: torch.Tensor) -> None:
    """Gives the batch norms the statistics of whole images, in float32, instead of those gathered in training.

    Args:
        network: whose batch norms are changed.
        images: uint8, (N, 1, 48, 48), gray, 0..255, on the network's device.
    """
    # A batch of one has no spread where a network's last features are 1x1.
    batches = (batch for batch in torch.split(images, STATISTICS_BATCH) if len(batch) > 1)
    update_bn((network.preprocess(batch).contiguous(memory_format=torch.channels_last) for batch in batches), network)
