"""The optimiser, its learning rate over time, the precision, and the moving average of the weights."""

import argparse
import math
from typing import Final

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from fer_training.errors import RecipeError
from fer_training.network import Classifier
from fer_training.recipe import OptimisationRecipe

RATE_FACTOR: Final = "rate_factor"
"""Key in an optimiser's group of parameters: the factor on the learning rate for them."""


def build_optimiser(network: Classifier, recipe: OptimisationRecipe) -> torch.optim.Optimizer:
    """Build SGD with Nesterov momentum, or AdamW. Weight decay acts on matrices and kernels only, not on the rest.

    The backbone's weights and the last layers' have learning rates of their own.

    The learned scales of `repconv`'s branches have a kernel's number of dimensions, but one value per channel: they
    are no kernels. On a GPU the learning rate is a tensor there, see `set_learning_rate`, and the step is one kernel.
    """
    backbone = list(network.backbone.parameters())
    known = set(backbone)
    groups = []
    for parameters, factor in (
        (backbone, recipe.backbone_rate),
        ([p for p in network.parameters() if p not in known], 1.0),
    ):
        for decay, kernels in (recipe.weight_decay, True), (0.0, False):
            chosen = [p for p in parameters if _is_kernel(p) == kernels]
            groups.append({"params": chosen, "weight_decay": decay, RATE_FACTOR: factor})
    device = backbone[0].device
    fused = device.type == "cuda" or None
    if recipe.optimiser == "adamw":
        optimiser: torch.optim.Optimizer = torch.optim.AdamW(
            groups, lr=recipe.learning_rate, betas=(recipe.momentum, 0.999), fused=fused, capturable=fused is not None
        )
    else:
        optimiser = torch.optim.SGD(
            groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=fused
        )
    place_learning_rate(optimiser, device)
    return optimiser


def place_learning_rate(optimiser: torch.optim.Optimizer, device: torch.device) -> None:
    """Place the learning rates where `build_optimiser` says: a checkpoint has them on the CPU."""
    for group in optimiser.param_groups:
        rate = float(group["lr"])
        group["lr"] = torch.tensor(rate, device=device) if device.type == "cuda" else rate


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set each group's learning rate, of which `rate` is the last layers'.

    Where it is a tensor, in place, so that a recorded step sees it.
    """
    for group in optimiser.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate * group[RATE_FACTOR])
        else:
            group["lr"] = rate * group[RATE_FACTOR]


def _is_kernel(parameter: torch.Tensor) -> bool:
    return parameter.ndim > 1 and parameter.numel() > len(parameter)


def learning_rate(recipe: OptimisationRecipe, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of one step: a linear warm-up to the peak, then half a cosine down to zero.

    Args:
        recipe: The peak, the warm-up and the length of the run.
        step: Counted from 0 over the whole run.
        steps_per_epoch: Batches in an epoch.
    """
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step < warmup:
        return recipe.learning_rate * (step + 1) / (warmup + 1)
    total = recipe.epochs * steps_per_epoch
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add `--device`."""
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=["cpu", "cuda"], default=default, help="here: %(default)s")


def require_device(device: torch.device) -> None:
    """Make sure that a device is there.

    Raises:
        RecipeError: It is a GPU, and there is none.
    """
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RecipeError("--device cuda: PyTorch finds no NVIDIA GPU. Give --device cpu.")


def choose_autocast_type(precision: str, device: torch.device) -> torch.dtype:
    """Return the number format of the convolutions.

    Args:
        precision: `fp32`, `bf16`, `fp16`, or `auto` for bfloat16 where the hardware has it. A CPU without such
            instructions emulates them, slower than float32; one with them trains several times faster.
        device: The device to train on.

    Raises:
        RecipeError: `fp16` on a CPU, where it is slow and its small gradients are lost; or there is no such device.
    """
    require_device(device)
    if precision == "fp16" and device.type != "cuda":
        raise RecipeError("--precision fp16 needs --device cuda. On a CPU give bf16 or fp32.")
    if precision == "auto":
        if device.type == "cuda":
            has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            cpu = torch.cpu.get_capabilities()
            has_bf16 = bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))
        precision = "bf16" if has_bf16 else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


STATISTICS_BATCH: Final = 256


def average_weight(decay: float, step: int) -> float:
    """Return the weight of a step in the moving average of the weights, 0..1.

    The decay grows from 0.1 to `decay` over the first steps, lest the random start weigh in for long.
    Source: TensorFlow's ExponentialMovingAverage, `num_updates`.

    Args:
        decay: The recipe's `average_decay`.
        step: Counted from 0 over the whole run.
    """
    return 1 - min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, weight: torch.Tensor) -> None:
    """Move the averaged weights and batch norm statistics towards the network's."""
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
    """Give the batch norms the statistics of whole images, in float32, instead of those gathered in training.

    Args:
        network: Whose batch norms are changed.
        images: uint8, (N, 1, 48, 48), gray, 0..255, on the network's device.
    """
    # A batch of one has no spread where a network's last features are 1x1.
    batches = (batch for batch in torch.split(images, STATISTICS_BATCH) if len(batch) > 1)
    update_bn((network.preprocess(batch).contiguous(memory_format=torch.channels_last) for batch in batches), network)
