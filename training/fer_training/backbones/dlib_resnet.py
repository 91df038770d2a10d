"""dlib's ResNet for face recognition: plain 3x3 blocks whose shortcuts have no weights.

Its published weights, trained to tell people apart, are a good start: see `dlib_weights`. Everything is as dlib has it
where weights cannot adapt: blocks that halve the resolution look to the right and below, and their shortcut is an
average of 2x2 positions whose new channels are zero.
"""

from itertools import pairwise
from typing import Final

import torch
from torch import nn
from torch.nn import functional

from fer_training.backbones.attention import build_attention
from fer_training.backbones.backbone import Backbone, convolution, early_strides, scale

WIDTHS: Final = (32, 64, 128, 256, 256)
"""Channels of each stage. Every stage but the first halves the resolution."""


class DlibBlock(nn.Module):
    """Two 3x3 convolutions around which the input is carried, and a ReLU on the sum."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, attention: str) -> None:
        """Build the block. It gives as many channels as it takes, or more; the attention comes last before the sum."""
        super().__init__()
        self.stride = stride
        # Zeros on all sides would move the positions by one against the shortcut's.
        right_and_below = [nn.ZeroPad2d((0, 1, 0, 1))] if stride == 2 else []
        self.body = nn.Sequential(
            *right_and_below,
            convolution(channels_in, channels_out, 3, stride, padding=2 - stride),
            convolution(channels_out, channels_out, activation=None),
            build_attention(attention, channels_out),
        )
        self.new_channels = channels_out - channels_in

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map float32, (N, C_in, H, W) -> (N, C_out, H / stride, W / stride), sizes rounded down, not negative."""
        shortcut = features if self.stride == 1 else functional.avg_pool2d(features, 2)
        if self.new_channels:
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))
        return torch.relu(self.body(features) + shortcut)


class DlibResNet(Backbone):
    """A first convolution, max-pooling, and stages of blocks, the last one averaged.

    dlib's first convolution is a 7x7 one that halves the resolution. Below 96 px it is a 5x5 one that keeps it: with
    the weights of `dlib_weights`, what the 7x7 one would give for the image enlarged to twice its side.

    Source: King, dlib 19 (`dnn_face_recognition_ex.cpp`), after He et al., Deep Residual Learning for Image
    Recognition, 2015.
    """

    def __init__(self, blocks: tuple[int, ...], *, channels: int, input_px: int, attention: str, width: float) -> None:
        """Build stages of so many blocks each, up to dlib's (3, 4, 3, 3, 1). For the rest see `build_backbone`."""
        super().__init__()
        stride = early_strides(input_px)[0]
        widths = [scale(channels_out, width) for channels_out in WIDTHS[: len(blocks)]]
        self.stem = convolution(channels, widths[0], 7 if stride == 2 else 5, stride)
        self.stem.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        self.stages = nn.Sequential()
        for stage, (channels_in, channels_out) in enumerate(pairwise([widths[0], *widths])):
            first = DlibBlock(channels_in, channels_out, 2 if stage else 1, attention)
            others = [DlibBlock(channels_out, channels_out, 1, attention) for _ in range(blocks[stage] - 1)]
            self.stages.append(nn.Sequential(first, *others))
        self.features = widths[-1]

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """See `Backbone.forward`."""
        return self.stages(self.stem(faces)).mean((2, 3))  # type: ignore[no-any-return]

    def convolutions(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """List each convolution with its batch norm, from the first to the last, without those of an attention."""
        pairs = [(self.stem[0], self.stem[1])]
        for block in self.modules():
            if isinstance(block, DlibBlock):
                pairs += [(layer[0], layer[1]) for layer in block.body if isinstance(layer, nn.Sequential)]
        return pairs  # type: ignore[return-value]
