"""Videos that tests read, written here frame by frame, and the faces that a server would see in them."""

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fer_client import Box, Face, Landmarks, Point

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

Picture = npt.NDArray[np.uint8]

SCENERY_PX = 400


def scenery(seed: int = 0) -> Picture:
    """A picture of 400x400 px, BGR, that is plain in no part and repeats nothing; each seed has its own colours."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 9, 3), np.uint8) // 2 + rng.integers(0, 128, 3, np.uint8)
    return np.asarray(cv2.resize(coarse, (SCENERY_PX, SCENERY_PX), interpolation=cv2.INTER_CUBIC))


def write_clip(path: Path, pictures: Iterable[Picture], rate: float = 30, codec: str = "mp4v") -> Path:
    """A video file of these frames, BGR, all of one size."""
    writer: Any = None
    for picture in pictures:
        if writer is None:
            size = (picture.shape[1], picture.shape[0])
            writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), rate, size)
            assert writer.isOpened()
        writer.write(picture)
    writer.release()
    return path


def read_clip(path: Path) -> list[Picture]:
    """All frames of a video file, BGR."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        is_there, frame = capture.read()
        if not is_there:
            capture.release()
            return frames
        frames.append(np.asarray(frame))


def moving(
    picture: Picture, offsets: Sequence[tuple[float, float]], size: tuple[int, int] = (320, 240)
) -> list[Picture]:
    """Frames of `size` (width, height) in which a picture is seen at each of these offsets in turn, in px."""
    return [
        cv2.warpAffine(picture, np.array([[1, 0, x], [0, 1, y]], np.float64), size, borderValue=(90, 110, 100))
        for x, y in offsets
    ]


def set_durations(path: Path, shares: Sequence[float]) -> None:
    """Let the frames of an MP4 file of `write_clip` last for different times, as those of phones and screens do.

    Only the table of durations (`stts`) is replaced. It lies behind the pictures, so they stay where they are.

    Args:
        path: The file.
        shares: For each frame, how long it lasts, as a multiple of what it was. Their mean is 1: the length stays.
    """
    content = path.read_bytes()
    assert sum(shares) == len(shares)
    (ticks,) = struct.unpack_from(">I", content, content.index(b"stts") + 16)
    entries = b"".join(struct.pack(">II", 1, round(ticks * share)) for share in shares)
    table = struct.pack(">4sII", b"stts", 0, len(shares)) + entries
    path.write_bytes(_replaced(content, (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"), table))


def turn_by_quarter(path: Path) -> None:
    """Mark an MP4 file as one that players have to turn clockwise by 90 degrees, as an upright phone does."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40  # Version 0: the matrix comes after 40 bytes of flags, times and the like.
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(content))


def index_first(path: Path) -> None:
    """Put an MP4 file's index before its pictures, as for the web: what is cut off then still opens."""
    content = path.read_bytes()
    boxes, position = [], 0
    while position < len(content):
        size, kind = struct.unpack_from(">I4s", content, position)
        boxes.append((kind, content[position : position + size]))
        position += size
    (index,) = (data for kind, data in boxes if kind == b"moov")
    chunks = index.index(b"stco")
    (count,) = struct.unpack_from(">I", index, chunks + 8)
    moved = [offset + len(index) for offset in struct.unpack_from(f">{count}I", index, chunks + 12)]
    index = index[: chunks + 12] + struct.pack(f">{count}I", *moved) + index[chunks + 12 + 4 * count :]
    first, others = boxes[0][1], [data for kind, data in boxes[1:] if kind != b"moov"]
    path.write_bytes(first + index + b"".join(others))


def face_at(x: float, y: float, size: float = 100, happy: float = 0.7) -> Face:
    """A face whose box has this upper left corner and this width and height, in px."""
    places = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
    other = (1 - happy) / (len(LABELS) - 1)
    return Face(
        box=Box(x, y, x + size, y + size),
        landmarks=Landmarks(*(Point(x + size * across, y + size * down) for across, down in places)),
        detection_score=0.9,
        probabilities={label: happy if label == "happy" else other for label in LABELS},
        uncertain=False,
    )


def _replaced(content: bytes, path: Sequence[bytes], replacement: bytes) -> bytes:
    """The boxes of an MP4 file, where the payload of the first one at `path` is replaced, its name included."""
    result, position = b"", 0
    while position < len(content):
        size, kind = struct.unpack_from(">I4s", content, position)
        box = content[position : position + size]
        if kind == path[0]:
            inner = replacement[4:] if len(path) == 1 else _replaced(box[8:], path[1:], replacement)
            box = struct.pack(">I4s", 8 + len(inner), kind) + inner
        result += box
        position += size
    return result
