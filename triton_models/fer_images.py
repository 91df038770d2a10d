"""Encoded bytes -> upright pixels, refusing what is not an image before any of it is decoded.

Called by `fer_faces`, which is called by the Triton models and by training. Pillow reads the header (format, size,
EXIF orientation) without decoding; libjpeg-turbo (simplejpeg) decodes JPEG, at a reduced size where that is enough;
OpenCV decodes PNG, WebP and BMP. Half a file is refused, not filled up with gray.
"""

import io
import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from fer_scaling import choose_reduction, reduce_to

ACCEPTED_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP")
ACCEPTED: Final = "Accepted are JPEG, PNG, WebP and BMP files"
_EXIF_ORIENTATION: Final = 0x0112
_START_OF_SCAN: Final = b"\xff\xda"
_MAX_SCANS_AT_MAX_PIXELS: Final = 16
"""A progressive JPEG is decoded in passes over the whole image, and 14 bytes are enough for one: 20 MiB of them would
keep a core busy for hours. Real files have about 10. Smaller images may have more in proportion."""
_PILLOW_MAX_PIXELS: Final = 178_956_970
"""Above this Pillow refuses a header by itself. Source: twice PIL.Image.MAX_IMAGE_PIXELS."""

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


REFUSALS: Final = ("empty", "too_many_bytes", "not_an_image", "too_many_pixels", "too_many_scans", "corrupt")
"""The reasons that there are, one word each, for counters."""


class ImageRefusedError(ValueError):
    """The bytes can't be used as an image. The message says what was wrong and what is accepted.

    Attributes:
        reason: one of `REFUSALS`.
    """

    def __init__(self, reason: str, message: str) -> None:
        """`reason` is for programs, `message` for people."""
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class ImageLimits:
    """What is refused before it is decoded. Both are settings of the model `fer_preprocess`."""

    max_bytes: int = 20 * 1024 * 1024
    """Largest encoded file."""
    max_pixels: int = 50_000_000
    """Largest width x height. 50 megapixels decode to 150 MB of BGR."""

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, not {self.max_bytes}")
        if not 1 <= self.max_pixels <= _PILLOW_MAX_PIXELS:
            raise ValueError(f"max_pixels must be 1..{_PILLOW_MAX_PIXELS}, not {self.max_pixels}")


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


@dataclass(frozen=True)
class _Header:
    format: str
    mode: str
    width: int
    height: int
    orientation: int


def decode_image(data: bytes, limits: ImageLimits, enough_px: int) -> UprightImage:
    """Decodes one image file.

    Args:
        data: one encoded file: JPEG, PNG, WebP or BMP.
        limits: what to refuse.
        enough_px: the image may come at 1/2, 1/4 or 1/8 of its size as long as it keeps as many px as a square of this
            side has.

    Returns:
        The upright image, at the same size whatever its format. Transparency is dropped, 16 bits are reduced to 8,
        gray becomes BGR.

    Raises:
        ImageRefusedError: the bytes are empty, too many, not an image of an accepted format, over the pixel limit,
            truncated or corrupt.
    """
    header = _read_header(data, limits)
    factor = choose_reduction(header.width, header.height, enough_px)
    side_px = math.ceil(max(header.width, header.height) / factor)
    pixels = _decode_jpeg(data, header, side_px) if header.format == "JPEG" else _decode_other(data, header)
    pixels = reduce_to(pixels, math.ceil(header.width / factor), math.ceil(header.height / factor))
    transpose, flip_x, flip_y = _UPRIGHT[header.orientation]
    width, height = (header.height, header.width) if transpose else (header.width, header.height)
    return UprightImage(_turn(pixels, transpose, flip_x, flip_y), width, height)


def _turn(pixels: npt.NDArray[np.uint8], transpose: bool, flip_x: bool, flip_y: bool) -> npt.NDArray[np.uint8]:
    """By OpenCV, which turns 50 megapixels in a quarter of the time that a copy of a turned view takes."""
    if transpose:
        pixels = np.asarray(cv2.transpose(pixels), np.uint8)
    if flip_x or flip_y:
        pixels = np.asarray(cv2.flip(pixels, _FLIP_BOTH if flip_x and flip_y else int(flip_x)), np.uint8)
    return np.ascontiguousarray(pixels)


