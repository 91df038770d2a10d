"""ResNets of basic and of bottleneck blocks, and one whose features come from its last three stages."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import nn

from fer_training.backbones.attention import build_attention
from fer_training.backbones.backbone import Backbone, convolution, early_strides, scale

WIDTHS: Final = (64, 128, 256, 512)
"""Channels of the 3x3 convolutions of each stage. Every stage but the first halves the resolution."""


class Residual(nn.Module):
    """A shortcut around a body of convolutions, and a ReLU on their sum.

    The body ends in a batch norm that starts at 0: each block starts as its shortcut, and a deep network trains from
    its first step on. Source: Goyal et al., Accurate, Large Minibatch SGD, 2017 (section 5.1).
    """

    expansion: int
    """Channels of the output per channel of the 3x3 convolutions."""

    def __init__(self, body: Sequence[nn.Sequential], channels: tuple[int, int], stride: int, attention: str) -> None:
        """Add the shortcut, a 1x1 convolution where the shape changes, and the attention, last before the sum.

        The last convolution of the body has no activation, and its batch norm starts at 0.
        """
        super().__init__()
        self.body = nn.Sequential(*body, build_attention(attention, channels[1]))
        same = channels[0] == channels[1] and stride == 1
        self.shortcut = nn.Identity() if same else convolution(*channels, 1, stride, activation=None)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map float32, (N, C_in, H, W) -> (N, C_out, H / stride, W / stride), not negative."""
        return torch.relu(self.body(features) + self.shortcut(features))


class BasicBlock(Residual):
    """Two 3x3 convolutions. Source: He et al., Deep Residual Learning for Image Recognition, 2015 (figure 5, left)."""

    expansion = 1

    def __init__(self, channels_in: int, width: int, stride: int, attention: str) -> None:
        """Build the block, which gives `width` channels."""
        body = [
            convolution(channels_in, width, 3, stride),
            convolution(width, width, activation=None, starts_at_zero=True),
        ]
        super().__init__(body, (channels_in, width), stride, attention)


class Bottleneck(Residual):
    """A 3x3 convolution between two 1x1 ones, which narrow and widen.

    The 3x3 has the stride (the paper's first 1x1 would skip three of four positions), as in Goyal et al., 2017.

    Source: He et al., Deep Residual Learning for Image Recognition, 2015 (figure 5, right).
    """

    expansion = 4

    def __init__(self, channels_in: int, width: int, stride: int, attention: str) -> None:
        """Build the block, which gives 4 * `width` channels."""
        channels_out = self.expansion * width
        body = [
            convolution(channels_in, width, 1),
            convolution(width, width, 3, stride),
            convolution(width, channels_out, 1, activation=None, starts_at_zero=True),
        ]
        super().__init__(body, (channels_in, channels_out), stride, attention)


class ResNet(Backbone):
    """Four stages of residual blocks, the last one averaged.

    The first convolution is the paper's 7x7 where it strides (see `early_strides`), and 3x3 on small images, as in
    the paper's own networks for CIFAR-10; the max-pooling is there where it strides.

    Sources: He et al., 2015; the place of the attention: Hu et al., 2018 (figure 3), and Woo et al., 2018 (figure 3).
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, int, int, int],
        *,
        channels: int,
        input_px: int,
        attention: str,
        width: float,
    ) -> None:
        """Build stages of so many blocks of one kind each. For the rest see `build_backbone`."""
        super().__init__()
        first_stride, second_stride = early_strides(input_px)
        channels_in = scale(WIDTHS[0], width)
        self.stem = convolution(channels, channels_in, 7 if first_stride == 2 else 3, first_stride)
        if second_stride == 2:
            self.stem.append(nn.MaxPool2d(3, 2, padding=1))
        self.stages = nn.Sequential()
        self.stage_channels: list[int] = []
        for stage, (widths, count) in enumerate(zip(WIDTHS, blocks, strict=True)):
            inner = scale(widths, width)
            layers = nn.Sequential()
            for index in range(count):
                layers.append(block(channels_in, inner, 2 if stage and not index else 1, attention))
                channels_in = block.expansion * inner
            self.stages.append(layers)
            self.stage_channels.append(channels_in)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.features = channels_in

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """See `Backbone.forward`."""
        pooled: torch.Tensor = self.pool(self.stages(self.stem(faces)))
        return pooled.flatten(1)


class MultiscaleResNet(ResNet):
    """A ResNet whose vector joins what its last three stages found, in thirds, the finest first.

    Each stage is projected to the same number of channels (1x1 convolution, batch norm, ReLU) and averaged. The ReLU
    makes the average say how much of a pattern there is, where a linear projection would only mix the stage's averages.
    Not a feature pyramid (Lin et al., 2017): it carries coarse features down to say where they are, which the average
    would forget at once.
    """

    PROJECTED: Final = 512
    SCALES: Final = 3

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, int, int, int],
        *,
        channels: int,
        input_px: int,
        attention: str,
        width: float,
    ) -> None:
        """Build a `ResNet` and the projections."""
        super().__init__(block, blocks, channels=channels, input_px=input_px, attention=attention, width=width)
        projected = scale(self.PROJECTED, width)
        self.projections = nn.ModuleList(
            convolution(channels_in, projected, 1) for channels_in in self.stage_channels[-self.SCALES :]
        )
        self.features = self.SCALES * projected

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """See `Backbone.forward`."""
        maps = [self.stem(faces)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        projected = zip(self.projections, maps[-self.SCALES :], strict=True)
        pooled = [self.pool(project(features)) for project, features in projected]
        return torch.cat(pooled, dim=1).flatten(1)
