"""BMP files: the header of every version, uncompressed pixels by NumPy, run lengths by OpenCV. Used by `fer_images`.

OpenCV and Pillow know some of the masks that the pixels of a BMP file may have; here they are taken as they come.
Whatever stands between the header and the pixels, and behind them, is passed over.

Source: Microsoft's BITMAPINFOHEADER, BITMAPV4HEADER and BITMAPV5HEADER, and OS/2's BITMAPINFOHEADER2.
"""

import struct
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from fer_pixels import STRIP_ROWS, decode_with_opencv, to_bgr
from fer_refusals import corrupt, unreadable, unsupported

_FILE_HEADER: Final = 14
_CORE, _INFO, _WITH_RGB_MASKS, _WITH_ALPHA_MASK, _OS2 = 12, 40, 52, 56, 64
"""Sizes of headers."""
_RGB, _RLE8, _RLE4, _MASKS, _MASKS_WITH_ALPHA = 0, 1, 2, 3, 6
"""Compressions."""
_USUAL_MASKS: Final = {16: (0x7C00, 0x03E0, 0x001F, 0), 32: (0xFF0000, 0x00FF00, 0x0000FF, 0)}


@dataclass(frozen=True)
class BmpFile:
    """A BMP file of which only the header was read."""

    width: int
    """In px."""
    height: int
    """In px."""
    bits: int
    """Of a pixel: 1, 2, 4, 8, 16, 24 or 32."""
    compression: int
    top_down: bool
    masks: tuple[int, int, int, int]
    """Which bits of 16 or 32 are red, green, blue and alpha."""
    palette: npt.NDArray[np.uint8]
    """uint8, (256, 3), BGR. Black where the file has none."""
    pixels: memoryview
    """Derive what follows from where the pixels begin."""

    scans = 1
    exif = b""

    def decode(self) -> npt.NDArray[np.uint8]:
        """Decode the pixels, at full size.

        Returns:
            uint8, (height, width, 3), BGR, 0..255, upright, on white where the header names an alpha mask.

        Raises:
            ImageRefusedError: Pixels are missing.
        """
        if self.compression in (_RLE8, _RLE4):
            return self._decode_runs()
        stride = (self.width * self.bits + 31) // 32 * 4
        size, used = stride * self.height, (self.width * self.bits + 7) // 8
        if len(self.pixels) < size - stride + used:
            raise corrupt("BMP", self.width, self.height, "its data end before its pixels do")
        rows = self.pixels[:size] if len(self.pixels) >= size else bytes(self.pixels) + bytes(stride - used)
        stored = np.frombuffer(rows, np.uint8, size).reshape(self.height, stride)
        if not self.top_down:
            stored = stored[::-1]
        # A mask under which all pixels are zero was not meant: nobody saves a picture of nothing.
        has_alpha = bool(self.masks[3]) and bool((self._values(stored) & self.masks[3]).any())
        decoded = np.empty((self.height, self.width, 3), np.uint8)
        for row in range(0, self.height, STRIP_ROWS):
            strip = np.ascontiguousarray(stored[row : row + STRIP_ROWS])
            decoded[row : row + STRIP_ROWS] = self._decode_strip(strip, has_alpha)
        return decoded

    def _decode_strip(self, strip: npt.NDArray[np.uint8], has_alpha: bool) -> npt.NDArray[np.uint8]:
        if self.bits == 24:
            return strip[:, : 3 * self.width].reshape(len(strip), self.width, 3)
        if self.bits == 32 and self.masks[:3] == _USUAL_MASKS[32][:3]:
            bgra = strip.reshape(len(strip), self.width, 4)
            return to_bgr(bgra) if has_alpha else np.asarray(cv2.cvtColor(bgra, cv2.COLOR_BGRA2BGR), np.uint8)
        if self.bits <= 8:
            indices = strip if self.bits == 8 else _split_bytes(strip, self.bits)
            return np.asarray(cv2.applyColorMap(indices[:, : self.width], self.palette[:, np.newaxis]), np.uint8)
        values = self._values(strip)
        red, green, blue, alpha = self.masks
        wanted = (blue, green, red, alpha) if has_alpha else (blue, green, red)
        return to_bgr(np.ascontiguousarray(np.dstack([_read_channel(values, mask) for mask in wanted])))

    def _values(self, stored: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
        """uint32, (rows, width): each pixel's 16 or 32 bits."""
        whole = np.ascontiguousarray(stored).view(f"<u{self.bits // 8}")
        return whole[:, : self.width].astype(np.uint32)

    def _decode_runs(self) -> npt.NDArray[np.uint8]:
        palette = np.zeros((256, 4), np.uint8)
        palette[:, :3] = self.palette
        colours = palette[: 1 << self.bits].tobytes()
        start = _FILE_HEADER + _INFO + len(colours)
        header = struct.pack("<2sIHHI", b"BM", start + len(self.pixels), 0, 0, start)
        header += struct.pack(
            "<IiiHHIIiiII", _INFO, self.width, self.height, 1, self.bits, self.compression, len(self.pixels), 0, 0, 0, 0
        )
        file = header + colours + bytes(self.pixels)
        pixels = to_bgr(decode_with_opencv(file, "BMP", self.width, self.height, keep_all=False))
        return pixels[::-1] if self.top_down else pixels


def read_bmp(data: bytes) -> BmpFile:
    """Read the header of a BMP file.

    Args:
        data: Begins with BM.

    Raises:
        ImageRefusedError: The header makes no sense, or the pixels are compressed in a way that is not known.
    """
    try:
        start, size = struct.unpack_from("<II", data, 10)
        if size == _CORE:
            width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
            compression = colours = 0
        elif 16 <= size <= len(data):
            width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
            compression = struct.unpack_from("<I", data, 30)[0] if size >= 20 else _RGB
            colours = struct.unpack_from("<I", data, 46)[0] if size >= 36 else 0
        else:
            raise unreadable()
        masks, behind = _read_masks(data, size, bits, compression)
    except struct.error:
        raise unreadable() from None
    _check_kind(size, bits, compression)
    top_down, height = height < 0, abs(height)
    if width <= 0 or height == 0:
        raise unreadable()
    entry = 3 if size == _CORE else 4
    count = min(colours or 1 << min(bits, 8), 1 << bits, 256) if bits <= 8 else 0
    if not behind <= start < len(data) or start == behind:  # Some say that the pixels begin where the palette does.
        start = behind + count * entry
    count = min(count, (min(start, len(data)) - behind) // entry)
    palette = np.zeros((256, 3), np.uint8)
    palette[:count] = np.frombuffer(data, np.uint8, count * entry, behind).reshape(count, entry)[:, :3]
    return BmpFile(width, height, bits, compression, top_down, masks, palette, memoryview(data)[start:])


def _check_kind(size: int, bits: int, compression: int) -> None:
    """Of the compressions, OS/2 numbers two in its own way: 3 is a fax's, 4 run lengths of 24 bits."""
    known = {
        _RGB: (1, 2, 4, 8, 16, 24, 32),
        _RLE8: (8,),
        _RLE4: (4,),
        _MASKS: () if size == _OS2 else (16, 32),
        _MASKS_WITH_ALPHA: (16, 32),
    }
    if bits not in known.get(compression, ()):
        kind = f"a BMP file of a rare kind ({bits} bits a pixel, compression {compression})"
        raise unsupported(kind, "Save it as a PNG file")


def _read_masks(data: bytes, size: int, bits: int, compression: int) -> tuple[tuple[int, int, int, int], int]:
    """Return the masks of red, green, blue and alpha, and where the palette begins."""
    behind = _FILE_HEADER + size
    red, green, blue, alpha = _USUAL_MASKS.get(bits, (0, 0, 0, 0))
    if compression in (_MASKS, _MASKS_WITH_ALPHA):
        named = struct.unpack_from("<III", data, _FILE_HEADER + _INFO)
        red, green, blue = named if any(named) else (red, green, blue)
        if size >= _WITH_ALPHA_MASK or compression == _MASKS_WITH_ALPHA:
            (alpha,) = struct.unpack_from("<I", data, _FILE_HEADER + _WITH_RGB_MASKS)
        if size == _INFO:
            behind += 16 if compression == _MASKS_WITH_ALPHA else 12
    return (red, green, blue, alpha), behind


def _split_bytes(strip: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Return the 2, 4 or 8 numbers in each byte, highest bits first."""
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    numbers: npt.NDArray[np.uint8] = strip[..., np.newaxis] >> shifts & np.uint8((1 << bits) - 1)
    return numbers.reshape(len(strip), -1)


def _read_channel(values: npt.NDArray[np.uint32], mask: int) -> npt.NDArray[np.uint8]:
    """Return the bits under a mask, scaled to 0..255; no bits are 0."""
    if not mask:
        return np.zeros(values.shape, np.uint8)
    shift = (mask & -mask).bit_length() - 1
    width = mask.bit_length() - shift
    shift, width = (shift + width - 8, 8) if width > 8 else (shift, width)
    scale = (np.arange(1 << width) * 255 + ((1 << width) - 1) // 2) // ((1 << width) - 1)
    scaled: npt.NDArray[np.uint8] = scale.astype(np.uint8)[(values & mask) >> shift]
    return scaled
