"""EfficientNet-B0: inverted residual blocks with swish."""

from typing import Final, NamedTuple

import torch
from torch import nn

from fer_training.backbones.attention import build_attention
from fer_training.backbones.backbone import Backbone, convolution, early_strides, scale
from fer_training.backbones.mobilenet import InvertedResidual


class Stage(NamedTuple):
    """Blocks of one shape, as a row of the paper's table. The first block has the stride."""

    expansion: int
    size: int
    channels: int
    blocks: int
    stride: int


STAGES: Final = (
    Stage(1, 3, 16, 1, 1),
    Stage(6, 3, 24, 2, 2),
    Stage(6, 5, 40, 2, 2),
    Stage(6, 3, 80, 3, 2),
    Stage(6, 5, 112, 3, 1),
    Stage(6, 5, 192, 4, 2),
    Stage(6, 3, 320, 1, 1),
)
"""Table 1 of the paper. The strides are its reference implementation's: the table's resolutions leave them open."""
STEM_CHANNELS: Final = 32
LAST_CHANNELS: Final = 1280
FIRST_HALVING: Final = 1
"""Index of the first stage with a stride, which is the second early step of `early_strides`."""
SE_REDUCTION: Final = 4
"""Channels of a block's input, not of its wide middle, per hidden unit."""


class EfficientNet(Backbone):
    """EfficientNet-B0, without the stochastic depth that the paper trains with.

    The paper's attention is "se". "eca" and "cbam" stand in its place, in every block.

    Source: Tan and Le, EfficientNet, 2019.
    """

    def __init__(self, *, channels: int, input_px: int, attention: str, width: float) -> None:
        """See `build_backbone`. `width` is the paper's coefficient w; the depths are always B0's."""
        super().__init__()
        first_stride, second_stride = early_strides(input_px)
        channels_in = scale(STEM_CHANNELS, width)
        self.stem = convolution(channels, channels_in, 3, first_stride, activation=nn.SiLU)
        blocks: list[nn.Module] = []
        for index, stage in enumerate(STAGES):
            for block in range(stage.blocks):
                stride = 1 if block else second_stride if index == FIRST_HALVING else stage.stride
                expanded = channels_in * stage.expansion
                channels_out = scale(stage.channels, width)
                attend = build_attention(attention, expanded, squeezed=channels_in // SE_REDUCTION, activation=nn.SiLU)
                blocks.append(
                    InvertedResidual(
                        channels_in,
                        expanded,
                        channels_out,
                        stage.size,
                        stride,
                        activation=nn.SiLU,
                        attention=attend,
                    )
                )
                channels_in = channels_out
        self.features = scale(LAST_CHANNELS, width)
        self.stages = nn.Sequential(*blocks, convolution(channels_in, self.features, 1, activation=nn.SiLU))
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """See `Backbone.forward`."""
        pooled: torch.Tensor = self.pool(self.stages(self.stem(faces)))
        return pooled.flatten(1)
