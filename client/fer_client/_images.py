"""What people have an image in, turned into the encoded file that the server is sent.

Files are sent as they are. Pixels are sent without loss, so that the same picture gets the same answer whatever is
installed: as BMP, which costs no time on either side, or as PNG where that would be too large for a server to take.

Values are scaled by the range that their type has, never clipped. Where the type has none that everybody agrees on, or
values lie outside it, the image is refused, and the message says how to scale it.

    type of values                  Pillow's modes           range
    bool                            1                        False black, True white
    uint8                           most                     0..255
    uint16                          I;16, I;16B, I;16L, ...  0..65535; the upper 8 bits are sent, as the server keeps
                                                             those of a 16-bit file
    int32, uint32, int64, uint64    I                        0..65535, where a value above 255 shows that it is that;
                                                             0..255 could be the range of 8 bits as well
    float16, float32, float64       F                        0..1

Transparent images are seen on white, as the server sees those in files. Colour profiles are not applied, here as there.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, TypeAlias, Union, cast, get_args

from fer_client._errors import ImageUnreadableError

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
_ORIENTATION: Final = 0x0112
_HALF_A_LEVEL: Final = 0.5 / 255
"""How far beyond 0..1 a number may lie and still round to a level from 0 to 255."""
_EXPECTED: Final = "expected a path, bytes, a binary file, a NumPy array or a Pillow image"


def encode(image: ImageSource, channels: Channels | None = None) -> bytes:
    """Return the image as one encoded file.

    Args:
        image: A path, the content of a file, a file open for reading bytes, or a Pillow image or an array as the table
            above describes them.
        channels: Order of the colours of an array, which nothing else tells. Other images do not need it.

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
    """Do as isinstance, without importing the module: who has such an image has imported it."""
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
    except (OSError, SyntaxError) as error:  # SyntaxError: of damaged PNG files, which Pillow reads only now.
        raise _unreadable(str(getattr(image, "filename", "") or "the Pillow image"), error) from error
    return _encode_array(pixels, "rgb")


def _swapped(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return RGB for BGR and the other way round; gray as it is."""
    if pixels.ndim == 2:
        return pixels
    import numpy as np  # Not at the top, so that `import fer_client` stays light.

    swapped = np.empty(pixels.shape, np.uint8)
    for channel in range(3):  # Three times as fast as copying pixels[:, :, ::-1].
        swapped[:, :, channel] = pixels[:, :, 2 - channel]
    return swapped


def from_array(array: NDArray[Any], channels: str | None) -> NDArray[np.uint8]:
    """Return the pixels of an array.

    Args:
        array: (height, width) or (height, width, 1) gray, (height, width, 3) colours, or (height, width, 4) colours
            with alpha (0 transparent), of a type in the table above.
        channels: Order of the colours; None where nobody has said.

    Returns:
        uint8, (height, width) gray or (height, width, 3) in the order of `channels`, 0..255.

    Raises:
        ValueError: It has another shape, or its values have no range that is known, or there are colours and
            `channels` is None.
    """
    shape = array.shape
    if array.ndim not in (2, 3) or shape[2:] not in ((), (1,), (3,), (4,)) or 0 in shape:
        expected = "expected (height, width), or (height, width, C) with C of 1, 3 or 4"
        raise ValueError(f"array of shape {shape}: {expected}{_way_out(shape)}")
    if shape[2:] in ((3,), (4,)) and channels is None:
        raise ValueError("array of colours: say channels='rgb' or, as OpenCV reads pictures, channels='bgr'")
    levels = _levels(array, "array")
    if shape[2:] == (4,):
        return _on_white(levels)
    return levels[:, :, 0] if shape[2:] == (1,) else levels


def from_pillow(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of a Pillow image, upright.

    A picture that is as it was opened is turned as its EXIF data say now. One that Pillow has made of another (rotate,
    transpose, crop, resize, convert, copy) is taken as its pixels are, as Pillow shows and saves it: it has a copy of
    the EXIF data, which say what was to be done with the file, and nothing tells whether that has been done. The two
    are told apart by `image.format`, which Pillow sets to None in what it makes. What changes a picture in place
    (thumbnail, draft, exif_transpose) leaves it to be turned as its EXIF data say then.

    Returns:
        uint8, (height, width) gray or (height, width, 3) RGB, 0..255.

    Raises:
        OSError: The file behind the image is damaged. Pillow says SyntaxError of some.
        ValueError: It has no pixels, or values without a range that is known, or a mode that is no picture.
    """
    import numpy as np  # Not at the top, so that `import fer_client` stays light.

    image.load()  # First: Pillow turns TIFF files when it loads them.
    if 0 in image.size:
        raise ValueError(f"Pillow image of {image.width} x {image.height} px: expected 1 or more")
    upright = _upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(upright)
        levels = _levels(values, f"Pillow image of mode {image.mode!r}")
        if isinstance(key := image.info.get("transparency"), int):
            levels[values == key] = 255
        return levels
    try:
        if upright.mode == "La":  # Multiplied by alpha, as RGBa is; Pillow converts it to this mode only.
            upright = upright.convert("LA")
        if upright.has_transparency_data:
            return _on_white(np.asarray(upright.convert("RGBA")))
        return np.asarray(upright.convert("L" if upright.mode in ("1", "L") else "RGB"))
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"Pillow image of mode {image.mode!r}: convert it by image.convert('RGB') ({error})"
        ) from error


