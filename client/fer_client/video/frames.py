"""The frames of a video file, a stream or a camera as JPEG, with their times and the cuts between scenes.

Importing this module needs PyAV and Pillow.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final

import av
import numpy as np
from PIL import Image

from fer_client._results import ImageSize
from fer_client.video.clock import FrameClock, StampChoice, format_time
from fer_client.video.decoding import Decoder, PictureConverter
from fer_client.video.errors import VideoError
from fer_client.video.inputs import open_input, undecodable

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

JPEG_QUALITY: Final = 90
"""On a clip of 640x360 px, the probabilities of a frame differ from those of its PNG by 0.008 (the largest of the
seven, on average), at quality 100 by 0.006, at 75 by 0.010: hardly any of it is due to the quality. An eighth of the
PNG's bytes, in 1.5 ms instead of 29."""

_FRAME_RATES: Final = (1 / 3600, 1000.0)
"""Credible rates: from one frame an hour to the fastest slow motion."""
_USUAL_FRAME_RATE: Final = 30.0
"""Assumed where neither time stamps nor header say anything credible."""
_RATE_TOLERANCE: Final = 1.25
"""A header's rate is the better figure where it differs by less than this factor from that of the time stamps, which
are rounded."""


@dataclass(frozen=True)
class Frame:
    """One picture of a video.

    Attributes:
        number: Its position in the video, from 0, also where not every frame is read.
        time_s: When it is shown, in seconds from the first frame; it grows from frame to frame.
        jpeg: The picture, upright and with square pixels, as a JPEG file.
        size: Width and height of the picture in pixels. It may change midway.
        starts_scene: Whether it shows something else than the frame before: a cut lies between them.
    """

    number: int
    time_s: float
    jpeg: bytes
    size: ImageSize
    starts_scene: bool


class VideoSource:
    """An opened video. Use it in a `with` statement.

    Attributes:
        name: The file, `camera 0`, or an address without user, password and query.
        size: Width and height of the first frame in pixels.
        frame_rate: Usual number of frames per second.
        expected_frames: Number of frames that the file states, or None. It may be wrong: good for a progress bar.
        problem: Why the frames ended too early, or None. Known when `frames` has ended.
    """

    def __init__(self, source: str) -> None:
        """Open it and decode its first picture.

        Args:
            source: Path of a video file, number of a camera, its device such as `/dev/video0`, or the address of a
                stream.

        Raises:
            VideoError: There is no such file, camera or stream, or no picture comes out of it.
        """
        opened = open_input(source)
        self.name = opened.name
        self.problem: str | None = None
        self._is_camera = opened.is_camera
        self._decoder = Decoder(opened, self._on_reconnected)
        self.frame_rate = self._rate()
        self.expected_frames = self._expected()
        self._clock, self._stamps = FrameClock(1 / self.frame_rate), StampChoice()
        self._converter = PictureConverter(opened.stream)
        self._decoded = self._decoder.frames()
        self._started_s = time.monotonic()
        try:
            first = next(self._decoded, None)
            picture = None if first is None else self._converter.convert(first)
        except av.FFmpegError:
            first = picture = None
        if first is None or picture is None:
            self.close()
            raise self._no_picture()
        self._first = first
        self.size = ImageSize(*picture.size)

    @property
    def damaged(self) -> int:
        """How many places of the video could not be decoded so far. What was there is left out."""
        return self._decoder.damaged

    def frames(self, every: int = 1, until_s: float = math.inf) -> Iterator[Frame]:
        """Read on from the start, once. Nothing is read ahead.

        It never raises: what ends it too early is in `problem` afterwards.

        Args:
            every: 1 reads each frame, 2 every second one, and so on.
            until_s: Frames from this time on are left out.
        """
        cuts = SceneCuts()
        number, frame = 0, self._first
        while (time_s := self._time_s(frame)) < until_s:
            if number % every == 0:
                try:
                    picture = self._converter.convert(frame)
                except av.FFmpegError as error:
                    self.problem = (
                        f"{self.name} has a frame that cannot be converted ({frame.format.name}): {error.strerror}"
                    )
                    return
                yield Frame(number, time_s, _jpeg(picture), ImageSize(*picture.size), cuts.starts_scene(picture))
            number += 1
            following = next(self._decoded, None)
            if following is None:
                self.problem = self._early_end(number)
                return
            frame = following

    def notes(self) -> list[str]:
        """Return what people should know of the video besides its problem, as lines."""
        notes = []
        if self.damaged:
            places = "1 place" if self.damaged == 1 else f"{self.damaged} places"
            notes.append(
                f"{self.name} is damaged in {places}: what could not be decoded is left out; copy or download it again"
            )
        if jump := self._clock.first_jump:
            times = "once" if self._clock.jumps == 1 else f"{self._clock.jumps} times, first"
            notes.append(
                f"the time stamps of {self.name} jump {times} at {format_time(jump.at_s, 0)}, by {jump.step_s:.6g} s: "
                "counted as one frame"
            )
        if count := self._decoder.reconnections:
            notes.append(f"{self.name} was lost and connected again {'once' if count == 1 else f'{count} times'}")
        return notes

    def close(self) -> None:
        """Let go of the file, the connection or the camera. Closing twice is fine."""
        self._decoder.close()

    def __enter__(self) -> VideoSource:
        """Return the source."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _rate(self) -> float:
        """Return the frames per second: the header's rate if it is near that of the time stamps, else the latter."""
        stream = self._decoder.input.stream
        step_s = None if self._is_camera else self._decoder.usual_step_s()
        stated = [
            float(rate) for rate in (stream.guessed_rate, stream.average_rate) if rate and _is_credible(float(rate))
        ]
        measured = 1 / step_s if step_s else 0.0
        if not _is_credible(measured):
            return stated[0] if stated and not step_s else _USUAL_FRAME_RATE
        near = [rate for rate in stated if 1 / _RATE_TOLERANCE < rate / measured < _RATE_TOLERANCE]
        return near[0] if near else measured

    def _expected(self) -> int | None:
        opened = self._decoder.input
        if opened.is_camera or opened.is_live:
            return None
        if opened.stream.duration and opened.stream.time_base:
            return round(float(opened.stream.duration * opened.stream.time_base) * self.frame_rate) or None
        if opened.container.duration:
            return round(opened.container.duration / av.time_base * self.frame_rate) or None
        return opened.stream.frames or None

    def _time_s(self, frame: VideoFrame) -> float:
        if self._is_camera:
            return time.monotonic() - self._started_s
        stamp = self._stamps.choose(frame.pts, frame.dts)
        return self._clock.time_s(None if stamp is None or not frame.time_base else float(stamp * frame.time_base))

    def _on_reconnected(self, pause_s: float) -> None:
        self._clock.restart(pause_s)
        self._stamps = StampChoice()

    def _no_picture(self) -> VideoError:
        if self._is_camera:
            return VideoError(
                f"{self.name} gives no picture: unplug it and plug it in again, or see whether another program uses it"
            )
        return undecodable(self.name)

    def _early_end(self, read: int) -> str | None:
        """Tell whether there should have been more. A number of frames proves nothing: many are estimates."""
        if self._is_camera:
            return f"{self.name} stopped giving pictures after {read} frames: see whether it is still connected"
        missing = self._decoder.input.entries_beyond_the_end()
        if missing:
            return (
                f"{self.name} ends early, after {read} frames: its index has {missing} more, which are missing; "
                "copy or download it again"
            )
        return self._decoder.problem


