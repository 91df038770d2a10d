"""Pictures made of one shipped photo and random numbers, the same to the byte for the same seed.

Workloads are what the benchmarks send. Scenes have faces at chosen sizes, and busy pictures have none: the detector is
tried on both. Their pixels are uint8, (height, width, 3), BGR, 0..255.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from fer_build.release import EXAMPLE_PHOTO

Picture = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]

JPEG_QUALITY: Final = 90
_HEAD: Final = (123, 10, 323, 210)
"""The head with what is around it: left, top, right, bottom in px of the photo."""
_FACE: Final = (179, 62, 267, 173)
"""The face in it, as a detector frames it."""
_BUSY_SIZES: Final = ((640, 480), (480, 640), (512, 512), (1280, 720), (320, 240), (1920, 1080))
_TRIES: Final = 200


@dataclass(frozen=True)
class Workload:
    """One kind of picture that is sent."""

    name: str
    description: str
    image: bytes
    """A JPEG file."""
    faces: int
    """How many faces are in it."""


def make_workload(name: str) -> Workload:
    """Make one of `WORKLOADS`: a face crop (w1), a small photo (w2), a large photo (w3) or five faces (w4)."""
    description, faces, make = WORKLOADS[name]
    return Workload(name, description, _encode(make()), faces)


def _face_crop() -> Image.Image:
    return _head(224)


def _small_photo() -> Image.Image:
    return _scene((640, 480), [(250, 110, 200)])


def _large_photo() -> Image.Image:
    return _scene((4000, 3000), [(500, 700, 900), (1700, 500, 1000), (2900, 900, 800)])


def _five_faces() -> Image.Image:
    return _scene((1280, 720), [(60 + 240 * i, 200 + 40 * (i % 2), 200) for i in range(5)])


WORKLOADS: Final[Mapping[str, tuple[str, int, Callable[[], Image.Image]]]] = {
    "w1": ("face crop, 224x224", 1, _face_crop),
    "w2": ("one face, 640x480", 1, _small_photo),
    "w3": ("three faces, 4000x3000", 3, _large_photo),
    "w4": ("five faces, 1280x720", 5, _five_faces),
}
"""Description, number of faces and maker of each workload. The large one takes a second to make."""


def _scene(size: tuple[int, int], places: list[tuple[int, int, int]]) -> Image.Image:
    """Paste heads (left, top, side) into a background with as much detail as a photo's."""
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
    with Image.open(EXAMPLE_PHOTO) as photo:
        return photo.convert("RGB").crop(_HEAD).resize((side, side), Image.Resampling.BICUBIC)


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


@dataclass(frozen=True)
class Scene:
    """A picture and the faces in it."""

    picture: Picture
    boxes: tuple[Box, ...]
    """Left, top, right, bottom of each face, in px."""


def make_scene(seed: int, width: int, height: int, face_px: int, faces: int = 10) -> Scene:
    """Paste heads at random places of a random background, none over another.

    Args:
        seed: The same seed makes the same picture.
        width: Of the picture, in px.
        height: Of the picture, in px.
        face_px: Height of each face, as a detector frames it, in px.
        faces: How many heads.

    Raises:
        ValueError: There is no room for so many heads.
    """
    rng = np.random.default_rng(seed)
    picture = _background(rng, width, height)
    photo = read_photo()
    head = photo[_HEAD[1] : _HEAD[3], _HEAD[0] : _HEAD[2]]
    scale = face_px / (_FACE[3] - _FACE[1])
    side = max(1, round(len(head) * scale))
    head = np.asarray(cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))
    corners: list[tuple[int, int]] = []
    for _ in range(_TRIES * faces):
        x, y = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        if len(corners) < faces and all(abs(x - a) > side or abs(y - b) > side for a, b in corners):
            corners.append((x, y))
            picture[y : y + side, x : x + side] = head
    if len(corners) < faces:
        raise ValueError(f"{faces} heads of {side} px find no room in {width}x{height} px")
    inside = [(place - _HEAD[axis % 2]) * scale for axis, place in enumerate(_FACE)]
    boxes = [(x + inside[0], y + inside[1], x + inside[2], y + inside[3]) for x, y in corners]
    return Scene(picture, tuple(boxes))


