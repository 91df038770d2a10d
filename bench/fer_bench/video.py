"""What a frame of video costs the client: reading it beside OpenCV, and encoding it with one codec beside another.

Everything is measured in turn, several rounds of it, as CPU time of this process: the fewest ms a frame count. Without
a clip, one of 720p and two seconds is made.
"""

import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
import numpy.typing as npt

from fer_bench.command import format_markdown, make_parser, run
from fer_bench.machine import describe_machine
from fer_client.video.annotated import CODEC, ENCODER_OPTIONS
from fer_client.video.frames import JPEG_QUALITY, VideoSource

Pictures = list[npt.NDArray[np.uint8]]
"""RGB, (height, width, 3)."""

ENCODERS: Final = {
    "VP9, as the client": (CODEC, ENCODER_OPTIONS),
    "VP9, speed 6": (CODEC, {**ENCODER_OPTIONS, "cpu-used": "6"}),
    "H.264, x264 veryfast": ("libx264", {"preset": "veryfast", "crf": "23"}),
    "AV1, SVT preset 12": ("libsvtav1", {"preset": "12", "crf": "35", "svtav1-params": "lp=1"}),
    "MPEG-4 part 2": ("mpeg4", {"b": "4000000"}),
}
"""FFmpeg's name of the encoder and its options, by the name in the table."""
RATE: Final = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand. Return its exit code."""
    parser = make_parser("video", "Measure what a frame of video costs the client.", rounds=5)
    parser.add_argument("clip", nargs="?", type=Path, help="a video file; default: one is made")
    options = parser.parse_args(arguments)
    return run(parser, options, lambda: _run(options.clip, options.rounds))


def _run(clip: Path | None, rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="fer-bench-") as name:
        folder = Path(name)
        clip = clip or _make_clip(folder / "made.mp4")
        with av.open(str(clip)) as file:
            pictures = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in file.decode(video=0)]
        works = {
            "read by OpenCV": partial(_read_by_opencv, clip),
            "read by the client": partial(_read_by_client, clip),
            **{f"written as {kind}": partial(_write, folder / f"{kind}.mp4", pictures, kind) for kind in ENCODERS},
        }
        fewest = dict.fromkeys(works, float("inf"))
        for _ in range(rounds):
            for work, do in works.items():
                before_s = time.process_time()
                do()
                fewest[work] = min(fewest[work], time.process_time() - before_s)
        rows = []
        for work, seconds in fewest.items():
            written = folder / f"{work.removeprefix('written as ')}.mp4"
            size = f"{written.stat().st_size / 1000 / len(pictures):.1f}" if written.is_file() else ""
            rows.append([work, f"{1000 * seconds / len(pictures):.2f}", size])
    height, width = pictures[0].shape[:2]
    print(format_markdown(["", "ms of CPU per frame", "kB per frame"], rows))
    print(f"\n{describe_machine()}, PyAV {version('av')}; {len(pictures)} frames of {width}x{height} px.")


def _read_by_opencv(clip: Path) -> None:
    """Read each frame and make a JPEG of it, as the client once did."""
    capture = cv2.VideoCapture(str(clip), cv2.CAP_FFMPEG)
    while capture.grab():
        cv2.imencode(".jpg", capture.retrieve()[1], (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    capture.release()


def _read_by_client(clip: Path) -> None:
    with VideoSource(str(clip)) as source:
        for _ in source.frames():
            pass


def _write(path: Path, pictures: Pictures, kind: str) -> None:
    """Write all pictures in one thread."""
    codec, options = ENCODERS[kind]
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream(codec, rate=RATE, options=dict(options))
        stream.height, stream.width = (2 * (length // 2) for length in pictures[0].shape[:2])
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def _make_clip(path: Path) -> Path:
    """Write two seconds of 720p: a picture of many details that moves."""
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 256, (80, 140, 3), np.uint8), (1400, 800), interpolation=cv2.INTER_CUBIC)
    views = [np.ascontiguousarray(picture[number // 2 :, number:][:720, :1280]) for number in range(2 * RATE)]
    _write(path, views, "H.264, x264 veryfast")
    return path
