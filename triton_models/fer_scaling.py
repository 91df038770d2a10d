"""Pictures at another size, quickly. Called by `fer_images`, `fer_search` and `fer_faces`."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

_REDUCTIONS: Final = (8, 4, 2)
"""What libjpeg-turbo decodes at with SIMD instructions. At 3/8 a photo of 12 megapixels takes longer than at 4/8, and
at 5/8 to 7/8 longer than whole."""


def choose_reduction(width: int, height: int, enough_px: int) -> int:
    """Return the largest of 1, 2, 4 and 8 by which a picture can be reduced and keep `enough_px` squared px."""
    return next((factor for factor in _REDUCTIONS if width * height >= (enough_px * factor) ** 2), 1)


def reduce_to(image: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """Average blocks of 2x2, 4x4 or 8x8 px, so that an image that was decoded whole is like one that was not.

    Args:
        image: uint8, (height, width, 3), perhaps of the wanted size already.
        width: Of the result: the image's, divided by the factor, rounded up.
        height: In the same way.

    Returns:
        uint8, (height, width, 3). A block that reaches over the edge repeats the edge.
    """
    factor = max(round(image.shape[1] / width), round(image.shape[0] / height))
    if factor == 1:
        return image
    below, right = factor * height - image.shape[0], factor * width - image.shape[1]
    if below or right:
        image = np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE), np.uint8)
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def scale_to(image: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """Scale a picture; where it shrinks, px are averaged.

    It is halved as often as possible, which OpenCV does fast, and what is left, less than a half, is interpolated: from
    2000x1500 to 320x240 px that takes 0.8 ms where averaging in one step takes 5.7. An odd row or column at the edge is
    left out when halving.

    Args:
        image: uint8, (height, width) or (height, width, 3).
        width: Of the result, 1 at least.
        height: Of the result, 1 at least.

    Returns:
        The same number of channels; `image` itself if it has the size already.
    """
    while image.shape[1] >= 2 * width and image.shape[0] >= 2 * height:
        image = halve(image)
    if image.shape[:2] != (height, width):
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return image


def halve(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Average each 2x2 px; an odd row or column at the edge is left out."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    even = image[: 2 * height, : 2 * width]
    return np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
