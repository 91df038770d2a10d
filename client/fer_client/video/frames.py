"""Reads the frames of a video file or a camera, each with its time, as JPEG."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from fer_client._results import ImageSize
from fer_client.video.errors import VideoError
from fer_client.video.opencv import load_opencv
from fer_client.video.scenes import SceneCuts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

JPEG_QUALITY: Final = 90
"""On a clip of 640x360 px, the probabilities of a frame differ from those of its PNG by 0.008 (the largest of the
seven, on average), at quality 100 by 0.006, at 75 by 0.010: hardly any of it is due to the quality. An eighth of the
PNG's bytes, in 1.5 ms instead of 29."""

_FRAME_RATES: Final = (0.1, 240.0)
"""What can be true. Some containers name their clock's ticks instead."""
_USUAL_FRAME_RATE: Final = 30.0
"""Assumed where the container or the camera says none."""

_END_TOLERANCE_S: Final = 0.5
_END_TOLERANCE_SHARE: Final = 0.02
"""By how much a video may be shorter than its container says: some estimate, and sound may go on after the pictures."""


@dataclass(frozen=True)
class Frame:
    """One picture of a video.

    Attributes:
        number: Its position in the video, from 0, also where not every frame is read.
        time_s: When it is shown, in seconds from the video's start; it grows from frame to frame.
        jpeg: The picture, upright, as a JPEG file.
        starts_scene: Whether it shows something else than the frame before: a cut lies between them.
    """

    number: int
    time_s: float
    jpeg: bytes
    starts_scene: bool


class VideoSource:
    """An opened video file or camera. Use it in a `with` statement.

    Attributes:
        name: The file, or `camera 0`.
        is_camera: Whether it goes on until it is stopped.
        size: Width and height of the upright frames in pixels.
        frame_rate: Frames per second as the container or camera says; a usual one where it says nothing credible.
        expected_frames: As many as the container says, or None where it doesn't.
        problem: Why there were no more frames although there should be, or None. Known when `frames` has ended.
    """

    def __init__(self, source: str) -> None:
        """Open it and decode its first picture.

        Args:
            source: Path of a video file, number of a camera, or its device such as `/dev/video0`.

        Raises:
            VideoError: OpenCV is missing, or there is no such file or camera, or no picture comes out of it.
        """
        self._cv2 = load_opencv()
        self.is_camera = is_camera(source)
        self.name = f"camera {source}" if self.is_camera else source
        self._capture = self._open_camera(source) if self.is_camera else self._open_file(source)
        rate = self._property("FPS")
        self.frame_rate = rate if _FRAME_RATES[0] <= rate <= _FRAME_RATES[1] else _USUAL_FRAME_RATE
        count = self._property("FRAME_COUNT")
        self.expected_frames = int(count) if count >= 1 and rate == self.frame_rate and not self.is_camera else None
        self.problem: str | None = None
        first = self._retrieve() if self._capture.grab() else None
        if first is None:
            self.close()
            raise VideoError(self._no_picture())
        self._started_s = time.monotonic()
        self._first = first
        # Not from the container: its numbers are of frames that are not turned upright yet.
        self.size = ImageSize(width=first.shape[1], height=first.shape[0])

    def frames(self, every: int = 1, until_s: float = math.inf) -> Iterator[Frame]:
        """Read on from the start, once. Nothing is read ahead.

        It never raises: what ends it too early is in `problem` afterwards.

        Args:
            every: 1 reads each frame, 2 every second one, and so on.
            until_s: Frames from this time on are left out.
        """
        cv2, cuts = self._cv2, SceneCuts(self._cv2)
        number, time_s = 0, self._time_s(0, -math.inf)
        while time_s < until_s:
            if number % every == 0:
                picture = self._retrieve() if number else self._first
                if picture is None:
                    self.problem = self._early_end(number)
                    return
                _, encoded = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
                yield Frame(number, time_s, encoded.tobytes(), cuts.starts_scene(picture))
            if not self._capture.grab():
                self.problem = self._early_end(number + 1)
                return
            number += 1
            time_s = self._time_s(number, time_s)

    def close(self) -> None:
        """Let go of the file or the camera. Closing twice is fine."""
        self._capture.release()

    def __enter__(self) -> VideoSource:
        """The source itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _open_file(self, source: str) -> Any:
        path = Path(source)
        try:
            with path.open("rb") as file:
                if not file.read(1):
                    raise VideoError(f"cannot read {source}: it is empty, expected a video")
        except OSError as error:
            raise VideoError(f"cannot read {source}: {error.strerror}") from error
        # FFmpeg alone, since others take a name with digits for a series of pictures. An absolute path is no URL to it.
        capture = self._cv2.VideoCapture(str(path.absolute()), self._cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise VideoError(self._no_picture())
        capture.set(self._cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        return capture

    def _open_camera(self, source: str) -> Any:
        capture = self._cv2.VideoCapture(int(source) if source.isdecimal() else source)
        if not capture.isOpened():
            found = ", ".join(sorted(map(str, Path("/dev").glob("video*")))) or "none"
            raise VideoError(
                f"cannot open {self.name}: expected one that is connected, that this user may use and nobody else is "
                f"using (devices here: {found})"
            )
        return capture

    def _no_picture(self) -> str:
        if self.is_camera:
            return (
                f"{self.name} gives no picture: unplug it and plug it in again, or see whether another program uses it"
            )
        return (
            f"cannot decode {self.name}: expected a whole video file, as MP4, MOV, MKV, WebM or AVI; "
            "if others play it, convert it: ffmpeg -i FILE converted.mp4"
        )

    def _property(self, name: str) -> float:
        return float(self._capture.get(getattr(self._cv2, f"CAP_PROP_{name}")))

    def _retrieve(self) -> NDArray[np.uint8] | None:
        """The picture that was grabbed: (height, width, 3), BGR, upright; None where it cannot be decoded."""
        picture: NDArray[np.uint8] | None = self._capture.retrieve()[1]
        return picture

    def _time_s(self, number: int, previous_s: float) -> float:
        """When the frame that was just grabbed is shown; where its time is missing or wrong, one frame later."""
        if self.is_camera:
            return time.monotonic() - self._started_s
        time_s = self._property("POS_MSEC") / 1000
        if number == 0:
            return max(time_s, 0.0) if math.isfinite(time_s) else 0.0
        return time_s if math.isfinite(time_s) and time_s > previous_s else previous_s + 1 / self.frame_rate

    def _early_end(self, read: int) -> str | None:
        if self.is_camera:
            return f"{self.name} stopped giving pictures after {read} frames: see whether it is still connected"
        if self.expected_frames is None:
            return None
        tolerance = max(_END_TOLERANCE_S * self.frame_rate, _END_TOLERANCE_SHARE * self.expected_frames)
        if self.expected_frames - read <= tolerance:
            return None
        return (
            f"{self.name} ends early, after {read} of {self.expected_frames} frames: the rest is missing or damaged; "
            "copy or download it again"
        )


def is_camera(source: str) -> bool:
    """Whether a source is a camera's number or device rather than a file."""
    return re.fullmatch(r"[0-9]{1,3}", source) is not None or re.fullmatch(r"/dev/video[0-9]+", source) is not None
