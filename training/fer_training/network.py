"""The classifier: input normalisation, a backbone, and a linear head.

`training_run` builds it from a recipe, `prediction` from a checkpoint.
"""

import torch
from torch import nn
from torch.nn import functional

from fer_contract import FACE_SIZE_PX
from fer_training.appearance import PIXEL_CENTRE, PIXEL_SPREAD, AppearanceNormaliser
from fer_training.backbones import Backbone, build_backbone, with_local_regions
from fer_training.recipe import NetworkRecipe


def normalise(faces: torch.Tensor) -> torch.Tensor:
    """Normalise pixels for the network.

    Args:
        faces: uint8, (N, 1, H, W), gray, 0..255.

    Returns:
        float32, (N, 1, H, W), -2 (black) to 2 (white), mid-gray is 0.
    """
    return (faces.float() - PIXEL_CENTRE) / PIXEL_SPREAD


def equalise(faces: torch.Tensor) -> torch.Tensor:
    """Equalise histograms: each pixel becomes the part of its image's pixels that are not brighter.

    Args:
        faces: uint8, (N, 1, H, W), gray, 0..255.

    Returns:
        uint8, the same shape; the brightest pixel of each image becomes 255.
    """
    pixels = faces.flatten(1).long()  # (N, H * W)
    histogram = torch.zeros((pixels.shape[0], 256), device=faces.device)  # Not len(): an export would freeze it.
    histogram = histogram.scatter_add(1, pixels, torch.ones_like(pixels, dtype=torch.float32))
    levels = (histogram.cumsum(1) * 255 / pixels.shape[1]).round()
    return levels.gather(1, pixels).view(faces.shape).to(torch.uint8)


class Classifier(nn.Module):
    """A backbone and a last layer; in training also a second last layer, which predicts FER+ votes."""

    def __init__(self, recipe: NetworkRecipe, classes: int, votes: int = 0) -> None:
        """Draw its weights from PyTorch's global generator."""
        super().__init__()
        self.input_px = recipe.input_px
        self.channels = recipe.channels
        self.equalise = recipe.equalise
        self.appearance = AppearanceNormaliser() if recipe.normalise_appearance else None
        self.backbone = _build_backbone(recipe)
        self.dropout = nn.Dropout(recipe.dropout)
        self.head = nn.Linear(self.backbone.features, classes)
        self.votes_head = nn.Linear(self.backbone.features, votes) if votes else None

    def preprocess(self, faces: torch.Tensor) -> torch.Tensor:
        """Equalise, where the recipe says so, and normalise: uint8, (N, 1, 48, 48) -> float32, the same shape."""
        return normalise(equalise(faces) if self.equalise else faces)

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Score each face.

        Args:
            views: float32, (N, 1, H, W), normalised; a whole face is 48 px, a crop of one is smaller.

        Returns:
            Logits, float32, (N, classes).
        """
        return self._score(*self._describe(views))

    def score_with_votes(self, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return what `forward` gives, and logits of the votes, float32, (N, votes), if there is a head for them."""
        features, evidence = self._describe(views)
        return self._score(features, evidence), None if self.votes_head is None else self.votes_head(features)

    def _describe(self, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute what the last layers take.

        Returns:
            Features of each face, float32, (N, features); and where the appearance is normalised, what the scores are
            to be multiplied with, (N, 1).
        """
        evidence = None
        if self.appearance is not None:  # Here, behind augmentation, so that training evens out what serving will.
            views, evidence = self.appearance(views)
        if self.input_px != FACE_SIZE_PX:
            views = functional.interpolate(
                views, scale_factor=self.input_px / FACE_SIZE_PX, mode="bilinear", align_corners=False
            )
        if self.channels > 1:
            views = torch.cat([views] * self.channels, dim=1)
        return self.dropout(self.backbone(views)), evidence

    def _score(self, features: torch.Tensor, evidence: torch.Tensor | None) -> torch.Tensor:
        logits: torch.Tensor = self.head(features)
        return logits if evidence is None else logits * evidence


def _build_backbone(recipe: NetworkRecipe) -> Backbone:
    backbone = build_backbone(
        recipe.backbone,
        channels=recipe.channels,
        input_px=recipe.input_px,
        attention=recipe.attention,
        width=recipe.width,
        shape=None if recipe.repconv is None else vars(recipe.repconv),
    )
    return with_local_regions(backbone, recipe.channels) if recipe.local_regions else backbone
