"""PNG files: their structure by walking the chunks, their pixels by OpenCV. Used by `fer_images`.

The decoder is handed a file made anew of what carries pixels: the header, the palette, the transparent colours and
the image data. So texts, profiles, dates and the further frames of an animation can neither break the picture nor be
unpacked, whatever their size and state, and **whatever libpng then complains about is about pixels.**

| libpng's complaint | here |
|---|---|
| any about another chunk: its checksum, size, place or content | never made: the chunk is left out |
| no end mark | added |
| too much image data, or bytes behind them | passed over: no pixel is missing |
| a wrong checksum of one of the four, or inside the image data | refused |
| not enough image data, or data that cannot be unpacked | refused |
| an unknown filter, no palette, a second header | refused |
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from fer_pixels import STRIP_ROWS, decode_with_opencv, to_bgr
from fer_refusals import corrupt, unreadable

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNKS: Final = 100_000
"""20 MiB of empty chunks would be nearly two million. Real files have up to a few thousand."""
_HEADER_BYTES: Final = 33
"""The signature and IHDR."""
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

    def decode(self) -> npt.NDArray[np.uint8]:
        """Decode the pixels, at full size.

        Returns:
            uint8, (height, width, 3), BGR, 0..255, as stored, on white. 16 bits are reduced to 8.

        Raises:
            ImageRefusedError: Pixels are missing or wrong.
        """
        keyed = self.transparent and self.color_type in (_GRAY, _RGB)
        opaque = not self.transparent and self.color_type not in _WITH_ALPHA
        pixels = decode_with_opencv(b"".join(self.pieces), "PNG", self.width, self.height, keep_all=not opaque)
        return self._whiten_key(pixels) if keyed else to_bgr(pixels)

    def _whiten_key(self, pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
        """Make the one colour white that stands for nothing."""
        samples = 1 if self.color_type == _GRAY else 3
        if len(self.transparent) != 2 * samples:
            raise corrupt("PNG", self.width, self.height, "its transparent colour is damaged")
        mask = (1 << self.bits) - 1
        key = [sample & mask for sample in struct.unpack(f">{samples}H", self.transparent)][::-1]
        if self.bits < 8:
            key = [sample * 255 // mask for sample in key]
        if pixels.ndim == 2:
            key = key[:1]
        low = high = np.array(key)
        bgr = to_bgr(pixels)
        for row in range(0, self.height, STRIP_ROWS):
            strip = slice(row, row + STRIP_ROWS)
            hidden = cv2.cvtColor(cv2.inRange(pixels[strip], low, high), cv2.COLOR_GRAY2BGR)
            cv2.bitwise_or(bgr[strip], hidden, dst=bgr[strip])
        return bgr


def read_png(data: bytes) -> PngFile:
    """Walk the chunks of a PNG file. Nothing is unpacked.

    Args:
        data: Begins with the signature.

    Raises:
        ImageRefusedError: The header is missing, or the file has no image data.
    """
    width, height, bits, color_type = _read_header(data)
    kept: dict[bytes, list[bytes]] = {b"PLTE": [], b"tRNS": [], b"IDAT": []}
    exif = b""
    for kind, chunk in _walk(data):
        if kind == b"IDAT" or (kind in kept and not kept[kind] and not kept[b"IDAT"]):
            kept[kind].append(chunk)
        elif kind == b"IHDR":
            raise corrupt("PNG", width, height, "it has two headers")
        elif kind == b"eXIf" and not exif and _is_whole(chunk):
            exif = chunk[8:-4]
    if not kept[b"IDAT"]:
        raise corrupt("PNG", width, height, "it has no whole chunk of image data")
    palette, transparent = b"".join(kept[b"PLTE"]), b"".join(kept[b"tRNS"])
    if color_type in _WITH_ALPHA:
        transparent = b""  # it has no meaning there
    if transparent and not _is_whole(transparent):
        raise corrupt("PNG", width, height, "its transparent colours are damaged")
    # Of other pictures a palette is a suggestion for old screens, and a transparent colour is made white by `decode`.
    colours = palette + transparent if color_type == _PALETTE else b""
    pieces = [data[:_HEADER_BYTES], colours, *kept[b"IDAT"], _IEND]
    return PngFile(width, height, exif, bits, color_type, transparent[8:-4], pieces)


def _read_header(data: bytes) -> tuple[int, ...]:
    """Return width, height, bits of a sample and colour type."""
    if len(data) < _HEADER_BYTES or data[8:16] != b"\0\0\0\rIHDR" or not _is_whole(data[8:_HEADER_BYTES]):
        raise unreadable()
    width, height, bits, color_type = struct.unpack_from(">IIBB", data, 16)
    if not width or not height:
        raise unreadable()
    return width, height, bits, color_type


def _walk(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and all of each chunk behind the header; to the end mark, or to where a chunk is not whole."""
    position = _HEADER_BYTES
    for _ in range(_MAX_CHUNKS):
        kind = data[position + 4 : position + 8]
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if end > len(data) or kind == b"IEND":
            return
        yield kind, data[position:end]
        position = end


def _is_whole(chunk: bytes) -> bool:
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
