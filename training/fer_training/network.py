"""The classifier network: convolution, batch norm and ReLU in residual blocks, nothing a runtime could trip over.

Built by `train` from a recipe; rebuilt by `evaluate` and `export` from a checkpoint's.
"""

import torch
from torch import nn

from fer_contract import LABELS
from fer_training.recipe import NetworkRecipe

PIXEL_CENTRE = 128.0
PIXEL_SPREAD = 64.0
"""Near FER2013's own mean and standard deviation (129 and 65), and exact in every floating point format."""


def normalise(faces: torch.Tensor) -> torch.Tensor:
    """Pixels as the network wants them.

    Args:
        faces: uint8, (N, 1, H, W), gray, 0..255.

    Returns:
        float32, (N, 1, H, W), -2 (black) to 2 (white), mid-gray is 0.
    """
    return (faces.float() - PIXEL_CENTRE) / PIXEL_SPREAD


class Classifier(nn.Module):
    """A residual network in stages. The first convolution halves the resolution, and so does each stage but the first.

    Residual blocks: He et al., Deep Residual Learning for Image Recognition, 2015 (basic block).
    """

    def __init__(self, recipe: NetworkRecipe) -> None:
        """Draws its weights from PyTorch's global generator."""
        super().__init__()
        self.stem = nn.Sequential(*_convolution(1, recipe.stem_channels, stride=2), nn.ReLU(inplace=True))
        stages: list[nn.Module] = []
        channels = recipe.stem_channels
        for stage, (width, blocks) in enumerate(zip(recipe.widths, recipe.blocks, strict=True)):
            for block in range(blocks):
                stages.append(ResidualBlock(channels, width, stride=2 if stage and not block else 1))
                channels = width
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(recipe.dropout)
        self.head = nn.Linear(channels, len(LABELS))

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Scores each face.

        Args:
            faces: float32, (N, 1, H, W), normalised; any size from 24 px, trained for 48.

        Returns:
            Logits, float32, (N, 7), columns in the order of `fer_contract.LABELS`.
        """
        features = self.pool(self.stages(self.stem(faces))).flatten(1)  # (N, C)
        logits: torch.Tensor = self.head(self.dropout(features))
        return logits


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        """Draws its weights from PyTorch's global generator."""
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(channels_in, channels_out, stride=stride),
            nn.ReLU(inplace=True),
            *_convolution(channels_out, channels_out),
        )
        same = channels_in == channels_out and stride == 1
        self.shortcut = nn.Sequential(*([] if same else _convolution(channels_in, channels_out, 1, stride)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Float32, (N, C_in, H, W) -> (N, C_out, H / stride, W / stride), not negative."""
        return torch.relu(self.body(features) + self.shortcut(features))


def _convolution(channels_in: int, channels_out: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
    """A convolution and its batch norm, which the export folds into one."""
    return [
        nn.Conv2d(channels_in, channels_out, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(channels_out),
    ]
