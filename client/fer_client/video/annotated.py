"""Writes a video that browsers play, with its faces drawn: boxes in place, the probabilities on a panel beside them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from fer_client._results import ImageSize
from fer_client.video.errors import VideoError, require

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from fer_client.video.sightings import Sighting

EXTENSION: Final = ".mp4"

CODEC: Final = "libvpx-vp9"
"""VP9, which browsers play. PyAV's wheels have an encoder for it under the BSD licence; theirs for H.264 is x264, under
the GPL. See DECISIONS.md."""
ENCODER_OPTIONS: Final = {
    "deadline": "realtime",
    "cpu-used": "8",
    "lag-in-frames": "0",
    "crf": "33",
    "b": "0",
    "g": "120",  # So many frames from a key frame to the next, which is where players can jump to.
}
_TIME_BASE: Final = Fraction(1, 90_000)
_BT709: Final = 1
"""Matrix, primaries and curve of ITU-R BT.709, as FFmpeg numbers them."""
_LIMITED_RANGE: Final = 1


class AnnotatedVideo:
    """An MP4 file in which each frame lasts as long as it does in the video.

    The file grows under another name, and gets its own when it is closed.
    """

    def __init__(self, path: Path, size: ImageSize, labels: tuple[str, ...]) -> None:
        """Start the file.

        Args:
            path: Where it goes; ends in `.mp4`.
            size: Of the first frame. Later ones of another size are fitted in.
            labels: The model's, in order.

        Raises:
            VideoError: PyAV or Pillow is missing, or the file cannot be written.
        """
        require("av")
        require("PIL")
        import av  # Not at the top, and neither is Pillow: the command's options are checked without them.

        from fer_client.video.drawing import FrameDrawing

        self._av = av
        self._path = path
        self._partial = path.with_name(f".{path.stem}.{os.getpid()}.part{EXTENSION}")
        self._drawing = FrameDrawing(size, labels)
        self._start_s: float | None = None
        self._duration = 0
        self._is_closed = False
        with self._failures():
            # The index goes first, so that a browser shows the beginning before it has the end.
            self._file = av.open(f"file:{self._partial.absolute()}", "w", options={"movflags": "+faststart"})
        self._stream = cast("VideoStream", self._file.add_stream(CODEC, options=dict(ENCODER_OPTIONS)))
        self._stream.width, self._stream.height = self._drawing.canvas_size
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.thread_count = 1
        context.time_base = _TIME_BASE
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE

    def add(self, jpeg: bytes, sighting: Sighting, duration_s: float) -> None:
        """Draw the next frame.

        Args:
            jpeg: The frame.
            sighting: What was seen in it.
            duration_s: How long it is shown if none follows, in seconds.

        Raises:
            VideoError: It cannot be written, as on a full disk.
        """
        if self._start_s is None:
            self._start_s = sighting.time_s
        drawn = self._av.VideoFrame.from_ndarray(np.asarray(self._drawing.draw(jpeg, sighting)))
        frame = drawn.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG", threads=1)
        frame.pts, frame.time_base = round((sighting.time_s - self._start_s) / _TIME_BASE), _TIME_BASE
        self._duration = round(duration_s / _TIME_BASE)
        with self._failures():
            self._write(frame)

    def close(self) -> None:
        """Complete the file. Closing twice is fine.

        Raises:
            VideoError: Not all of it could be written, as on a full disk.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            with self._failures():
                if self._start_s is not None:
                    self._write(None)
                self._file.close()
                if self._start_s is not None:
                    self._partial.replace(self._path)
        finally:
            self._remove_partial()

    def _write(self, frame: VideoFrame | None) -> None:
        """Encode a frame, or what is left where there is none."""
        for packet in self._stream.encode(frame):
            packet.duration = self._duration  # The next one's time stamp overrules it.
            self._file.mux(packet)

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Tell in one line what goes wrong within the block."""
        try:
            yield
        except (self._av.FFmpegError, OSError) as error:
            self._remove_partial()
            raise VideoError(f"cannot write {self._path}: {error.strerror}") from error

    def _remove_partial(self) -> None:
        with contextlib.suppress(OSError):
            self._partial.unlink()
