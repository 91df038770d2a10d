"""A branch that looks at the eyes and the mouth by themselves, so that a covered part spoils no more than its share.

Any backbone gets it by `with_local_regions`.
"""

import warnings
from typing import Final, NamedTuple

import torch
from torch import nn

from fer_contract import FACE_SIZE_PX
from fer_training.backbones.backbone import Backbone, convolution


class Region(NamedTuple):
    """A rectangle of the face, in pixels of the 48 x 48 frame, x to the right, y down; right and bottom exclusive."""

    left: int
    top: int
    right: int
    bottom: int


REGIONS: Final = {
    "left_eye": Region(3, 6, 27, 30),
    "right_eye": Region(20, 6, 44, 30),
    "mouth": Region(4, 24, 44, 48),
}
"""Left and right as the picture shows them.

FER2013 frames the eyes at (15.2, 17.9) and (32.2, 18.3) and the corners of the mouth at (16.5, 36.1) and (30.3, 36.5),
each with a standard deviation of 3 to 5 px: the regions hold them within two of the larger and a margin.
"""


class LocalRegions(nn.Module):
    """A small network and a gate for each region.

    The networks share no weights: an eye and a mouth have different patterns, and three small networks cost little.
    A gate is one number, 0..1, from the region's own features, so that a region which shows a hand or a pair of
    sunglasses can withdraw. Source: Li et al., Occlusion Aware Facial Expression Recognition Using CNN With Attention
    Mechanism, 2018 (pACNN).
    """

    def __init__(self, channels: int, features: int = 64) -> None:
        """Build the networks."""
        super().__init__()
        self.features = features * len(REGIONS)
        self.networks = nn.ModuleDict({name: _region_network(channels, features) for name in REGIONS})
        self.gates = nn.ModuleDict({name: _gate(features) for name in REGIONS})

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Describe the regions of each face.

        Args:
            faces: float32, (N, channels, H, W), normalised, framed as FER2013's.

        Returns:
            float32, (N, regions * features), in the order of `REGIONS`.
        """
        parts = []
        for (name, network), gate in zip(self.networks.items(), self.gates.values(), strict=True):
            described = network(crop(faces, REGIONS[name])).flatten(1)  # (N, features)
            parts.append(described * torch.sigmoid(gate(described)))
        return torch.cat(parts, dim=1)


class BackboneWithRegions(Backbone):
    """A backbone's vector, followed by that of the regions."""

    def __init__(self, backbone: Backbone, regions: LocalRegions) -> None:
        """Join the parts; see `with_local_regions`."""
        super().__init__()
        self.backbone = backbone
        self.regions = regions
        self.features = backbone.features + regions.features

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """See `Backbone.forward`."""
        return torch.cat([self.backbone(faces), self.regions(faces)], dim=1)


def with_local_regions(backbone: Backbone, channels: int, features: int = 64) -> Backbone:
    """Put the branch of the regions beside a backbone."""
    return BackboneWithRegions(backbone, LocalRegions(channels, features))


def crop(faces: torch.Tensor, region: Region) -> torch.Tensor:
    """Cut the same part out of every face, whatever the size of the image. The export keeps its edges as constants.

    Args:
        faces: (N, channels, H, W).
        region: The rectangle in pixels of 48, scaled to H and W, rounded down.
    """
    height, width = _size_px(faces)
    rows = slice(region.top * height // FACE_SIZE_PX, region.bottom * height // FACE_SIZE_PX)
    columns = slice(region.left * width // FACE_SIZE_PX, region.right * width // FACE_SIZE_PX)
    return faces[:, :, rows, columns]


def _size_px(faces: torch.Tensor) -> tuple[int, int]:
    """Return height and width as numbers. The export would make tensors of them, and nodes of the arithmetic."""
    if not torch.onnx.is_in_onnx_export():
        return faces.shape[2], faces.shape[3]
    with warnings.catch_warnings():
        # It warns that the size becomes a constant, which is what a file with a fixed input wants.
        warnings.filterwarnings("ignore", message="Converting a tensor to a Python integer")
        return int(faces.shape[2]), int(faces.shape[3])


def _region_network(channels: int, features: int) -> nn.Sequential:
    """Build three convolutions: an eye of 24 x 24 ends in 6 x 6, averaged to (N, features, 1, 1)."""
    return nn.Sequential(
        convolution(channels, features // 2),
        convolution(features // 2, features, stride=2),
        convolution(features, features, stride=2),
        nn.AdaptiveAvgPool2d(1),
    )


def _gate(features: int) -> nn.Linear:
    """Build the layer of one logit, which starts at 0, so that every region starts with half its weight."""
    gate = nn.Linear(features, 1)
    nn.init.zeros_(gate.weight)
    nn.init.zeros_(gate.bias)
    return gate
