"""The shipped network: a plain stack of 3x3 convolutions that is trained as a sum of branches.

Each convolution is trained as the sum of a 3x3, a 1x1 and, where the shape stays, an identity branch. The branches are
added up as kernels, before the image is touched, so training costs little more than the plain stack does, and what is
exported is the plain stack: convolution and ReLU, nothing a runtime could trip over.

Sources: Ding et al., RepVGG, 2021 (the branches); Hu et al., Online Convolutional Re-parameterization, 2022 (adding
them up during training, with a learned scale in each branch in place of its batch norm).
"""

import torch
from torch import nn
from torch.nn import functional

from fer_training.backbones.attention import build_attention
from fer_training.backbones.backbone import Backbone


class RepConvNet(Backbone):
    """A stem that halves the resolution, then stages of convolutions. Every stage but the first halves it again."""

    def __init__(
        self,
        *,
        channels: int,
        attention: str,
        stem_channels: int,
        stages: tuple[tuple[int, ...], ...],
        branches: bool = True,
        **_: object,
    ) -> None:
        """Draw its weights from PyTorch's global generator.

        Args:
            channels: Channels of the faces.
            attention: The module at the end of each of the last two stages; see `attention.build_attention`.
            stem_channels: Channels after the first convolution.
            stages: Channels of each convolution of each stage.
            branches: Whether convolutions are trained as sums of branches, or as they are.
            _: `input_px` and `width`, which change nothing here: the stages are given in full.
        """
        super().__init__()
        self.features = stages[-1][-1]
        layers: list[nn.Module] = [RepConv(channels, stem_channels, stride=2, branches=False)]
        width = stem_channels
        for number, stage in enumerate(stages):
            for position, wider in enumerate(stage):
                layers.append(RepConv(width, wider, stride=2 if number and not position else 1, branches=branches))
                width = wider
            if number >= len(stages) - 2:
                layers.append(build_attention(attention, width))
        self.layers = nn.Sequential(*layers)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Map float32, (N, channels, H, W) -> (N, features), not negative."""
        return self.layers(faces).mean((2, 3))  # type: ignore[no-any-return]


class RepConv(nn.Module):
    """A 3x3 convolution, batch norm and ReLU, with branches in training."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int = 1, branches: bool = True) -> None:
        """Draw its weights from PyTorch's global generator."""
        super().__init__()
        self.stride = stride
        self.kernel_3x3 = nn.Parameter(torch.empty(channels_out, channels_in, 3, 3))
        nn.init.kaiming_uniform_(self.kernel_3x3, a=5**0.5)
        self.branches = branches
        if branches:
            self.kernel_1x1 = nn.Parameter(torch.empty(channels_out, channels_in, 1, 1))
            nn.init.kaiming_uniform_(self.kernel_1x1, a=5**0.5)
            self.scale_3x3 = nn.Parameter(torch.ones(channels_out, 1, 1, 1))
            self.scale_1x1 = nn.Parameter(torch.full((channels_out, 1, 1, 1), 0.5))
        self.has_identity = branches and stride == 1 and channels_in == channels_out
        if self.has_identity:
            self.scale_identity = nn.Parameter(torch.ones(channels_out, 1, 1, 1))
            identity = torch.eye(channels_out).view(channels_out, channels_in, 1, 1)
            self.register_buffer("identity", identity, persistent=False)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map float32, (N, C_in, H, W) -> (N, C_out, H / stride, W / stride), not negative."""
        return functional.relu(self.norm(functional.conv2d(features, self.kernel(), None, self.stride, padding=1)))

    def kernel(self) -> torch.Tensor:
        """Return all branches as one kernel: float32, (C_out, C_in, 3, 3)."""
        if not self.branches:
            return self.kernel_3x3
        centre = self.scale_1x1 * self.kernel_1x1
        if self.has_identity:
            centre = centre + self.scale_identity * self.get_buffer("identity")
        return self.scale_3x3 * self.kernel_3x3 + functional.pad(centre, (1, 1, 1, 1))

    @torch.no_grad()
    def to_plain(self) -> nn.Sequential:
        """Fold branches and batch norm into a convolution with a bias, and a ReLU, that compute the same."""
        mean, variance = self.norm.running_mean, self.norm.running_var
        if mean is None or variance is None:
            raise TypeError("The batch norm keeps no statistics.")
        factor = self.norm.weight / torch.sqrt(variance + self.norm.eps)
        kernel = self.kernel() * factor.view(-1, 1, 1, 1)
        plain = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, self.stride, padding=1)
        plain.weight.copy_(kernel)
        plain.bias.copy_(self.norm.bias - mean * factor)  # type: ignore[union-attr]
        return nn.Sequential(plain, nn.ReLU(inplace=True))


def reparameterise(network: nn.Module) -> None:
    """Replace every `RepConv` inside the network by its plain form, in place. What it computes stays the same."""
    for name, child in network.named_children():
        if isinstance(child, RepConv):
            setattr(network, name, child.to_plain())
        else:
            reparameterise(child)
