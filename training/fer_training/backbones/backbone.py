"""Shared by all backbones: the interface, early strides, scaled widths, and a convolution with its batch norm."""

from collections.abc import Callable
from typing import Final

import torch
from torch import nn

MIN_INPUT_PX: Final = 32
MIN_LAST_MAP: Final = 6
"""Side of the last feature map that decides the early strides. On ImageNet's 224 px the networks end in 7 x 7."""
LATER_HALVINGS: Final = 3
"""Halvings that every input size keeps, of the five in the papers' networks."""


class Backbone(nn.Module):
    """A network that turns faces into feature vectors; a classifier puts its last layer on top.

    Weights are drawn from PyTorch's global generator.
    """

    features: int
    """Length of the vector."""

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Describe each face.

        Args:
            faces: float32, (N, channels, H, W), normalised about 0; H and W of the `input_px` it was built for, or
                less, from 32.

        Returns:
            float32, (N, features), averaged over the positions of the image.
        """
        raise NotImplementedError


def early_strides(input_px: int) -> tuple[int, int]:
    """Return the strides of the first convolution, and of the max-pooling or first halving block behind it.

    The networks in the papers halve the resolution five times and end in 7 x 7 at 224 px. Here the early halvings are
    left out, first the second step's, then the first convolution's, where the last map would be smaller than 6 x 6:

    | input_px   | strides | halvings | last map             |
    |------------|---------|----------|----------------------|
    | 32 to 95   | 1, 1    | 3        | 48: 6 x 6, 64: 8 x 8 |
    | 96 to 191  | 2, 1    | 4        | 96: 6 x 6            |
    | 192 and up | 2, 2    | 5        | 224: 7 x 7           |

    Raises:
        ValueError: `input_px` is below 32.
    """
    if input_px < MIN_INPUT_PX:
        raise ValueError(f"input_px must be at least {MIN_INPUT_PX}, but is {input_px}.")
    smallest = MIN_LAST_MAP << LATER_HALVINGS  # px, the least that leaves 6 x 6 after the later halvings
    return 2 if input_px >= 2 * smallest else 1, 2 if input_px >= 4 * smallest else 1


def scale(channels: int, width: float) -> int:
    """Scale a number of channels: a multiple of 8, at least 8, at most 10 % less than asked for.

    Source: Sandler et al., MobileNetV2, 2018 (reference implementation).
    """
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


def convolution(
    channels_in: int,
    channels_out: int,
    size: int = 3,
    stride: int = 1,
    *,
    padding: int | None = None,
    groups: int = 1,
    activation: Callable[..., nn.Module] | None = nn.ReLU,
    starts_at_zero: bool = False,
) -> nn.Sequential:
    """Build a convolution, its batch norm (the export folds the two into one) and its activation.

    Source of the initial weights: He et al., Delving Deep into Rectifiers, 2015. Each kernel keeps the variance of its
    own inputs, so that a depthwise one starts as large as a dense one.

    Args:
        channels_in: Channels of the input, (N, channels_in, H, W).
        channels_out: Channels of the output, (N, channels_out, H / stride, W / stride), sizes rounded up.
        size: Side of the kernel, odd.
        stride: Stride along both axes.
        padding: Zeros on each side; half the kernel's size if not given.
        groups: Groups of `nn.Conv2d`; `channels_in` of them make a depthwise convolution.
        activation: Called with `inplace=True`; None leaves it out.
        starts_at_zero: The batch norm's factors start at 0 instead of 1, and so does the output.
    """
    padding = size // 2 if padding is None else padding
    kernels = nn.Conv2d(channels_in, channels_out, size, stride, padding, groups=groups, bias=False)
    nn.init.kaiming_normal_(kernels.weight, nonlinearity="relu" if activation else "linear")
    norm = nn.BatchNorm2d(channels_out)
    if starts_at_zero:
        nn.init.zeros_(norm.weight)
    return nn.Sequential(kernels, norm, *([activation(inplace=True)] if activation else []))