def _way_out(shape: tuple[int, ...]) -> str:
    """Say what to do about the commonest other shapes."""
    if len(shape) == 4:
        return "; send one picture at a time, array[0] of a batch"
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return "; put the channels last by array.transpose(1, 2, 0)"
    return ""


def _levels(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Scale values to 0..255. `name` is what the message of a ValueError calls them."""
    import numpy as np  # Not at the top, so that `import fer_client` stays light.

    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "u" and size == 1:
        return np.asarray(values, np.uint8)
    if kind == "b":
        return np.where(values, np.uint8(255), np.uint8(0))
    if kind == "f":
        _require(values, 0.0, 1.0, _HALF_A_LEVEL, name)
        return np.asarray(np.rint(np.clip(values, 0, 1) * 255), np.uint8)
    if kind == "u" and size == 2:
        return (values >> 8).astype(np.uint8)
    if kind in "iu" and size > 2:
        _require(values, 0, 65_535, 0, name)
        if 0 < (highest := int(values.max())) < 256:
            raise ValueError(
                f"{name} of {values.dtype} with values up to {highest}: they could be of 8 or of 16 bits; say which "
                "by numpy.asarray(image).astype('uint8') or .astype('uint16')"
            )
        return (values >> 8).astype(np.uint8)
    raise ValueError(
        f"{name} of {values.dtype}: expected uint8 (0..255), uint16 (0..65535), bool, or float32 or float64 (0..1)"
    )


def _require(values: NDArray[Any], lowest: float, highest: float, slack: float, name: str) -> None:
    low, high = values.min(), values.max()
    if not (low >= lowest - slack and high <= highest + slack):  # Not a number is neither.
        raise ValueError(
            f"{name} of {values.dtype} with values from {low:g} to {high:g}: expected {lowest:g}..{highest:g}; "
            "scale them to that first"
        )


def _on_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return colours with alpha, (height, width, 4), as they are seen on white: (height, width, 3)."""
    import numpy as np  # Not at the top, so that `import fer_client` stays light.

    colours, alpha = pixels[:, :, :3], pixels[:, :, 3:]
    if alpha.min() == 255:
        return colours
    # The same rounding as the server's. 255 * 255 + 127 fits 16 bits.
    darkened = ((255 - colours) * alpha.astype(np.uint16) + 127) // 255
    return np.asarray(255 - darkened, np.uint8)


def _upright(image: Image.Image) -> Image.Image:
    from PIL import Image  # Not at the top, so that `import fer_client` stays light.

    turn = Image.Transpose
    turns = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }  # Source: EXIF 2.32, 4.6.4 A, Orientation.
    how = None if image.format is None else turns.get(_orientation(image))
    return image if how is None else image.transpose(how)


def _orientation(image: Image.Image) -> int:
    """Return what the EXIF data say; 1, upright, where they cannot be read."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (LookupError, OSError, SyntaxError, TypeError, ValueError, Warning, struct.error):
        return 1


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
