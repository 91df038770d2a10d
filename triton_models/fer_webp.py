"""WebP files: their structure by walking the chunks, their pixels by OpenCV's libwebp. Used by `fer_images`.

The decoder is handed a still picture made anew of what carries pixels: the first frame and its alpha. So profiles,
texts and the further frames of an animation can neither break it nor be unpacked, whatever their state. libwebp has no
warnings: what it does not decode is damaged.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fer_pixels import decode_with_opencv, to_bgr
from fer_refusals import corrupt, unreadable

_MAX_CHUNKS: Final = 100_000
_WITH_ALPHA: Final = 0x10
"""The flag in VP8X."""


@dataclass(frozen=True)
class WebpFile:
    """A WebP file of which only the structure was read."""

    width: int
    """Of the canvas, in px."""
    height: int
    """Of the canvas, in px."""
    exif: bytes
    """A TIFF structure, or nothing."""
    place: tuple[int, int]
    """Where the picture's upper left corner lies on the canvas: x, y. The rest of the canvas is empty."""
    size: tuple[int, int]
    """The picture's width and height, in px."""
    still: bytes
    """The picture alone, as a file for the decoder."""
    has_alpha: bool

    scans = 1

    def decode(self) -> npt.NDArray[np.uint8]:
        """Decode the pixels of a still picture, or of an animation's first frame, at full size.

        Returns:
            uint8, (height, width, 3), BGR, 0..255, as stored, on white.

        Raises:
            ImageRefusedError: Pixels are missing or wrong.
        """
        picture = to_bgr(decode_with_opencv(self.still, "WebP", *self.size, keep_all=self.has_alpha))
        if self.size == (self.width, self.height):
            return picture
        canvas = np.full((self.height, self.width, 3), 255, np.uint8)
        (x, y), (width, height) = self.place, self.size
        canvas[y : y + height, x : x + width] = picture
        return canvas


def read_webp(data: bytes) -> WebpFile:
    """Walk the chunks of a WebP file. Nothing is unpacked.

    Args:
        data: Begins with RIFF, four bytes, and WEBP.

    Raises:
        ImageRefusedError: There is no whole picture in it.
    """
    alpha = exif = frame = picture = b""
    canvas = None
    for kind, content in _walk(data, 12):
        if kind == b"VP8X" and len(content) >= 10 and canvas is None:
            canvas = _read_size(content, 4)
        elif kind == b"ALPH" and not picture:
            alpha = bytes(content)
        elif kind in (b"VP8 ", b"VP8L") and not picture and not frame:
            picture = _chunk(kind, content)
        elif kind == b"ANMF" and not picture and not frame:
            frame = bytes(content)
        elif kind == b"EXIF" and not exif:
            exif = bytes(content)
    if frame:
        return _read_first_frame(frame, canvas, exif)
    if not picture:
        raise unreadable()
    size = _read_picture_size(picture)
    return WebpFile(*size, exif, (0, 0), size, *_make_still(size, alpha, picture))


def _walk(data: bytes, start: int) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the chunks that are whole; a damaged length ends the way."""
    view = memoryview(data)
    for _ in range(_MAX_CHUNKS):
        length = int.from_bytes(data[start + 4 : start + 8], "little")
        end = start + 8 + length
        if start + 8 > len(data) or end > len(data):
            return
        yield data[start : start + 4], view[start + 8 : end]
        start = end + length % 2


def _read_first_frame(frame: bytes, canvas: tuple[int, int] | None, exif: bytes) -> WebpFile:
    alpha = picture = b""
    for kind, content in _walk(frame, 16):
        if kind == b"ALPH" and not picture:
            alpha = bytes(content)
        elif kind in (b"VP8 ", b"VP8L") and not picture:
            picture = _chunk(kind, content)
    if not picture or canvas is None:
        raise unreadable()
    size = _read_picture_size(picture)
    x, y = (2 * int.from_bytes(frame[at : at + 3], "little") for at in (0, 3))
    if x + size[0] > canvas[0] or y + size[1] > canvas[1]:
        raise corrupt("WebP", *canvas, "its first frame lies outside of it")
    return WebpFile(*canvas, exif, (x, y), size, *_make_still(size, alpha, picture))


def _make_still(size: tuple[int, int], alpha: bytes, picture: bytes) -> tuple[bytes, bool]:
    """Return a file of one picture, and whether any of it may be transparent."""
    body = picture
    if alpha and picture.startswith(b"VP8 "):
        extended = struct.pack("<B3x", _WITH_ALPHA) + b"".join((side - 1).to_bytes(3, "little") for side in size)
        body = _chunk(b"VP8X", extended) + _chunk(b"ALPH", alpha) + picture
    has_alpha = body is not picture or (picture.startswith(b"VP8L") and bool(picture[12] & 0x10))
    return _chunk(b"RIFF", b"WEBP" + body), has_alpha


def _read_picture_size(picture: bytes) -> tuple[int, int]:
    """Return width and height out of the first bytes of a VP8 or VP8L chunk.

    Source: RFC 6386, 9.1, and RFC 9649, 3.4.
    """
    if picture.startswith(b"VP8L"):
        if len(picture) < 13 or picture[8] != 0x2F:
            raise unreadable()
        bits = int.from_bytes(picture[9:13], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if len(picture) < 18 or picture[11:14] != b"\x9d\x01\x2a":
        raise unreadable()
    width, height = (int.from_bytes(picture[at : at + 2], "little") & 0x3FFF for at in (14, 16))
    if not width or not height:
        raise unreadable()
    return width, height


def _read_size(content: memoryview, at: int) -> tuple[int, int]:
    """Return two sides in 24 bits each, less one."""
    width, height = (int.from_bytes(content[start : start + 3], "little") + 1 for start in (at, at + 3))
    return width, height


def _chunk(kind: bytes, content: bytes | memoryview) -> bytes:
    return kind + len(content).to_bytes(4, "little") + bytes(content) + bytes(len(content) % 2)
