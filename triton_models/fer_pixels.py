"""What the readers of PNG, WebP and BMP share: OpenCV's decoder, and transparency over white."""

import io
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

_STRIP_ROWS: Final = 64
"""Pixels are mixed in strips that stay in the cache: 50 megapixels need no further memory than their result."""


def decode_with_opencv(data: bytes, format: str, flags: int) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | None:
    """Decodes one file that OpenCV knows.

    Args:
        data: the file.
        format: Pillow's name of it: Pillow takes what has a side of over 2^20 px, where OpenCV stops.
        flags: `cv2.IMREAD_COLOR`, or `cv2.IMREAD_UNCHANGED` to keep gray, transparency and 16 bits.

    Returns:
        uint8 or uint16, (height, width), (height, width, 3) BGR or (height, width, 4) BGRA; None if it is damaged.
    """
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)  # type: ignore[return-value]
    except cv2.error:
        pass
    try:
        with Image.open(io.BytesIO(data), formats=[format]) as image:
            mode = "RGBA" if flags == cv2.IMREAD_UNCHANGED else "RGB"
            turned = np.asarray(image.convert(mode))
    except Exception:  # Pillow raises a dozen kinds on hostile files.
        return None
    return np.ascontiguousarray(turned[..., [2, 1, 0, 3][: turned.shape[2]]])


def to_bgr(pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Puts a decoded picture on white, as it would be seen on paper.

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
    for row in range(0, len(pixels), _STRIP_ROWS):
        strip = pixels[row : row + _STRIP_ROWS]
        eight_bits = strip if strip.dtype == np.uint8 else (strip >> 8).astype(np.uint8)
        mixed[row : row + _STRIP_ROWS] = _mix(np.asarray(eight_bits, np.uint8), channels)
    return mixed


def _mix(strip: npt.NDArray[np.uint8], channels: int) -> npt.NDArray[np.uint8]:
    if channels < 4:
        return np.asarray(cv2.cvtColor(strip, cv2.COLOR_GRAY2BGR) if channels == 1 else strip, np.uint8)
    bgr = cv2.cvtColor(strip, cv2.COLOR_BGRA2BGR)
    alpha = strip[..., 3]
    if alpha.min() == 255:
        return np.asarray(bgr, np.uint8)
    alpha = cv2.cvtColor(np.ascontiguousarray(alpha), cv2.COLOR_GRAY2BGR)
    return np.asarray(~cv2.multiply(~bgr, alpha, scale=1 / 255), np.uint8)  # 255 - (255 - colour) * alpha
