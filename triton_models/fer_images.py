"""Encoded bytes -> upright pixels, refusing what is not an image before any of it is decoded.

Called by `fer_faces`, which is called by the Triton models and by training. Each format has a reader that walks the
file's structure without decoding anything: `fer_jpeg`, `fer_png`, `fer_webp`, `fer_bmp`.

**The rule, for all of them: an image is refused where pixels are missing or invented, and nothing else has a veto.**
A reader hands its decoder a file made anew of what carries pixels; so metadata of any size and in any state, odd
headers, and what lies behind the image never reach it, and whatever it complains about is about pixels. `fer_jpeg` says
what each of libjpeg's warnings means.

Transparency is put on white before anything is looked at. Of an animation, or of several images in one file, the first
is taken.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from fer_bmp import BmpFile, read_bmp
from fer_exif import read_orientation
from fer_jpeg import JpegFile, read_jpeg
from fer_png import PngFile, read_png
from fer_refusals import ACCEPTED, REFUSALS, ImageLimits, ImageRefusedError, unreadable, unsupported
from fer_scaling import choose_reduction, reduce_to
from fer_webp import WebpFile, read_webp

__all__ = ["ACCEPTED", "REFUSALS", "ImageLimits", "ImageRefusedError", "UprightImage", "decode_image"]

_MAX_SCANS_AT_MAX_PIXELS: Final = 16
"""A progressive JPEG is decoded in passes over the whole image, and 14 bytes are enough for one: 20 MiB of them would
keep a core busy for hours. Real files have about 10. Smaller images may have more in proportion."""

_ImageFile: TypeAlias = JpegFile | PngFile | WebpFile | BmpFile
"""What a reader makes of a file: its structure was read, nothing is decoded yet."""

_READERS: Final[dict[bytes, Callable[[bytes], _ImageFile]]] = {
    b"\xff\xd8": read_jpeg,
    b"\x89PNG\r\n\x1a\n": read_png,
    b"BM": read_bmp,
}
"""By what a file begins with. WebP begins like a film."""
_OTHERS: Final = {
    b"GIF8": "a GIF file",
    b"II*\0": "a TIFF file",
    b"MM\0*": "a TIFF file",
    b"8BPS": "a Photoshop file",
    b"%PDF": "a PDF file",
    b"\xff\x0a": "a JPEG XL file",
    b"\0\0\0\x0cJXL ": "a JPEG XL file",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 file",
    b"\xff\x4f\xff\x51": "a JPEG 2000 file",
}
"""By what a file begins with: formats that people send, to be refused by name."""
_BRANDS: Final = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), "a HEIC file"),
    **dict.fromkeys((b"avif", b"avis"), "an AVIF file"),
}
"""By what follows `ftyp` in a file of Apple's QuickTime kind."""

_FLIP_BOTH: Final = -1  # cv2.flip: 0 is top-bottom, 1 left-right

# EXIF orientation -> (transpose first, then flip left-right, then flip top-bottom).
# Source: Exif 2.32, tag 274.
_UPRIGHT: Final = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


@dataclass(frozen=True)
class UprightImage:
    """A decoded image, turned as EXIF says, perhaps at a reduced size."""

    pixels: npt.NDArray[np.uint8]
    """uint8, (height, width, 3), BGR, 0..255. At most as large as the image itself."""
    width_px: int
    """Width of the upright image at full size."""
    height_px: int
    """Height of the upright image at full size."""

    @property
    def scale(self) -> npt.NDArray[np.float32]:
        """float32, (2,): full-size px per px of `pixels`, in x and y."""
        height, width = self.pixels.shape[:2]
        return np.array([self.width_px / width, self.height_px / height], np.float32)


def decode_image(data: bytes, limits: ImageLimits, enough_px: int) -> UprightImage:
    """Decode one image file.

    Args:
        data: One encoded file: JPEG, PNG, WebP or BMP.
        limits: What to refuse.
        enough_px: The image may come at 1/2, 1/4 or 1/8 of its size as long as it keeps as many px as a square of this
            side has.

    Returns:
        The upright image, at the same size whatever its format. Transparency is put on white, 16 bits are reduced to 8,
        gray becomes BGR.

    Raises:
        ImageRefusedError: The bytes are empty, too many, not an image of an accepted format, over the pixel limit,
            truncated or corrupt.
    """
    file = _read_structure(data, limits)
    factor = choose_reduction(file.width, file.height, enough_px)
    side_px = math.ceil(max(file.width, file.height) / factor)
    pixels = file.decode(side_px) if isinstance(file, JpegFile) else file.decode()
    pixels = reduce_to(pixels, math.ceil(file.width / factor), math.ceil(file.height / factor))
    transpose, flip_x, flip_y = _UPRIGHT[read_orientation(file.exif)]
    width, height = (file.height, file.width) if transpose else (file.width, file.height)
    return UprightImage(_turn(pixels, transpose, flip_x, flip_y), width, height)


def _turn(pixels: npt.NDArray[np.uint8], transpose: bool, flip_x: bool, flip_y: bool) -> npt.NDArray[np.uint8]:
    """Turn by OpenCV, which turns 50 megapixels in a quarter of the time that a copy of a turned view takes."""
    if transpose:
        pixels = np.asarray(cv2.transpose(pixels), np.uint8)
    if flip_x or flip_y:
        pixels = np.asarray(cv2.flip(pixels, _FLIP_BOTH if flip_x and flip_y else int(flip_x)), np.uint8)
    return np.ascontiguousarray(pixels)


def _read_structure(data: bytes, limits: ImageLimits) -> _ImageFile:
    if not data:
        raise ImageRefusedError("empty", f"there are no bytes. {ACCEPTED}.")
    if len(data) > limits.max_bytes:
        raise ImageRefusedError(
            "too_many_bytes", f"{len(data):,} bytes are over the limit of {limits.max_bytes:,}. Send a smaller file."
        )
    file = _read(data)
    if file.width * file.height > limits.max_pixels:
        raise ImageRefusedError(
            "too_many_pixels",
            f"{file.width}x{file.height} is over the limit of {limits.max_pixels:,} pixels. Send a smaller image.",
        )
    if file.scans * file.width * file.height > _MAX_SCANS_AT_MAX_PIXELS * limits.max_pixels:
        raise ImageRefusedError(
            "too_many_scans",
            f"the JPEG file of {file.width}x{file.height} px has {file.scans:,} scans. Save it as a baseline JPEG.",
        )
    return file


def _read(data: bytes) -> _ImageFile:
    """Read a file by the reader of its format."""
    for mark, read in _READERS.items():
        if data.startswith(mark):
            return read(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return read_webp(data)
    for mark, name in _OTHERS.items():
        if data.startswith(mark):
            raise unsupported(name)
    if data[4:8] == b"ftyp":
        raise unsupported(_BRANDS.get(data[8:12], "a film or a picture in a film's format"))
    raise unreadable()
