"""Attention modules, which reweight the channels or positions of a feature map. Used by the blocks of the backbones.

All take and give float32, (N, C, H, W).
"""

import math
from collections.abc import Callable
from typing import Final, Literal

import torch
from torch import nn

ATTENTIONS: Final = ("none", "se", "eca", "cbam")
REDUCTION: Final = 16
"""Channels per hidden unit, as SE's and CBAM's papers choose it."""


def build_attention(
    name: str,
    channels: int,
    *,
    squeezed: int | None = None,
    activation: Callable[..., nn.Module] = nn.ReLU,
    gate: Callable[..., nn.Module] = nn.Sigmoid,
) -> nn.Module:
    """Build one attention module.

    Args:
        name: One of `ATTENTIONS`; "none" passes the features through.
        channels: C.
        squeezed: Hidden units of "se"; None for C / 16, but at least 8.
        activation: Activation of the hidden units of "se".
        gate: Last activation of "se", to 0..1.

    Raises:
        ValueError: The name is not known.
    """
    check_attention(name)
    if name == "se":
        return SqueezeExcitation(channels, squeezed or _reduce(channels), activation, gate)
    if name == "eca":
        return EfficientChannelAttention(channels)
    if name == "cbam":
        return nn.Sequential(ChannelAttention(channels), SpatialAttention())
    return nn.Identity()


def check_attention(name: str) -> None:
    """Raise ValueError where the name is not one of `ATTENTIONS`."""
    if name not in ATTENTIONS:
        raise ValueError(f"attention must be one of {', '.join(ATTENTIONS)}, but is {name!r}.")


class SqueezeExcitation(nn.Module):
    """Weighs each channel by what all channels average to.

    Source: Hu et al., Squeeze-and-Excitation Networks, 2018.
    """

    def __init__(
        self, channels: int, squeezed: int, activation: Callable[..., nn.Module], gate: Callable[..., nn.Module]
    ) -> None:
        """See `build_attention`."""
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.weigh = _perceptron(channels, squeezed, activation)
        self.gate = gate()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features, each channel multiplied by its weight, 0..1."""
        weights: torch.Tensor = self.gate(self.weigh(self.pool(features)))  # (N, C, 1, 1)
        return features * weights


class EfficientChannelAttention(nn.Module):
    """Weighs each channel by the averages of its neighbours: a few weights in all, none of them per channel.

    The neighbourhood is the odd number nearest to log2(C) / 2 + 1 / 2, for example 5 for 256 channels.

    Source: Wang et al., ECA-Net, 2020 (equation 12, gamma 2, b 1; made odd as its reference implementation does).
    """

    def __init__(self, channels: int) -> None:
        """Build the module for features of C channels."""
        super().__init__()
        size = int((math.log2(channels) + 1) / 2) | 1
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.weigh = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features, each channel multiplied by its weight, 0..1."""
        averages = self.pool(features).squeeze(-1).transpose(1, 2)  # (N, 1, C)
        weights = torch.sigmoid(self.weigh(averages)).transpose(1, 2).unsqueeze(-1)  # (N, C, 1, 1)
        return features * weights


class ChannelAttention(nn.Module):
    """Weighs each channel by what all channels average to, and by their peaks.

    Source: Woo et al., CBAM, 2018 (equation 2).
    """

    def __init__(self, channels: int) -> None:
        """Build the module for features of C channels."""
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.weigh = _perceptron(channels, _reduce(channels), nn.ReLU)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features, each channel multiplied by its weight, 0..1."""
        peaks = features.amax(dim=(2, 3), keepdim=True)
        return features * torch.sigmoid(self.weigh(self.pool(features)) + self.weigh(peaks))


class SpatialAttention(nn.Module):
    """Weighs each position by the average and the peak of its channels, and of those around it.

    Source: Woo et al., CBAM, 2018 (equation 3).
    """

    def __init__(self) -> None:
        """Build the module, which takes any number of channels."""
        super().__init__()
        self.weigh = _layer(2, 1, 7)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the features, each position multiplied by its weight, 0..1."""
        summary = torch.cat([features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)], dim=1)
        return features * torch.sigmoid(self.weigh(summary))  # (N, C, H, W) * (N, 1, H, W)


def _reduce(channels: int) -> int:
    """Return the number of hidden units: C / 16, but enough that some stay alive behind a ReLU."""
    return max(8, channels // REDUCTION)


def _perceptron(channels: int, hidden: int, activation: Callable[..., nn.Module]) -> nn.Sequential:
    """Build two layers, (N, C, 1, 1) -> (N, C, 1, 1), as convolutions, which need no reshaping."""
    return nn.Sequential(_layer(channels, hidden, 1, "relu"), activation(inplace=True), _layer(hidden, channels, 1))


def _layer(channels_in: int, channels_out: int, size: int, before: Literal["relu", "linear"] = "linear") -> nn.Conv2d:
    """Build a convolution that keeps the variance and starts without a bias, so that a gate behind it starts at 1/2."""
    layer = nn.Conv2d(channels_in, channels_out, size, padding=size // 2)
    nn.init.kaiming_normal_(layer.weight, nonlinearity=before)
    if layer.bias is not None:  # it never is, but its type says so
        nn.init.zeros_(layer.bias)
    return layer