def _is_credible(rate: float) -> bool:
    return _FRAME_RATES[0] <= rate <= _FRAME_RATES[1]


def _jpeg(picture: Image.Image) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=JPEG_QUALITY)
    return encoded.getvalue()


_THUMBNAIL_PX: Final = (64, 36)
_COLOR_BINS: Final = 8
"""Number of bins of each of the three channels."""

_LEAST_ALIKE: Final = 0.6
_MOST_RECOLORED: Final = 0.21
"""Measured on parts of photos: cuts from one to another, of the same photo or not, correlate by at most 0.56 and
recolour 0.23 or more. Pans by a fifth of the picture correlate as little but recolour at most 0.20; lights that go out,
fades and flashes recolour more but correlate by 0.9."""


class SceneCuts:
    """Compares each frame with the one before: a cut changes both what is where, and the colours."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self._layout: NDArray[np.float32] | None = None
        self._colors: NDArray[np.float64] | None = None

    def starts_scene(self, picture: Image.Image) -> bool:
        """Return whether a cut lies between this frame and the one before.

        Args:
            picture: RGB; the size may change.
        """
        # Whole factors first: in half the time, and as good for this.
        thumbnail = picture.resize(_THUMBNAIL_PX, Image.Resampling.BOX, reducing_gap=1.0)
        gray = np.asarray(thumbnail.convert("L"), np.float32)
        layout = gray - gray.mean()
        bins = (np.asarray(thumbnail).reshape(-1, 3) // (256 // _COLOR_BINS)) @ (_COLOR_BINS**2, _COLOR_BINS, 1)
        colors = np.bincount(bins, minlength=_COLOR_BINS**3) / gray.size
        last_layout, last_colors = self._layout, self._colors
        self._layout, self._colors = layout, colors
        if last_layout is None or last_colors is None:
            return False
        # One gray level of noise on each side keeps a plain picture from correlating at random.
        norm = np.sqrt((np.square(layout).sum() + layout.size) * (np.square(last_layout).sum() + layout.size))
        alike = float((layout * last_layout).sum() / norm)
        recolored = 1 - float(np.minimum(colors, last_colors).sum())
        return alike < _LEAST_ALIKE and recolored > _MOST_RECOLORED
