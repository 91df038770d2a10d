"""Random changes to a batch of training faces, drawn and applied on the batch's own device. Used by `training_run`.

`augment` makes other faces of a face. Its geometric changes are one resampling, so that a face is interpolated once.
`degrade` does to a part of the batch what cameras, distance and files do: a lens blurs, a small face is enlarged, a
sensor adds light and noise, a file rounds to whole steps and compresses. All are products with small matrices, or one
draw for each pixel, and cost next to nothing beside a network.

Random numbers come from PyTorch's global generator, whose state a checkpoint keeps.
"""

import math
from functools import lru_cache
from typing import Final

import torch
from torch.nn import functional

from fer_contract import FACE_SIZE_PX
from fer_training.appearance import PIXEL_CENTRE, PIXEL_SPREAD
from fer_training.recipe import AugmentationRecipe, CaptureRecipe


def augment(faces: torch.Tensor, recipe: AugmentationRecipe, view_px: int) -> torch.Tensor:
    """Flip, rotate, zoom, shift and crop each face, change its light, add noise, and hide a part of it.

    Args:
        faces: float32, (N, 1, 48, 48), normalised as `network.normalise` does it.
        recipe: How strong each change may be.
        view_px: Side of the crop, at most 48.

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
        """Draw partners and weights for a batch of `count` images, with weights from Beta(alpha, alpha)."""
        self._partners = torch.randperm(count, device=device)
        concentration = torch.full((count,), alpha, device=device)
        self._weights = torch.distributions.Beta(concentration, concentration, validate_args=False).sample()

    def mix(self, values: torch.Tensor) -> torch.Tensor:
        """Mix views, targets or whatever else belongs to the images: float32, (N, ...) -> the same shape."""
        weights = self._weights.view(-1, *[1] * (values.ndim - 1))
        return weights * values + (1 - weights) * values[self._partners]


def _draw_transforms(count: int, recipe: AugmentationRecipe, view_px: int, device: torch.device) -> torch.Tensor:
    """Draw the map from each view's coordinates to its face's, both -1..1: float32, (N, 2, 3)."""
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
    """Draw what to hide: bool, (N, 1, view_px, view_px), false everywhere in a face that stays whole."""
    hidden = torch.rand((count, 1, 1, 1), device=device) < recipe.erasing_probability
    position = (torch.arange(view_px, device=device) + 0.5) / view_px
    rows = _draw_spans(count, recipe.erasing_side, position, device).view(count, 1, view_px, 1)
    columns = _draw_spans(count, recipe.erasing_side, position, device).view(count, 1, 1, view_px)
    return hidden & rows & columns


def _draw_spans(count: int, longest: float, position: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Draw intervals from a third of the longest up, centred anywhere in 0..1: bool, (N, view_px)."""
    length = longest * (1 + 2 * torch.rand((count, 1), device=device)) / 3
    centre = torch.rand((count, 1), device=device)
    return (position - centre).abs() < length / 2


