"""The optimiser, its learning rate over time, the average of the weights, and the precision. Used by `training_run`."""

import math

import torch
from torch import nn

from fer_training.recipe import OptimisationRecipe


def build_optimiser(network: nn.Module, recipe: OptimisationRecipe) -> torch.optim.SGD:
    """SGD with Nesterov momentum. Weight decay acts on matrices and kernels only, not on biases and batch norm."""
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def learning_rate(recipe: OptimisationRecipe, step: int, steps_per_epoch: int) -> float:
    """Learning rate of one step: a linear warm-up to the peak, then half a cosine down to zero.

    Args:
        recipe: the peak, the warm-up and the length of the run.
        step: counted from 0 over the whole run.
        steps_per_epoch: batches in an epoch.
    """
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step < warmup:
        return recipe.learning_rate * (step + 1) / (warmup + 1)
    total = recipe.epochs * steps_per_epoch
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Moves the averaged weights and batch norm statistics towards the network's.

    The decay grows from 0.1 to `decay` over the first steps, lest the random start weigh in for long.
    Source: TensorFlow's ExponentialMovingAverage, `num_updates`.
    """
    decay = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def choose_autocast_type(precision: str, device: torch.device) -> torch.dtype:
    """The number format of the convolutions.

    Args:
        precision: `fp32`, `bf16`, or `auto` for bfloat16 where the hardware has it. A CPU without such instructions
            emulates them, slower than float32; one with them trains several times faster.
        device: where training runs.
    """
    if precision == "auto":
        if device.type == "cuda":
            has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            cpu = torch.cpu.get_capabilities()
            has_bf16 = bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))
        precision = "bf16" if has_bf16 else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32
