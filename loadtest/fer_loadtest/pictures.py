"""The pictures that the load consists of: made of the shipped photo, or a user's own folder."""

from __future__ import annotations

import hashlib
import io
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from fer_commands.running import CommandError

NO_FACE: Final = "no face"
ONE_FACE: Final = "one face"
SEVERAL_FACES: Final = "several faces"
LARGE: Final = "12 megapixels"
CORRUPT: Final = "corrupt"

DEFAULT_MIX: Final[Mapping[str, float]] = {NO_FACE: 20, ONE_FACE: 50, SEVERAL_FACES: 20, LARGE: 9, CORRUPT: 1}
"""Default weight of each kind, in percent of the requests."""
MIX_NAMES: Final[Mapping[str, str]] = {
    "none": NO_FACE,
    "one": ONE_FACE,
    "several": SEVERAL_FACES,
    "large": LARGE,
    "corrupt": CORRUPT,
}
"""Kinds by their names on the command line."""
CORRUPT_SHARE: Final = 0.01
"""Share of corrupt files among the requests, where the pictures are a user's own."""

LARGE_PIXELS: Final = 10_000_000
_FOLDER_LIMIT: Final = 200
"""Most pictures of a folder that are used: each is sent once before the load, one after the other."""
_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
_HEAD: Final = (123, 10, 323, 210)
"""The head and its surroundings: left, top, right, bottom, in px of the shipped photo."""
_QUALITY: Final = 90
_IN_WHEEL: Final = Path(__file__).resolve().parents[1] / "fer_shipped"
"""Where an installed wheel has the rooms of a checkout; see pyproject.toml."""
SHIPPED_PHOTO: Final = (
    (_IN_WHEEL if _IN_WHEEL.is_dir() else Path(__file__).resolve().parents[2]) / "examples" / "astronaut.png"
)


@dataclass(frozen=True)
class Picture:
    """One file to send.

    Attributes:
        name: Name for people.
        kind: One of the kinds above. That of a user's own file is settled by the server's answer.
        content: Encoded file.
        faces: Number of faces in it; None where it is not known.
    """

    name: str
    kind: str
    content: bytes
    faces: int | None = None

    @property
    def digest(self) -> str:
        """Digest that tells whether two processes have the same file."""
        return hashlib.sha256(self.content).hexdigest()[:16]


def make_pictures(photo: Path = SHIPPED_PHOTO) -> list[Picture]:
    """Make pictures of every kind, the same to the byte wherever the versions of Pillow and NumPy are the same.

    Args:
        photo: The shipped photo.

    Raises:
        CommandError: The photo cannot be read.
    """
    try:
        with Image.open(photo) as opened:
            head = opened.convert("RGB").crop(_HEAD)
    except OSError as error:
        raise CommandError(
            f"cannot read {photo.name} ({error.strerror or error}): give --pictures DIR, or install fer-triton again"
        ) from error
    return list(_made_of(head))