def _draw_symmetric(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Draw uniformly from -1..1."""
    return 2 * torch.rand(shape, device=device) - 1


CHANCE: Final = 1 / 3
"""Probability of each kind of change in an image that is to be changed: one or two of the five as a rule."""
BLOCK: Final = 8
"""Side of JPEG's blocks."""
BEST_QUALITY: Final = 100
"""Quality of a JPEG. As a recipe's lowest one it turns JPEG off."""
LUMINANCE: Final = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Steps of the frequencies at quality 50. Source: ITU-T T.81 (JPEG), table K.1."""


def degrade(views: torch.Tensor, recipe: CaptureRecipe) -> torch.Tensor:
    """Change the first views as the recipe says; a batch is in random order already.

    Args:
        views: float32, (N, 1, S, S), normalised as `network.normalise` does it.
        recipe: The part to change, and how strong each change may be.

    Returns:
        float32, the same shape, normalised in the same way; what is changed has whole steps from 0 to 255.
    """
    count = round(recipe.probability * len(views))
    pixels = views[:count, 0] * PIXEL_SPREAD + PIXEL_CENTRE  # (n, S, S)
    seen = _blur(_enlarge_small(pixels, recipe.smallest_px), recipe.blur_px)
    darkest, brightest = math.log(recipe.darkest), math.log(recipe.brightest)
    light = torch.exp(_choose(darkest + (brightest - darkest) * _draw(seen), 0.0))
    noise = _choose(recipe.noise * _draw(seen), 0.0)
    filed = _to_steps(seen * light + noise * torch.randn_like(seen))
    if recipe.jpeg_quality < BEST_QUALITY:
        quality = recipe.jpeg_quality + torch.floor((BEST_QUALITY + 1 - recipe.jpeg_quality) * _draw(filed))
        filed = torch.where(torch.rand_like(quality) < CHANCE, compress(filed, quality), filed)
    return torch.cat([((filed - PIXEL_CENTRE) / PIXEL_SPREAD).unsqueeze(1), views[count:]])


def _blur(pixels: torch.Tensor, largest_px: float) -> torch.Tensor:
    """Blur some images, each by a Gaussian of its own, whose part outside of the image is left out."""
    deviation = _choose(largest_px * _draw(pixels), 0.0).clamp_min(0.05)  # which leaves an image as it is
    places = torch.arange(pixels.shape[2], device=pixels.device)
    weights = torch.exp(-0.5 * ((places.view(-1, 1) - places) / deviation).square())  # (n, S, S)
    return _transform(pixels, weights / weights.sum(dim=2, keepdim=True))


def _enlarge_small(pixels: torch.Tensor, smallest_px: int) -> torch.Tensor:
    """Shrink some images by averaging, and enlarge them bilinearly to what they were."""
    side = pixels.shape[2]
    smallest = min(smallest_px, side)
    px = _choose(smallest + torch.floor((side - smallest) * _draw(pixels)), float(side)).flatten().long()
    return _transform(pixels, _list_enlargements(side, smallest, pixels.device)[px - smallest])


# What is kept stays on its device: a recorded step must not bring anything there.
@lru_cache(maxsize=8)
def _list_enlargements(side: int, smallest: int, device: torch.device) -> torch.Tensor:
    """Return the matrix of each reduced side, from the smallest to the whole: float32, (side - smallest + 1, S, S)."""
    rows = torch.eye(side).unsqueeze(0)
    matrices = [
        functional.interpolate(functional.adaptive_avg_pool1d(rows, px), side, mode="linear")[0].T
        for px in range(smallest, side + 1)
    ]
    return torch.stack(matrices).to(device)


def compress(pixels: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """Compress each image as JPEG does, in blocks from its first corner.

    Args:
        pixels: float32, (N, S, S), gray, 0..255.
        quality: float32, (N, 1, 1), whole numbers from 1 to 100, as libjpeg has them.

    Returns:
        float32, (N, S, S), whole numbers, 0..255.
    """
    side = pixels.shape[2]
    padding = -side % BLOCK
    padded = functional.pad(pixels.unsqueeze(1), (0, padding, 0, padding), mode="replicate")[:, 0]
    percent = torch.where(quality < 50, torch.floor(5000 / quality), 200 - 2 * quality)
    blocks = padded.shape[2] // BLOCK
    table, cosines = _list_jpeg_constants(blocks, pixels.device)
    steps = torch.floor((table * percent + 50) / 100).clamp(1, 255).repeat(1, blocks, blocks)
    frequencies = torch.round(_transform(padded - PIXEL_CENTRE, cosines) / steps) * steps
    return _to_steps(_transform(frequencies, cosines.T)[:, :side, :side] + PIXEL_CENTRE)


@lru_cache(maxsize=8)
def _list_jpeg_constants(blocks: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `LUMINANCE`, (8, 8), and the cosine transform of a row of B blocks, orthonormal, (8 B, 8 B): float32."""
    places = torch.arange(BLOCK)
    waves = torch.cos(math.pi / BLOCK * (places + 0.5) * places.view(-1, 1)) * math.sqrt(2 / BLOCK)
    waves[0] /= math.sqrt(2)
    return torch.tensor(LUMINANCE, dtype=torch.float32, device=device), torch.kron(torch.eye(blocks), waves).to(device)


def _transform(pixels: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Apply one matrix, or each image's own, to columns and rows: float32, (n, S, S)."""
    return matrix @ pixels @ matrix.mT


def _to_steps(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.round().clamp(0, 255)


def _choose(values: torch.Tensor, otherwise: float) -> torch.Tensor:
    """Return the values for some images, chosen at random, and `otherwise` for the others."""
    return torch.where(torch.rand_like(values) < CHANCE, values, otherwise)


def _draw(pixels: torch.Tensor) -> torch.Tensor:
    """Draw one number for each image, uniformly from 0..1: float32, (n, 1, 1)."""
    return torch.rand((len(pixels), 1, 1), device=pixels.device)
