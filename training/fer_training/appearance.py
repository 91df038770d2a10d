"""Light and sharpness of a crop, brought to what the network knows. A part of `network.Classifier` and its ONNX file.

A crop that is darker, brighter or of less contrast than most gets the usual mean and deviation. They are taken over the
face itself, an ellipse in the middle, so that white behind a dark face plays no part. Then a crop that is noisy at this
contrast is smoothed, and one that is less sharp than faces of 48 px are is sharpened. Nothing is switched: each step
grows from nothing, so nearly equal crops give nearly equal ones. A crop without contrast holds no face that could be
made visible; the less there is, the less the scores may say.

All sums are over pixels near 0 and are taken in float32, whatever the precision of the network behind them. There is no
convolution in it, which INT8 would quantise.

Source of the noise estimate: Immerkær, Fast Noise Variance Estimation, 1996.
"""

import math
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fer_contract import FACE_SIZE_PX

PIXEL_CENTRE: Final = 128.0
PIXEL_SPREAD: Final = 64.0
"""Near FER2013's own mean and standard deviation (129 and 65), and exact in every floating point format."""

MEAN: Final = 141.0
DEVIATION: Final = 43.0
"""Mean and deviation of the face's pixels in gray levels: FER2013's own, so that its crops change very little."""
TOO_DARK: Final = (95.0, 60.0)
TOO_BRIGHT: Final = (180.0, 205.0)
TOO_FLAT: Final = (36.0, 22.0)
"""Mean or deviation, in gray levels, from which a crop's light is changed, and from which it is changed fully. Of
PublicTest's crops 2, 1 and 2 % lie beyond the second ones. Changing all of them fully cost 0.7 points (RESULTS.md)."""
DEVIATION_FLOOR: Final = 2.0
"""Deviation in gray levels below which there is a sensor's noise and rounding rather than a face."""
WINDOW_PX: Final = (20.0, 15.0)
"""Half axes of the ellipse, down and across, in px of 48."""
WINDOW_EDGE: Final = 0.3
"""Width of its soft edge, as a part of the axes."""

NOISE_SMOOTHED: Final = (6.0, 16.0)
"""Noise, in gray levels after the light, from which a crop is smoothed, and from which it is smoothed fully. Of
PublicTest's crops 1 % have more than 9; noise of 20 gray levels makes 11 to 31 in 98 % of them."""
NOISE_SHARPENED: Final = (2.0, 0.7)
"""Noise below which a crop is sharpened, and below which it is sharpened fully. Of PublicTest's crops 1 % have less
than 2; after a blur of 1.2 px 99 % have less than 1, of faces 24 px tall less than 1.5."""
SHARPENED_BY: Final = 2.5
"""Factor on what a 3x3 mean takes away, which is added."""

_NOISE_SCALE: Final = 9 * math.sqrt(math.pi / 2) / 6 * PIXEL_SPREAD
"""From the mean absolute value of a crop less its means of three, across and down, to Immerkær's estimate: his mask is
nine times that difference, and white noise of deviation 1 makes a mean absolute value of 6 sqrt(2 / pi) with it."""


class AppearanceNormaliser(nn.Module):
    """Evens out light, then sharpness. It has no weights."""

    def __init__(self) -> None:
        """Draw the ellipse for whole faces."""
        super().__init__()
        self.register_buffer("window", draw_window(FACE_SIZE_PX), persistent=False)

    def forward(self, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Even out each crop.

        Args:
            views: (N, 1, H, H), normalised as `network.normalise` does it.

        Returns:
            float32, (N, 1, H, H), normalised in the same way, from -2 (black) to 1.98 (white); and what the scores are
            to be multiplied with, float32, (N, 1), 0 (a plain gray) to nearly 1 (0.998 for FER2013's average contrast).
        """
        window: torch.Tensor = self.get_buffer("window")
        # While a graph is traced for an export, sizes are tensors; what is exported takes whole faces.
        if not torch.onnx.is_in_onnx_export() and views.shape[2] != FACE_SIZE_PX:
            window = draw_window(views.shape[2]).to(views.device)
        with torch.autocast(views.device.type, enabled=False):
            lit, evidence = _even_light(views.float(), window)
            return _even_sharpness(lit, window), evidence


@lru_cache(maxsize=8)
def draw_window(side_px: int) -> torch.Tensor:
    """Return the ellipse's weights, which sum to 1: float32, (1, 1, side_px, side_px)."""
    place = (np.arange(side_px) + 0.5) * FACE_SIZE_PX / side_px - FACE_SIZE_PX / 2
    distance = np.hypot(place[:, np.newaxis] / WINDOW_PX[0], place / WINDOW_PX[1])
    weights = ((1 + WINDOW_EDGE / 2 - distance) / WINDOW_EDGE).clip(0, 1)
    return torch.tensor(weights / weights.sum(), dtype=torch.float32).view(1, 1, side_px, side_px)


def _even_light(views: torch.Tensor, window: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean = _mean(views, window)
    centred = views - mean
    variance = _mean(centred.square(), window)
    whole = variance + (DEVIATION_FLOOR / PIXEL_SPREAD) ** 2
    deviation, gray = PIXEL_SPREAD * whole.sqrt(), PIXEL_SPREAD * mean + PIXEL_CENTRE
    usual = centred * (DEVIATION / deviation) + (MEAN - PIXEL_CENTRE) / PIXEL_SPREAD
    unusual = torch.maximum(_ramp(deviation, *TOO_FLAT), _ramp(gray, *TOO_DARK) + _ramp(gray, *TOO_BRIGHT))
    return _clip(views + unusual * (usual - views)), (variance / whole).flatten(1)


def _even_sharpness(views: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
    across = _mean_of_three(views, (1, 3))
    blurred = _mean_of_three(across, (3, 1))
    rest = views - across
    noise = _NOISE_SCALE * _mean((rest - _mean_of_three(rest, (3, 1))).abs(), window)
    amount = SHARPENED_BY * _ramp(noise, *NOISE_SHARPENED) - _ramp(noise, *NOISE_SMOOTHED)
    return _clip(views + amount * (views - blurred))


def _mean(values: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
    """Return the weighted mean over the ellipse: (N, 1, H, H) -> (N, 1, 1, 1)."""
    return (values * window).sum((2, 3), keepdim=True)


def _mean_of_three(values: torch.Tensor, kernel: tuple[int, int]) -> torch.Tensor:
    """Average each pixel and its two neighbours in a row or a column; at the edge, itself and the one neighbour."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    return functional.avg_pool2d(values, kernel, stride=1, padding=padding, count_include_pad=False)


def _ramp(values: torch.Tensor, nothing: float, full: float) -> torch.Tensor:
    """Map values to 0..1: 0 at `nothing`, 1 at `full`, evenly in between."""
    return ((values - nothing) / (full - nothing)).clamp(0, 1)


def _clip(views: torch.Tensor) -> torch.Tensor:
    """Keep pixels between black and white."""
    return views.clamp(-PIXEL_CENTRE / PIXEL_SPREAD, (255 - PIXEL_CENTRE) / PIXEL_SPREAD)
