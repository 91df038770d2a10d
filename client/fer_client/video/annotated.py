"""Writes a video with its faces drawn: boxes in place, the probabilities on a panel beside them."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fer_client._results import ImageSize
from fer_client.video.errors import VideoError
from fer_client.video.opencv import load_opencv
from fer_client.video.sightings import Sighting

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXTENSION: Final = ".mp4"

_CODEC: Final = "mp4v"
"""MPEG-4 part 2. OpenCV's wheels have no encoder for H.264, and the one for VP9 takes a hundred times as long (0.5 s
for a frame of 640x360 px). VLC, mpv and FFmpeg play it; browsers do not."""
_LOWEST_RATE: Final = 5.0
"""Frames per second. Players jump through a video with fewer; each frame is repeated instead."""


def require_pillow() -> None:
    """Find out whether Pillow is there, without loading it.

    Raises:
        VideoError: It is not.
    """
    if importlib.util.find_spec("PIL") is None:
        raise VideoError("drawing needs Pillow: pip install pillow")


class AnnotatedVideo:
    """An MP4 file at a constant rate. It keeps the time of what it shows: frames that last longer are repeated.

    The file grows under another name, and gets its own when it is closed.
    """

    def __init__(self, path: Path, frame_rate: float, size: ImageSize, labels: tuple[str, ...]) -> None:
        """Start the file.

        Args:
            path: Where it goes; ends in `.mp4`.
            frame_rate: Frames that are added per second of the video, usually.
            size: Of the frames.
            labels: The model's, in order.

        Raises:
            VideoError: Pillow or OpenCV is missing, or the file cannot be written.
        """
        require_pillow()
        from fer_client.video.drawing import FrameDrawing  # Not at the top: it needs Pillow.

        self._cv2 = load_opencv()
        self._path = path
        self._partial = path.with_name(f".{path.stem}.{os.getpid()}.part{EXTENSION}")
        # Two decimals can be written exactly as a fraction that MPEG-4 allows.
        self._rate = round(frame_rate * max(1, math.ceil(_LOWEST_RATE / frame_rate)), 2)
        self._drawing = FrameDrawing(size, labels)
        self._writer: Any = self._cv2.VideoWriter(
            str(self._partial.absolute()),
            self._cv2.CAP_FFMPEG,
            self._cv2.VideoWriter_fourcc(*_CODEC),
            self._rate,
            self._drawing.canvas_size,
        )
        if not self._writer.isOpened():
            self._remove_partial()
            raise VideoError(f"cannot write {path}: OpenCV cannot start an MP4 file there")
        self._start_s: float | None = None
        self._last: NDArray[np.uint8] | None = None
        self._written = 0

    def add(self, jpeg: bytes, sighting: Sighting) -> None:
        """Draw the next frame.

        Args:
            jpeg: The frame.
            sighting: What was seen in it.
        """
        if self._start_s is None:
            self._start_s = sighting.time_s
        due = round((sighting.time_s - self._start_s) * self._rate)
        while self._last is not None and self._written < due:
            self._write(self._last)
        self._last = self._drawing.draw(jpeg, sighting)
        if self._written <= due:  # Else it comes sooner than the rate allows: the next one is shown in its place.
            self._write(self._last)

    def close(self) -> None:
        """Complete the file. Closing twice is fine.

        Raises:
            VideoError: Not all of it could be written, as on a full disk.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        try:
            if self._written:  # OpenCV does not say when it cannot write.
                self._check()
                self._partial.replace(self._path)
        except OSError as error:
            raise VideoError(f"cannot write {self._path}: {error.strerror}") from error
        finally:
            self._remove_partial()

    def _write(self, canvas: NDArray[np.uint8]) -> None:
        self._writer.write(canvas)
        self._written += 1

    def _check(self) -> None:
        capture = self._cv2.VideoCapture(str(self._partial.absolute()), self._cv2.CAP_FFMPEG)
        frames = int(capture.get(self._cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if frames < self._written:  # One more is fine: Ctrl-C can come between a frame and its count.
            raise VideoError(
                f"cannot write {self._path}: {frames} of {self._written} frames got there; is the disk full?"
            )

    def _remove_partial(self) -> None:
        with contextlib.suppress(OSError):
            self._partial.unlink()
