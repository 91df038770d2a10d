"""MobileNetV3, and the inverted residual block that EfficientNet uses too."""

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import nn

from fer_training.backbones.attention import build_attention
from fer_training.backbones.backbone import Backbone, convolution, early_strides, scale


class InvertedResidual(nn.Module):
    """A block that widens, filters each channel by itself, attends, narrows, and adds its input where shapes allow.

    Source: Sandler et al., MobileNetV2, 2018; the place of the attention: Howard et al., MobileNetV3, 2019 (figure 4).
    """

    def __init__(
        self,
        channels_in: int,
        expanded: int,
        channels_out: int,
        size: int,
        stride: int,
        *,
        activation: Callable[..., nn.Module],
        attention: nn.Module,
    ) -> None:
        """Build the block. As many `expanded` channels, those in between, as `channels_in` leave the widening out."""
        super().__init__()
        widen = [convolution(channels_in, expanded, 1, activation=activation)] if expanded != channels_in else []
        self.body = nn.Sequential(
            *widen,
            convolution(expanded, expanded, size, stride, groups=expanded, activation=activation),
            attention,
            convolution(expanded, channels_out, 1, activation=None),
        )
        self.adds = stride == 1 and channels_in == channels_out

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map float32, (N, C_in, H, W) -> (N, C_out, H / stride, W / stride)."""
        output: torch.Tensor = self.body(features)
        return features + output if self.adds else output


class Row(NamedTuple):
    """A block, as a row of the paper's tables."""

    size: int
    expanded: int
    channels: int
    attends: bool
    activation: Callable[..., nn.Module]
    stride: int


LARGE: Final = (
    Row(3, 16, 16, False, nn.ReLU, 1),
    Row(3, 64, 24, False, nn.ReLU, 2),
    Row(3, 72, 24, False, nn.ReLU, 1),
    Row(5, 72, 40, True, nn.ReLU, 2),
    Row(5, 120, 40, True, nn.ReLU, 1),
    Row(5, 120, 40, True, nn.ReLU, 1),
    Row(3, 240, 80, False, nn.Hardswish, 2),
    Row(3, 200, 80, False, nn.Hardswish, 1),
    Row(3, 184, 80, False, nn.Hardswish, 1),
    Row(3, 184, 80, False, nn.Hardswish, 1),
    Row(3, 480, 112, True, nn.Hardswish, 1),
    Row(3, 672, 112, True, nn.Hardswish, 1),
    Row(5, 672, 160, True, nn.Hardswish, 2),
    Row(5, 960, 160, True, nn.Hardswish, 1),
    Row(5, 960, 160, True, nn.Hardswish, 1),
)
"""Table 1 of the paper."""
SMALL: Final = (
    Row(3, 16, 16, True, nn.ReLU, 2),
    Row(3, 72, 24, False, nn.ReLU, 2),
    Row(3, 88, 24, False, nn.ReLU, 1),
    Row(5, 96, 40, True, nn.Hardswish, 2),
    Row(5, 240, 40, True, nn.Hardswish, 1),
    Row(5, 240, 40, True, nn.Hardswish, 1),
    Row(5, 120, 48, True, nn.Hardswish, 1),
    Row(5, 144, 48, True, nn.Hardswish, 1),
    Row(5, 288, 96, True, nn.Hardswish, 2),
    Row(5, 576, 96, True, nn.Hardswish, 1),
    Row(5, 576, 96, True, nn.Hardswish, 1),
)
"""Table 2 of the paper."""
STEM_CHANNELS: Final = 16
LAST_EXPANSION: Final = 6
"""Features per channel of the last block."""
SE_REDUCTION: Final = 4


class MobileNetV3(Backbone):
    """Inverted residuals with hard swish; the layer of 1,024 or 1,280 after the pooling is the classifier's.

    The paper's attention is "se". "eca" and "cbam" stand where it stands, in the rows of the tables that have it.

    Source: Howard et al., Searching for MobileNetV3, 2019.
    """

    def __init__(self, rows: tuple[Row, ...], *, channels: int, input_px: int, attention: str, width: float) -> None:
        """Build the rows of a table, `LARGE` or `SMALL`. For the rest see `build_backbone`."""
        super().__init__()
        first_stride, second_stride = early_strides(input_px)
        halving = next(index for index, row in enumerate(rows) if row.stride == 2)
        channels_in = scale(STEM_CHANNELS, width)
        self.stem = convolution(channels, channels_in, 3, first_stride, activation=nn.Hardswish)
        blocks: list[nn.Module] = []
        for index, row in enumerate(rows):
            expanded = scale(row.expanded, width)
            attend = build_attention(
                attention if row.attends else "none",
                expanded,
                squeezed=scale(expanded, 1 / SE_REDUCTION),
                gate=nn.Hardsigmoid,
            )
            channels_out = scale(row.channels, width)
            stride = second_stride if index == halving else row.stride
            blocks.append(
                InvertedResidual(
                    channels_in,
                    expanded,
                    channels_out,
                    row.size,
                    stride,
                    activation=row.activation,
                    attention=attend,
                )
            )
            channels_in = channels_out
        self.features = LAST_EXPANSION * channels_in
        self.stages = nn.Sequential(*blocks, convolution(channels_in, self.features, 1, activation=nn.Hardswish))
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """See `Backbone.forward`."""
        pooled: torch.Tensor = self.pool(self.stages(self.stem(faces)))
        return pooled.flatten(1)
