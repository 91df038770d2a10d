"""What the readers of PNG, WebP and BMP share: OpenCV's decoder, and transparency over white."""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from fer_refusals import ImageRefusedError, corrupt

STRIP_ROWS: Final = 64
"""Pixels are mixed in strips that stay in the cache: 50 megapixels need no further memory than their result."""
_MAX_SIDE: Final = 1_000_000
"""Of what OpenCV decodes, in px. Source: PNG_USER_WIDTH_MAX of libpng; OpenCV's own limit is 2^20."""


def decode_with_opencv(
    data: bytes, name: str, width: int, height: int, *, keep_all: bool
) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Decode one file of a format that OpenCV reads.

    Args:
        data: The file.
        name: Of its format, for people.
        width: In px, as its header says.
        height: In px, as its header says.
        keep_all: Whether to keep gray, transparency and 16 bits as they are.

    Returns:
        uint8, (height, width, 3), BGR; or, with `keep_all`, uint8 or uint16, (height, width), (height, width, 3) BGR or
        (height, width, 4) BGRA.

    Raises:
        ImageRefusedError: Pixels are missing or wrong.
    """
    if max(width, height) > _MAX_SIDE:
        raise ImageRefusedError(
            "too_many_pixels", f"a side of {max(width, height):,} px is over the limit of {_MAX_SIDE:,} of {name}."
        )
    try:
        flags = cv2.IMREAD_UNCHANGED if keep_all else cv2.IMREAD_COLOR
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.shape[:2] != (height, width):
        raise corrupt(name, width, height, "its data are damaged, or end before its pixels do")
    return pixels  # type: ignore[return-value]


def to_bgr(pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Put a decoded picture on white, as it would be seen on paper.

    Args:
        pixels: uint8 or uint16, (height, width), (height, width, 3) BGR or (height, width, 4) BGRA, not multiplied by
            their alpha.

    Returns:
        uint8, (height, width, 3), BGR, 0..255. 16 bits are reduced to 8.
    """
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.dtype == np.uint8 and channels == 3:
        return pixels  # type: ignore[return-value]
    mixed = np.empty((*pixels.shape[:2], 3), np.uint8)
    for row in range(0, len(pixels), STRIP_ROWS):
        strip = pixels[row : row + STRIP_ROWS]
        eight_bits = strip if strip.dtype == np.uint8 else (strip >> 8).astype(np.uint8)
        mixed[row : row + STRIP_ROWS] = _mix(np.asarray(eight_bits, np.uint8), channels)
    return mixed


def _mix(strip: npt.NDArray[np.uint8], channels: int) -> npt.NDArray[np.uint8]:
    if channels < 4:
        return np.asarray(cv2.cvtColor(strip, cv2.COLOR_GRAY2BGR) if channels == 1 else strip, np.uint8)
    bgr = cv2.cvtColor(strip, cv2.COLOR_BGRA2BGR)
    opacity = strip[..., 3]
    if opacity.min() == 255:
        return np.asarray(bgr, np.uint8)
    alpha = cv2.cvtColor(np.ascontiguousarray(opacity), cv2.COLOR_GRAY2BGR)
    return np.asarray(~cv2.multiply(~bgr, alpha, scale=1 / 255), np.uint8)  # 255 - (255 - colour) * alpha
