"""What people have an image in, turned into the encoded file that the server is sent.

Files are sent as they are. Pixels are sent without loss, so that the same picture gets the same answer whatever is
installed: as BMP, which costs no time on either side, or as PNG where that would be too large for a server to take.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, TypeAlias, Union, cast, get_args

from fer_client._errors import ImageUnreadableError
from fer_client._pixels import from_array, from_pillow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

Channels = Literal["rgb", "bgr"]

ImageSource: TypeAlias = Union[
    str, "os.PathLike[str]", bytes, bytearray, memoryview, BinaryIO, "NDArray[Any]", "Image.Image"
]
"""A path, a file's content, a binary file, an array of pixels, or a Pillow image."""

_LARGEST_BMP_BYTES: Final = 16 * 2**20
"""Leaves room below the 20 MiB that the preprocessing accepts as it is shipped."""
_PNG_LEVEL: Final = 1
"""zlib's fastest. The default takes several times as long for a few percent."""
_EXPECTED: Final = "expected a path, bytes, a binary file, a NumPy array or a Pillow image"


def encoded(image: ImageSource, channels: Channels | None = None) -> bytes:
    """The image as one encoded file.

    Args:
        image: A path, the content of a file, a file open for reading bytes, or a Pillow image or an array as `_pixels`
            describes them.
        channels: Order of the colours of an array, which nothing else tells. Other images don't need it.

    Raises:
        ImageUnreadableError: The file, or the file behind a Pillow image, cannot be read.
        TypeError: It is nothing of the above.
        ValueError: An array or a Pillow image is no picture with a known range of values, or `channels` is missing or
            unknown.
    """
    if channels not in (None, *get_args(Channels)):
        raise ValueError(f"channels {channels!r}: expected 'rgb' or 'bgr'")
    if isinstance(image, bytes):
        return image
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return _file_content(image)
    if _is_instance(image, "numpy", "ndarray"):
        return _encode_array(cast("NDArray[Any]", image), channels)
    if _is_instance(image, "PIL.Image", "Image"):
        return _encode_pillow(cast("Image.Image", image))
    if hasattr(image, "read"):
        return _read(cast(BinaryIO, image))
    raise TypeError(f"image is a {type(image).__name__}: {_EXPECTED}")


def _is_instance(image: object, module: str, name: str) -> bool:
    """isinstance, without importing the module: who has such an image has imported it."""
    return module in sys.modules and isinstance(image, getattr(sys.modules[module], name))


def _file_content(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the name.
        raise _unreadable(os.fspath(path), error) from error


def _read(file: BinaryIO) -> bytes:
    name = str(getattr(file, "name", "the image"))
    try:
        content: object = file.read()
    except OSError as error:
        raise _unreadable(name, error) from error
    if not isinstance(content, bytes):
        raise TypeError(f"{name} gives {type(content).__name__} when read: open it for reading bytes, mode 'rb'")
    return content


def _unreadable(name: str, error: Exception) -> ImageUnreadableError:
    return ImageUnreadableError(name, getattr(error, "strerror", None) or str(error), getattr(error, "errno", None))


def _encode_array(array: NDArray[Any], channels: Channels | None) -> bytes:
    pixels = from_array(array, channels)
    if pixels.nbytes <= _LARGEST_BMP_BYTES:
        return encode_bmp(_swapped(pixels) if channels == "rgb" else pixels)
    return encode_png(_swapped(pixels) if channels == "bgr" else pixels)


def _encode_pillow(image: Image.Image) -> bytes:
    try:
        pixels = from_pillow(image)
    except (
        OSError,
        SyntaxError,
    ) as error:  # SyntaxError: Pillow says so of damaged PNG files, which it reads only now.
        raise _unreadable(str(getattr(image, "filename", "") or "the Pillow image"), error) from error
    return _encode_array(pixels, "rgb")


def _swapped(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB for BGR and the other way round; gray as it is."""
    if pixels.ndim == 2:
        return pixels
    import numpy as np  # Not at the top, so that `import fer_client` stays light.

    swapped = np.empty(pixels.shape, np.uint8)
    for channel in range(3):  # Three times as fast as copying pixels[:, :, ::-1].
        swapped[:, :, channel] = pixels[:, :, 2 - channel]
    return swapped


def encode_bmp(pixels: NDArray[np.uint8]) -> bytes:
    """Write a BMP file.

    Args:
        pixels: uint8, (height, width) gray or (height, width, 3) BGR, 0..255.

    Source: BITMAPFILEHEADER and BITMAPINFOHEADER. Rows run from the bottom up, each filled up to 4 bytes; 8 bits a
    pixel are places in a palette, here of 256 grays.
    """
    import numpy as np  # Not at the top, so that `import fer_client` stays light.

    height, width = pixels.shape[:2]
    row_bytes = pixels[0].size
    rows = np.zeros((height, -(-row_bytes // 4) * 4), np.uint8)
    rows[::-1, :row_bytes] = pixels.reshape(height, row_bytes)
    palette = b"" if pixels.ndim == 3 else bytes(gray for level in range(256) for gray in (level, level, level, 0))
    offset = 14 + 40 + len(palette)
    file_header = struct.pack("<2sIHHI", b"BM", offset + rows.size, 0, 0, offset)
    bits = 8 * row_bytes // width
    info_header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, rows.size, 0, 0, len(palette) // 4, 0)
    return b"".join((file_header, info_header, palette, rows.tobytes()))


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Write a PNG file.

    Args:
        pixels: uint8, (height, width) gray or (height, width, 3) RGB, 0..255.

    Source: PNG, third edition, 5 and 9. Filter 2 stores the difference to the row above, which compresses better.
    """
    import numpy as np  # Not at the top, so that `import fer_client` stays light.

    height, width = pixels.shape[:2]
    flat = pixels.reshape(height, -1)
    rows = np.empty((height, 1 + flat.shape[1]), np.uint8)
    rows[:, 0], rows[0, 1:] = 2, flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])  # Modulo 256, as the filter wants it.
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), _PNG_LEVEL)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