def _made_of(head: Image.Image) -> Iterator[Picture]:
    scenes: tuple[tuple[str, tuple[int, int], list[list[tuple[int, int, int]]]], ...] = (
        (NO_FACE, (640, 480), [[], []]),
        (ONE_FACE, (640, 480), [[(250, 110, 200)], [(60, 40, 320)], [(380, 200, 150)]]),
        (
            SEVERAL_FACES,
            (1280, 720),
            [[(60 + 240 * i, 200 + 40 * (i % 2), 200) for i in range(5)], [(200, 150, 300), (700, 200, 260)]],
        ),
        (LARGE, (4000, 3000), [[(500, 700, 900), (1700, 500, 1000), (2900, 900, 800)]]),
    )
    seeds = itertools.count()
    for kind, size, layouts in scenes:
        for number, places in enumerate(layouts, 1):
            content = _encoded(_scene(size, places, head, next(seeds)))
            yield Picture(f"{kind} {number}", kind, content, len(places))
    whole = _encoded(_scene((640, 480), [(250, 110, 200)], head, next(seeds)))
    yield Picture("JPEG cut in half", CORRUPT, whole[: len(whole) // 2])
    yield Picture("HTML page", CORRUPT, b"<!doctype html><title>404</title><p>not found</p>" * 20)


def _scene(size: tuple[int, int], places: Sequence[tuple[int, int, int]], head: Image.Image, seed: int) -> Image.Image:
    """Draw heads (left, top, side) before a background that has about as much detail as that of a photo."""
    rng = np.random.default_rng(seed)
    width, height = size
    scene = Image.fromarray(rng.integers(60, 200, (height // 40, width // 40, 3), np.uint8))
    scene = scene.resize((width // 2, height // 2), Image.Resampling.BICUBIC)
    grain = rng.integers(-6, 7, (height // 2, width // 2, 1), np.int16)
    scene = Image.fromarray((np.asarray(scene, np.int16) + grain).clip(0, 255).astype(np.uint8))
    scene = scene.resize(size, Image.Resampling.BILINEAR)
    for left, top, side in places:
        scene.paste(head.resize((side, side), Image.Resampling.BICUBIC), (left, top))
    return scene


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def read_folder(folder: Path) -> list[Picture]:
    """Return a user's own pictures: all below a folder, or 200 evenly chosen where there are more.

    Three of them are also cut in half, to be sent as corrupt files.

    Raises:
        CommandError: The folder does not exist or has no pictures, or one of them cannot be read.
    """
    files = _picture_files(folder)
    step = max(1.0, len(files) / _FOLDER_LIMIT)
    chosen = [files[int(step * i)] for i in range(min(len(files), _FOLDER_LIMIT))]
    try:
        whole = [Picture(str(path.relative_to(folder)), ONE_FACE, path.read_bytes()) for path in chosen]
    except OSError as error:
        raise CommandError(f"--pictures {folder}: {error.filename} cannot be read ({error.strerror})") from error
    halves = [Picture(f"half of {one.name}", CORRUPT, one.content[: len(one.content) // 2]) for one in whole[:3]]
    return whole + halves


def describe_left_out(folder: Path) -> str:
    """Return how many of a folder's pictures `read_folder` uses; empty where it uses all. Raises as it does."""
    found = len(_picture_files(folder))
    if found <= _FOLDER_LIMIT:
        return ""
    return f"--pictures {folder}: {_FOLDER_LIMIT} of its {found} pictures are sent, evenly chosen"


def _picture_files(folder: Path) -> list[Path]:
    """Return the pictures below a folder, at least one, by name. Raises CommandError."""
    if not folder.is_dir():
        raise CommandError(f"--pictures {folder}: there is no such folder: give a folder of pictures")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not files:
        raise CommandError(f"--pictures {folder} has no pictures, expected files that end in {_listed(_SUFFIXES)}")
    return files


def kind_by_content(faces: int | None, width: int, height: int) -> str:
    """Return the kind of a picture from the server's answer; `faces` is None where the server refuses it."""
    if faces is None:
        return CORRUPT
    if width * height >= LARGE_PIXELS:
        return LARGE
    return NO_FACE if faces == 0 else ONE_FACE if faces == 1 else SEVERAL_FACES


class Mix:
    """Draws pictures at random, by weight.

    Attributes:
        shares: Share of each kind among the requests; they sum to 1.
    """

    def __init__(self, pictures: Sequence[Picture], shares: Mapping[str, float] | None, choice: random.Random) -> None:
        """Prepare to draw.

        Args:
            pictures: Pictures to draw from.
            shares: Weight of each kind; None sends all pictures equally often, but 1 % of corrupt files.
            choice: Source of the choices.

        Raises:
            CommandError: No kind that there is has a weight.
        """
        of_kind = {kind: sum(one.kind == kind for one in pictures) for kind in {one.kind for one in pictures}}
        if shares is None:
            whole = len(pictures) - of_kind.get(CORRUPT, 0)
            corrupt_share = CORRUPT_SHARE if whole else 1.0
            shares = {kind: (1 - corrupt_share) * count / max(whole, 1) for kind, count in of_kind.items()}
            shares[CORRUPT] = corrupt_share
        weights = [shares.get(one.kind, 0.0) / of_kind[one.kind] for one in pictures]
        total = sum(weights)
        if total <= 0:
            raise CommandError(f"--mix gives no weight to any kind that there is: expected one of {_listed(of_kind)}")
        self._pictures = list(pictures)
        self._cumulative = list(itertools.accumulate(weights))
        self._random = choice
        self.shares = {
            kind: sum(w for w, one in zip(weights, pictures, strict=True) if one.kind == kind) / total
            for kind in of_kind
        }

    def draw(self) -> Picture:
        """Return the next picture to send."""
        return self._random.choices(self._pictures, cum_weights=self._cumulative)[0]


def _listed(names: Iterator[str] | Sequence[str] | frozenset[str] | Mapping[str, int]) -> str:
    return ", ".join(sorted(names))