def _read_header(data: bytes, limits: ImageLimits) -> _Header:
    if not data:
        raise ImageRefusedError("empty", f"there are no bytes. {ACCEPTED}.")
    if len(data) > limits.max_bytes:
        raise ImageRefusedError(
            "too_many_bytes", f"{len(data):,} bytes are over the limit of {limits.max_bytes:,}. Send a smaller file."
        )
    too_many_pixels = f"over the limit of {limits.max_pixels:,} pixels. Send a smaller image."
    try:
        with Image.open(io.BytesIO(data), formats=ACCEPTED_FORMATS) as image:
            # A phone's JPEG with a second image behind it calls itself MPO; the first one is what is shown.
            format_ = "JPEG" if image.format == "MPO" else image.format or ""
            header = _Header(format_, image.mode, image.width, image.height, _orientation(image))
    except Image.DecompressionBombError:
        raise ImageRefusedError("too_many_pixels", f"the header claims a size {too_many_pixels}") from None
    except Exception:  # Pillow raises a dozen kinds on hostile headers (OSError, SyntaxError, struct.error, ...).
        raise ImageRefusedError(
            "not_an_image", f"the bytes are not an image that can be read, or only the start of one. {ACCEPTED}."
        ) from None
    if header.width * header.height > limits.max_pixels:
        raise ImageRefusedError("too_many_pixels", f"{header.width}x{header.height} is {too_many_pixels}")
    scans = data.count(_START_OF_SCAN) if header.format == "JPEG" else 1
    if scans * header.width * header.height > _MAX_SCANS_AT_MAX_PIXELS * limits.max_pixels:
        raise ImageRefusedError(
            "too_many_scans",
            f"the JPEG file of {header.width}x{header.height} px has {scans:,} scans. Save it as a baseline JPEG.",
        )
    return header


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where there is none or it can't be read.

    Only what precedes the pixels is looked at: PngImageFile.getexif() would decode the whole image for it.
    """
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(_EXIF_ORIENTATION, 1)
    except Exception:  # A damaged EXIF block makes Pillow raise many kinds; the picture is still good.
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _decode_jpeg(data: bytes, header: _Header, enough_px: int) -> npt.NDArray[np.uint8]:
    if header.mode not in ("L", "RGB"):  # CMYK
        return _decode_with_pillow(data, header, enough_px)
    ratio = min(1.0, enough_px / max(header.width, header.height))
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data,
            "BGR",
            min_width=max(1, int(header.width * ratio)),
            min_height=max(1, int(header.height * ratio)),
            min_factor=1,
        )
        return pixels
    except ValueError as error:
        if "extraneous bytes" in str(error):  # a warning: some cameras leave some between two markers
            return _decode_with_pillow(data, header, enough_px)
        raise _corrupt(header) from None


def _decode_other(data: bytes, header: _Header) -> npt.NDArray[np.uint8]:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # a side over 2^20 px
        pixels = None
    if pixels is None:
        return _decode_with_pillow(data, header)
    return np.asarray(pixels, np.uint8)


def _decode_with_pillow(data: bytes, header: _Header, enough_px: int | None = None) -> npt.NDArray[np.uint8]:
    """The slow and thorough way: CMYK JPEG, and a second opinion on what the fast decoders would not take.

    A JPEG may come back at 1/2, 1/4 or 1/8 of its size, with a longest side of at least `enough_px`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=ACCEPTED_FORMATS) as image:
            if enough_px:
                ratio = min(1.0, enough_px / max(image.size))
                image.draft(None, (max(1, math.ceil(image.width * ratio)), max(1, math.ceil(image.height * ratio))))
            rgb = np.asarray(image.convert("RGB"))
    except Exception:  # Like the header: corrupt data raises many kinds.
        raise _corrupt(header) from None
    return np.ascontiguousarray(rgb[..., ::-1])


def _corrupt(header: _Header) -> ImageRefusedError:
    return ImageRefusedError(
        "corrupt", f"the {header.format} file of {header.width}x{header.height} px is truncated or corrupt."
    )
