"""Random changes to a batch of training faces, drawn and applied on the batch's own device. Used by `training_run`.

All geometric changes are one resampling, so that a face is interpolated once. Random numbers come from PyTorch's
global generator, whose state a checkpoint keeps.
"""

import math

import torch
from torch.nn import functional

from fer_contract import FACE_SIZE_PX
from fer_training.appearance import PIXEL_CENTRE, PIXEL_SPREAD
from fer_training.recipe import AugmentationRecipe


def augment(faces: torch.Tensor, recipe: AugmentationRecipe, view_px: int) -> torch.Tensor:
    """Flips, rotates, zooms, shifts and crops each face, changes its light, adds noise, and hides a part of it.

    Args:
        faces: float32, (N, 1, 48, 48), normalised as `network.normalise` does it.
        recipe: how strong each change may be.
        view_px: side of the crop, at most 48.

    Returns:
        float32, (N, 1, view_px, view_px), normalised in the same way.
    """
    # Pixels that a shift brings in from outside are mirrored ones: less alien to a face than black.
    grid = functional.affine_grid(
        _draw_transforms(len(faces), recipe, view_px, faces.device), [len(faces), 1, view_px, view_px], False
    )  # (N, view_px, view_px, 2)
    views = functional.grid_sample(faces, grid, padding_mode="reflection", align_corners=False)
    shape = (len(faces), 1, 1, 1)
    views = views * (1 + recipe.contrast * _draw_symmetric(shape, faces.device))
    brightness = 1 + recipe.brightness * _draw_symmetric(shape, faces.device)
    views = views * brightness + (brightness - 1) * PIXEL_CENTRE / PIXEL_SPREAD  # A factor on pixels from 0 up.
    if recipe.noise:
        deviation = recipe.noise / PIXEL_SPREAD * torch.rand(shape, device=faces.device)
        views = views + deviation * torch.randn_like(views)
    return views.masked_fill(_draw_rectangles(len(faces), recipe, view_px, faces.device), 0.0)


class Mixup:
    """Pairs the images of a batch and draws how much of its partner each gets.

    Source: Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018; here with a weight per image, not per batch.
    """

    def __init__(self, count: int, alpha: float, device: torch.device) -> None:
        """Draws partners and weights for a batch of `count` images, with weights from Beta(alpha, alpha)."""
        self._partners = torch.randperm(count, device=device)
        concentration = torch.full((count,), alpha, device=device)
        self._weights = torch.distributions.Beta(concentration, concentration, validate_args=False).sample()

    def mix(self, values: torch.Tensor) -> torch.Tensor:
        """Mixes views, targets or whatever else belongs to the images: float32, (N, ...) -> the same shape."""
        weights = self._weights.view(-1, *[1] * (values.ndim - 1))
        return weights * values + (1 - weights) * values[self._partners]


def _draw_transforms(count: int, recipe: AugmentationRecipe, view_px: int, device: torch.device) -> torch.Tensor:
    """Draws the map from each view's coordinates to its face's, both -1..1: float32, (N, 2, 3)."""
    shape = (count,)
    angle = math.radians(recipe.rotation_deg) * _draw_symmetric(shape, device)
    zoom = view_px / FACE_SIZE_PX * (1 + recipe.scale * _draw_symmetric(shape, device))
    mirror = 1 - 2 * (torch.rand(shape, device=device) < recipe.flip_probability).float()
    # The crop may lie anywhere in the face, and the shift comes on top. 48 px are 2 units.
    reach = 1 - view_px / FACE_SIZE_PX + recipe.shift_px * 2 / FACE_SIZE_PX
    cosine, sine = zoom * torch.cos(angle), zoom * torch.sin(angle)
    x_row = torch.stack([mirror * cosine, -sine, reach * _draw_symmetric(shape, device)], dim=1)
    y_row = torch.stack([mirror * sine, cosine, reach * _draw_symmetric(shape, device)], dim=1)
    return torch.stack([x_row, y_row], dim=1)


def _draw_rectangles(count: int, recipe: AugmentationRecipe, view_px: int, device: torch.device) -> torch.Tensor:
    """Draws what to hide: bool, (N, 1, view_px, view_px), false everywhere in a face that stays whole."""
    hidden = torch.rand((count, 1, 1, 1), device=device) < recipe.erasing_probability
    position = (torch.arange(view_px, device=device) + 0.5) / view_px
    rows = _draw_spans(count, recipe.erasing_side, position, device).view(count, 1, view_px, 1)
    columns = _draw_spans(count, recipe.erasing_side, position, device).view(count, 1, 1, view_px)
    return hidden & rows & columns


def _draw_spans(count: int, longest: float, position: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Draws intervals from a third of the longest up, centred anywhere in 0..1: bool, (N, view_px)."""
    length = longest * (1 + 2 * torch.rand((count, 1), device=device)) / 3
    centre = torch.rand((count, 1), device=device)
    return (position - centre).abs() < length / 2


def _draw_symmetric(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Draws uniformly from -1..1."""
    return 2 * torch.rand(shape, device=device) - 1
