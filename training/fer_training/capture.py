"""What cameras, distance and files do to a face, at random, to a part of a batch. Used by `training_run`.

Blur, then the small side, are what lens, distance and the enlarging do; light and noise the sensor; the rounding to
whole steps and JPEG the file. All are products with small matrices, or one draw for each pixel: next to nothing beside
a network. Random numbers come from PyTorch's global generator.
"""

import math
from functools import lru_cache
from typing import Final

import torch
from torch.nn import functional

from fer_training.appearance import PIXEL_CENTRE, PIXEL_SPREAD
from fer_training.recipe import CaptureRecipe

CHANCE: Final = 1 / 3
"""Of each kind of change, in an image that is to be changed: one or two of the five as a rule."""
BLOCK: Final = 8
"""Side of JPEG's blocks."""
BEST_QUALITY: Final = 100
"""Of a JPEG; as a recipe's lowest one it means that there is none."""
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
    """Changes the first views as the recipe says; a batch is in random order already.

    Args:
        views: float32, (N, 1, S, S), normalised as `network.normalise` does it.
        recipe: how many, and how strong each change may be.

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
    """Blurs some images, each by a Gaussian of its own, whose part outside of the image is left out."""
    deviation = _choose(largest_px * _draw(pixels), 0.0).clamp_min(0.05)  # which leaves an image as it is
    places = torch.arange(pixels.shape[2], device=pixels.device)
    weights = torch.exp(-0.5 * ((places.view(-1, 1) - places) / deviation).square())  # (n, S, S)
    return _transform(pixels, weights / weights.sum(dim=2, keepdim=True))


def _enlarge_small(pixels: torch.Tensor, smallest_px: int) -> torch.Tensor:
    """Makes some images smaller, averaging, and enlarges them bilinearly to what they were."""
    side = pixels.shape[2]
    smallest = min(smallest_px, side)
    px = _choose(smallest + torch.floor((side - smallest) * _draw(pixels)), float(side)).flatten().long()
    return _transform(pixels, _list_enlargements(side, smallest, pixels.device)[px - smallest])


# What is kept stays on its device: a recorded step must not bring anything there.
@lru_cache(maxsize=8)
def _list_enlargements(side: int, smallest: int, device: torch.device) -> torch.Tensor:
    """What each reduced side, from the smallest to the whole, makes of a row: float32, (side - smallest + 1, S, S)."""
    rows = torch.eye(side).unsqueeze(0)
    matrices = [
        functional.interpolate(functional.adaptive_avg_pool1d(rows, px), side, mode="linear")[0].T
        for px in range(smallest, side + 1)
    ]
    return torch.stack(matrices).to(device)


def compress(pixels: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """Gives what a JPEG of each image shows, in blocks from its first corner.

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
    """`LUMINANCE`, (8, 8), and the orthonormal cosine transform of a row of blocks, (8 blocks, 8 blocks), float32."""
    places = torch.arange(BLOCK)
    waves = torch.cos(math.pi / BLOCK * (places + 0.5) * places.view(-1, 1)) * math.sqrt(2 / BLOCK)
    waves[0] /= math.sqrt(2)
    return torch.tensor(LUMINANCE, dtype=torch.float32, device=device), torch.kron(torch.eye(blocks), waves).to(device)


def _transform(pixels: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Does to columns and rows what the matrix, or each image's own, does to a column: float32, (n, S, S)."""
    return matrix @ pixels @ matrix.mT


def _to_steps(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.round().clamp(0, 255)


def _choose(values: torch.Tensor, otherwise: float) -> torch.Tensor:
    """The values for some images, and what changes nothing for the others."""
    return torch.where(torch.rand_like(values) < CHANCE, values, otherwise)


def _draw(pixels: torch.Tensor) -> torch.Tensor:
    """Draws one number for each image, uniformly from 0..1: float32, (n, 1, 1)."""
    return torch.rand((len(pixels), 1, 1), device=pixels.device)
