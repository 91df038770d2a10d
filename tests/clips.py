"""Videos that tests read, written here frame by frame, and the faces that a server would see in them."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
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


def write_clip(
    path: Path,
    pictures: Iterable[Picture],
    rate: float = 30,
    codec: str = "mpeg4",
    *,
    pixel_format: str = "yuv420p",
    times_s: Sequence[float] | None = None,
    aspect: Fraction | None = None,
    turned: tuple[float, bool, bool] | None = None,
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
    container: str | None = None,
) -> Path:
    """Write a video file of these frames.

    Args:
        path: Where it goes.
        pictures: BGR, all of one size.
        rate: Frames per second.
        codec: FFmpeg's name of the encoder.
        pixel_format: Of the frames that are encoded.
        times_s: When each frame is shown; None for one after the other.
        aspect: Width of a pixel by its height, as the file says.
        turned: By how many degrees a player turns the frames, counterclockwise, and whether it then mirrors them
            horizontally and vertically.
        options: Of the encoder. Without, frames are of high quality with a key frame every 12.
        muxing: Options of the container.
        container: FFmpeg's name of the format; None goes by the file's name.
    """
    with av.open(str(path), "w", format=container, options=muxing or {}) as file:
        stream: Any = file.add_stream(codec, rate=Fraction(rate).limit_denominator(1000))
        stream.options = {"q:v": "2", "g": "12", "flags": "+qscale", "global_quality": "236", **(options or {})}
        stream.pix_fmt = pixel_format
        time_base = Fraction(1, 1000) if times_s is not None else None
        if time_base:
            stream.codec_context.time_base = time_base
        for index, picture in enumerate(pictures):
            if not index:
                stream.height, stream.width = picture.shape[:2]
                if aspect:
                    stream.codec_context.sample_aspect_ratio = aspect
                if turned:
                    stream.set_display_rotation(*turned)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="bgr24")
            if time_base and times_s is not None:
                frame.pts, frame.time_base = round(times_s[index] / time_base), time_base
            else:
                frame.pts, frame.time_base = index, 1 / Fraction(rate).limit_denominator(1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def write_changing_clip(
    path: Path, parts: Sequence[tuple[Sequence[Picture], str]], codec: str, options: dict[str, str] | None = None
) -> Path:
    """Write a video file whose stream changes midway, while the header tells of the first part alone.

    Args:
        path: Where it goes.
        parts: Pictures, BGR, and the pixel format in which they are encoded.
        codec: FFmpeg's name of the encoder.
        options: Of the encoder.
    """
    rate = 30
    height, width = parts[0][0][0].shape[:2]
    with av.open(str(path), "w") as file:
        stream = file.add_mux_stream(codec, rate=rate, width=width, height=height)
        number = 0
        for pictures, pixel_format in parts:
            encoder: Any = av.CodecContext.create(codec, "w")
            encoder.height, encoder.width = pictures[0].shape[:2]
            encoder.pix_fmt, encoder.time_base, encoder.options = pixel_format, Fraction(1, rate), options or {}
            frames = [av.VideoFrame.from_ndarray(np.ascontiguousarray(each), format="bgr24") for each in pictures]
            for frame in [*(frame.reformat(format=pixel_format) for frame in frames), None]:
                for packet in encoder.encode(frame):
                    packet.pts = packet.dts = number
                    packet.time_base, packet.stream = Fraction(1, rate), stream
                    file.mux(packet)
                    number += 1
    return path


def read_clip(path: Path) -> list[Picture]:
    """All frames of a video file, BGR."""
    with av.open(str(path)) as file:
        return [np.asarray(frame.to_ndarray(format="bgr24"), np.uint8) for frame in file.decode(video=0)]


def times_of(path: Path) -> list[float]:
    """When the frames of a video file are shown, in seconds."""
    with av.open(str(path)) as file:
        return [float(frame.time or 0) for frame in file.decode(video=0)]


def rewrite(path: Path, source: Path, stamps: Any = lambda packet: (packet.pts, packet.dts), **options: str) -> Path:
    """Copy the packets of a video without decoding them, into a container of another kind perhaps.

    Args:
        path: Where the copy goes.
        source: What is copied.
        stamps: Gives each packet's pts and dts in the copy, by the packet; None leaves the packet out.
        options: Of the container.
    """
    with av.open(str(source)) as old, av.open(str(path), "w", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is None or (given := stamps(packet)) is None:
                continue
            packet.pts, packet.dts = given
            packet.stream = stream
            new.mux(packet)
    return path


def moving(
    picture: Picture, offsets: Sequence[tuple[float, float]], size: tuple[int, int] = (320, 240)
) -> list[Picture]:
    """Frames of `size` (width, height) in which a picture is seen at each of these offsets in turn, in px."""
    return [
        np.asarray(
            cv2.warpAffine(picture, np.array([[1, 0, x], [0, 1, y]], np.float64), size, borderValue=(90, 110, 100))
        )
        for x, y in offsets
    ]


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