def make_busy_picture(seed: int) -> Picture:
    """Make a picture without a face: by the seed a texture, text, a drawing, ellipses or a photo's shuffled tiles."""
    rng = np.random.default_rng(seed)
    makers = (_texture, _text, _drawing, _ellipses, _tiles)
    width, height = _BUSY_SIZES[rng.integers(len(_BUSY_SIZES))]
    return makers[seed % len(makers)](rng, width, height)


def read_photo() -> Picture:
    """Return the shipped photo, uint8, (512, 512, 3), BGR."""
    with Image.open(EXAMPLE_PHOTO) as photo:
        return np.ascontiguousarray(np.asarray(photo.convert("RGB"))[..., ::-1])


def _background(rng: np.random.Generator, width: int, height: int) -> Picture:
    """Return coarse spots or fine ones, with grain."""
    grid = int(rng.choice([10, 40, 160]))
    spots = rng.integers(40, 220, (height // grid + 1, width // grid + 1, 3)).astype(np.float32)
    smooth = cv2.resize(spots, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 4, (height, width, 1)), 0, 255).astype(np.uint8)


def _plain(rng: np.random.Generator, width: int, height: int) -> Picture:
    return np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    blue, green, red = rng.integers(0, 256, 3)
    return int(blue), int(green), int(red)


def _texture(rng: np.random.Generator, width: int, height: int) -> Picture:
    total = np.zeros((height, width, 3), np.float32)
    for grid in (2, 4, 8, 16, 32, 64):
        noise = rng.normal(0, 1, (height // grid + 2, width // grid + 2, 3)).astype(np.float32)
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) * grid ** rng.uniform(0.2, 0.8)
    return np.asarray(np.clip(128 + 50 * total / total.std(), 0, 255), np.uint8)


def _text(rng: np.random.Generator, width: int, height: int) -> Picture:
    picture = _plain(rng, width, height)
    for _ in range(rng.integers(40, 160)):
        words = "".join(chr(letter) for letter in rng.integers(33, 127, rng.integers(2, 20)))
        corner = int(rng.integers(-20, width)), int(rng.integers(0, height))
        font, size, weight = int(rng.integers(0, 8)), float(rng.uniform(0.4, 3)), int(rng.integers(1, 5))
        cv2.putText(picture, words, corner, font, size, _colour(rng), weight, cv2.LINE_AA)
    return picture


def _drawing(rng: np.random.Generator, width: int, height: int) -> Picture:
    picture = _plain(rng, width, height)
    for _ in range(rng.integers(30, 150)):
        points = rng.integers(0, [width, height], (int(rng.integers(2, 6)), 2)).astype(np.int32)
        if rng.random() < 0.5:
            closed, weight = bool(rng.random() < 0.5), int(rng.integers(1, 8))
            cv2.polylines(picture, [points], closed, _colour(rng), weight, cv2.LINE_AA)
        else:
            cv2.fillPoly(picture, [points], _colour(rng), cv2.LINE_AA)
    return picture


def _ellipses(rng: np.random.Generator, width: int, height: int) -> Picture:
    picture = _plain(rng, width, height)
    for _ in range(rng.integers(50, 400)):
        centre = int(rng.integers(0, width)), int(rng.integers(0, height))
        axes = int(rng.integers(2, 60)), int(rng.integers(2, 60))
        weight = -1 if rng.random() < 0.7 else int(rng.integers(1, 5))
        cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, _colour(rng), weight, cv2.LINE_AA)
    return picture


def _tiles(rng: np.random.Generator, width: int, height: int) -> Picture:
    """Shuffle tiles of the photo. They are so small that none holds more than a third of its face."""
    photo, side = read_photo(), int(rng.choice([16, 24, 32]))
    rows, columns = len(photo) // side, photo.shape[1] // side
    picture = np.zeros((height, width, 3), np.uint8)
    for y in range(0, height, side):
        for x in range(0, width, side):
            top, left = side * int(rng.integers(rows)), side * int(rng.integers(columns))
            tile = np.rot90(photo[top : top + side, left : left + side], int(rng.integers(4)))
            picture[y : y + side, x : x + side] = tile[: height - y, : width - x]
    return picture
