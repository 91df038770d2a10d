"""PNG files: their structure by walking the chunks, their pixels by OpenCV. Used by `fer_images`.

The decoder is handed a file made anew of what carries pixels: the header, the palette, the transparent colours and
the image data. So texts, profiles, dates and the further frames of an animation can neither break the picture nor be
unpacked, whatever their size and state, and **whatever libpng then complains about is about pixels.** A wrong checksum
of one of those four, or missing data, is damage; a missing end mark is not.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from fer_pixels import decode_with_opencv, to_bgr
from fer_refusals import corrupt, unreadable

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNKS: Final = 100_000
"""20 MiB of empty chunks would be nearly two million. Real files have up to a few thousand."""
_IEND: Final = b"\0\0\0\0IEND\xaeB`\x82"
_GRAY, _RGB, _PALETTE = 0, 2, 3
_WITH_ALPHA: Final = (4, 6)


@dataclass(frozen=True)
class PngFile:
    """A PNG file of which only the structure was read."""

    width: int
    """In px, as stored."""
    height: int
    """In px, as stored."""
    exif: bytes
    """A TIFF structure, or nothing."""
    bits: int
    """Of a sample: 1, 2, 4, 8 or 16."""
    color_type: int
    """0 gray, 2 RGB, 3 palette, 4 gray with alpha, 6 RGB with alpha."""
    transparent: bytes
    """The content of tRNS, or nothing."""
    pieces: list[bytes]
    """What carries pixels, to be joined to a file for the decoder."""

    scans = 1

    def decode(self, enough_px: int) -> npt.NDArray[np.uint8]:
        """Decodes the pixels, at full size.

        Returns:
            uint8, (height, width, 3), BGR, 0..255, as stored, on white. 16 bits are reduced to 8.

        Raises:
            ImageRefusedError: pixels are missing or wrong.
        """
        keyed = self.transparent and self.color_type in (_GRAY, _RGB)
        opaque = not self.transparent and self.color_type not in _WITH_ALPHA
        flags = cv2.IMREAD_COLOR if opaque else cv2.IMREAD_UNCHANGED
        pixels = decode_with_opencv(b"".join(self.pieces), "PNG", flags)
        if pixels is None:
            raise corrupt("PNG", self.width, self.height, "its data are damaged, or end before its pixels do")
        return self._whiten_key(pixels) if keyed else to_bgr(pixels)

    def _whiten_key(self, pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
        """Makes the one colour white that stands for nothing."""
        samples = 1 if self.color_type == _GRAY else 3
        if len(self.transparent) != 2 * samples:
            raise corrupt("PNG", self.width, self.height, "its transparent colour is damaged")
        mask = (1 << self.bits) - 1
        key = [sample & mask for sample in struct.unpack(f">{samples}H", self.transparent)][::-1]
        if self.bits < 8:
            key = [sample * 255 // mask for sample in key]
        if pixels.ndim == 2:
            key = key[:1]
        hidden = cv2.inRange(pixels, np.array(key), np.array(key))
        bgr = to_bgr(pixels)
        bgr[hidden > 0] = 255
        return bgr


def read_png(data: bytes) -> PngFile:
    """Walks the chunks of a PNG file. Nothing is unpacked.

    Args:
        data: begins with the signature.

    Raises:
        ImageRefusedError: the header is missing, or the file has no image data.
    """
    if len(data) < 33 or data[8:16] != b"\0\0\0\rIHDR" or not _is_whole(data[12:29], data[29:33]):
        raise unreadable()
    width, height, bits, color_type = struct.unpack_from(">IIBB", data, 16)
    if not width or not height:
        raise unreadable()
    kept: dict[bytes, list[bytes]] = {b"PLTE": [], b"tRNS": [], b"IDAT": []}
    exif = transparent = b""
    position = 33
    for _ in range(_MAX_CHUNKS):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        content, end = position + 8, position + 12 + length
        if end > len(data) or kind == b"IEND":
            break
        if kind == b"IDAT" or (kind in kept and not kept[kind] and not kept[b"IDAT"]):
            kept[kind].append(data[position:end])
            transparent = data[content : end - 4] if kind == b"tRNS" else transparent
        elif kind == b"IHDR":
            raise corrupt("PNG", width, height, "it has two headers")
        elif kind == b"eXIf" and not exif and _is_whole(data[position + 4 : end - 4], data[end - 4 : end]):
            exif = data[content : end - 4]
        position = end
    else:
        raise corrupt("PNG", width, height, "it has too many chunks")
    if not kept[b"IDAT"]:
        raise corrupt("PNG", width, height, "it has no whole chunk of image data")
    if transparent and color_type in _WITH_ALPHA:
        kept[b"tRNS"], transparent = [], b""  # it has no meaning there
    if transparent and not _is_whole(kept[b"tRNS"][0][4:-4], kept[b"tRNS"][0][-4:]):
        raise corrupt("PNG", width, height, "its transparent colours are damaged")
    if color_type != _PALETTE:
        kept[b"PLTE"], kept[b"tRNS"] = [], []  # a suggestion for old screens, and what `decode` does itself
    pieces = [data[:33], *kept[b"PLTE"], *kept[b"tRNS"], *kept[b"IDAT"], _IEND]
    return PngFile(width, height, exif, bits, color_type, transparent, pieces)


def _is_whole(chunk: bytes, checksum: bytes) -> bool:
    return zlib.crc32(chunk) == int.from_bytes(checksum, "big")
