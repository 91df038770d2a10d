"""The orientation in an EXIF block, and nothing else of it. Used by `fer_images`."""

import struct
from typing import Final

UPRIGHT: Final = 1
_ORIENTATION: Final = 0x0112
_MAX_ENTRIES: Final = 1000
"""Cameras write about 20 into the first directory."""
_INTEGERS: Final = {1: "B", 3: "H", 4: "I"}
"""TIFF's type -> struct's, of a number that fits into an entry. The standard says 3; some editors write the others."""


def read_orientation(exif: bytes) -> int:
    """Return the orientation that a block of EXIF asks for.

    Only the first directory is looked at, no further offset is followed, and whatever is damaged counts as absent: the
    picture itself is good.

    Args:
        exif: A TIFF structure, with or without `Exif` and two zeros in front of it.

    Returns:
        1..8 as in Exif 2.32, tag 274; 1, which is upright, where there is none or it cannot be read.
    """
    tiff = exif[6:] if exif.startswith(b"Exif\0") else exif
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return UPRIGHT
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * min(count, _MAX_ENTRIES), 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, entry)
            if tag == _ORIENTATION:
                (value,) = struct.unpack_from(order + _INTEGERS[kind], tiff, entry + 8)
                return int(value) if 1 <= value <= 8 else UPRIGHT
    except (struct.error, KeyError):
        pass
    return UPRIGHT
