"""Arrays and Pillow images of any kind, turned into 8-bit pixels. Used by `_images`, which writes them into a file.

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

import struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

_ORIENTATION: Final = 0x0112
_HALF_A_LEVEL: Final = 0.5 / 255
"""How far beyond 0..1 a number may lie and still round to a level from 0 to 255."""


def from_array(array: NDArray[Any], channels: str | None) -> NDArray[np.uint8]:
    """The pixels of an array.

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
    """The pixels of a Pillow image, upright.

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
    """What to do about the commonest other shapes."""
    if len(shape) == 4:
        return "; send one picture at a time, array[0] of a batch"
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return "; put the channels last by array.transpose(1, 2, 0)"
    return ""


def _levels(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Values scaled to 0..255. `name` is what the message of a ValueError calls them."""
    import numpy as np  # Not at the top, so that `import fer_client` stays light.

    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "u" and size == 1:
        return np.asarray(values, np.uint8)
    if kind == "b":
        return np.where(values, np.uint8(255), np.uint8(0))
    if kind == "f":
        _require(values, 0.0, 1.0, _HALF_A_LEVEL, name, "scale them to that first")
        return np.asarray(np.rint(np.clip(values, 0, 1) * 255), np.uint8)
    if kind == "u" and size == 2:
        return (values >> 8).astype(np.uint8)
    if kind in "iu" and size > 2:
        _require(values, 0, 65_535, 0, name, "scale them to that first")
        if 0 < (highest := int(values.max())) < 256:
            raise ValueError(
                f"{name} of {values.dtype} with values up to {highest}: they could be of 8 or of 16 bits; say which "
                "by numpy.asarray(image).astype('uint8') or .astype('uint16')"
            )
        return (values >> 8).astype(np.uint8)
    raise ValueError(
        f"{name} of {values.dtype}: expected uint8 (0..255), uint16 (0..65535), bool, or float32 or float64 (0..1)"
    )


def _require(values: NDArray[Any], lowest: float, highest: float, slack: float, name: str, remedy: str) -> None:
    low, high = values.min(), values.max()
    if not (low >= lowest - slack and high <= highest + slack):  # Not a number is neither.
        raise ValueError(
            f"{name} of {values.dtype} with values from {low:g} to {high:g}: expected {lowest:g}..{highest:g}; {remedy}"
        )


def _on_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours with alpha, (height, width, 4), as they are seen on white: (height, width, 3)."""
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
    """What the EXIF data say; 1, upright, where they cannot be read."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (LookupError, OSError, SyntaxError, TypeError, ValueError, Warning, struct.error):
        return 1
