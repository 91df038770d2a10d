"""The optimiser, its learning rate over time, the average of the weights, and the precision. Used by `training_run`."""

import math

import torch
from torch import nn

from fer_training.errors import RecipeError
from fer_training.recipe import OptimisationRecipe


def build_optimiser(network: nn.Module, recipe: OptimisationRecipe) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW. Weight decay acts on matrices and kernels only, not on the rest.

    The learned scales of `repconv`'s branches have a kernel's number of dimensions, but one value per channel: they
    are no kernels.
    """
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if _is_kernel(p)], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if not _is_kernel(p)], "weight_decay": 0.0},
    ]
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.momentum, 0.999))
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def _is_kernel(parameter: torch.Tensor) -> bool:
    return parameter.ndim > 1 and parameter.numel() > len(parameter)


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
        precision: `fp32`, `bf16`, `fp16`, or `auto` for bfloat16 where the hardware has it. A CPU without such
            instructions emulates them, slower than float32; one with them trains several times faster.
        device: where training runs.

    Raises:
        RecipeError: `fp16` on a CPU, where it is slow and its small gradients are lost.
    """
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
