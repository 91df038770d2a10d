"""Files that are no pictures, or no longer, or too large: each made of the shipped photo or drawn here."""

import io
from collections.abc import Callable

import numpy as np
from pictures import encode, png_file
from PIL import Image


def photo_as_jpeg(astronaut: bytes) -> bytes:
    return encode(Image.open(io.BytesIO(astronaut)).convert("RGB"), "JPEG")


BAD_FILES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda astronaut: b"",
    "random": lambda astronaut: np.random.default_rng(0).bytes(10_000),
    "HTML": lambda astronaut: b"<!doctype html><html><body>404 Not Found</body></html>",
    "GIF": lambda astronaut: encode(Image.new("P", (100, 100)), "GIF"),
    **{
        f"JPEG cut to {kept:.1%}": lambda astronaut, kept=kept: (data := photo_as_jpeg(astronaut))[
            : int(len(data) * kept)
        ]
        for kept in (0.001, 0.01, 0.1, 0.5, 0.9, 0.999)
    },
    "PNG cut in half": lambda astronaut: astronaut[: len(astronaut) // 2],
    "PNG that claims 60000x60000": lambda astronaut: png_file(60_000, 60_000, b""),
    "PNG that claims more than it has": lambda astronaut: png_file(1000, 1000, b""),
    "large PNG cut in half": lambda astronaut: (data := encode(Image.new("RGB", (8000, 6000), "teal")))[
        : len(data) // 2
    ],
    "PNG over the pixel limit": lambda astronaut: encode(Image.new("1", (10_000, 5_001))),
    "over the byte limit": lambda astronaut: astronaut + bytes(20 * 1024 * 1024),
}
"""What it is -> the file, made of the bytes of examples/astronaut.png."""
