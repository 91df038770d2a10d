"""The pictures that the benchmarks send: made of one shipped photo, the same to the byte every time."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

_PHOTO: Final = Path(__file__).resolve().parents[2] / "examples" / "astronaut.png"
_HEAD: Final = (123, 10, 323, 210)
"""The head with what is around it: left, top, right, bottom in px of the photo."""
_QUALITY: Final = 90


@dataclass(frozen=True)
class Workload:
    """One kind of picture."""

    name: str
    description: str
    image: bytes
    """A JPEG file."""
    faces: int
    """How many faces are in it."""


def make_workloads() -> tuple[Workload, ...]:
    """Face crop, small photo, large photo, five faces."""
    return tuple(
        Workload(name, description, _encode(make()), faces) for name, (description, faces, make) in _MAKERS.items()
    )


def _face_crop() -> Image.Image:
    return _head(224)


def _small_photo() -> Image.Image:
    return _scene((640, 480), [(250, 110, 200)])


def _large_photo() -> Image.Image:
    return _scene((4000, 3000), [(500, 700, 900), (1700, 500, 1000), (2900, 900, 800)])


def _five_faces() -> Image.Image:
    return _scene((1280, 720), [(60 + 240 * i, 200 + 40 * (i % 2), 200) for i in range(5)])


_MAKERS: Final[Mapping[str, tuple[str, int, Callable[[], Image.Image]]]] = {
    "w1": ("face crop, 224x224", 1, _face_crop),
    "w2": ("one face, 640x480", 1, _small_photo),
    "w3": ("three faces, 4000x3000", 3, _large_photo),
    "w4": ("five faces, 1280x720", 5, _five_faces),
}


def _scene(size: tuple[int, int], places: list[tuple[int, int, int]]) -> Image.Image:
    """Heads (left, top, side) before a background with as much detail as a photo's."""
    rng = np.random.default_rng(0)
    width, height = size
    coarse = rng.integers(60, 200, (height // 40, width // 40, 3), np.uint8)
    scene = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    grain = rng.normal(0, 4, (height, width, 1))
    scene = Image.fromarray(np.clip(np.asarray(scene) + grain, 0, 255).astype(np.uint8))
    for left, top, side in places:
        scene.paste(_head(side), (left, top))
    return scene


def _head(side: int) -> Image.Image:
    with Image.open(_PHOTO) as photo:
        return photo.convert("RGB").crop(_HEAD).resize((side, side), Image.Resampling.BICUBIC)


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
