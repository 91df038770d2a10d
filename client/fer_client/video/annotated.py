"""Writes a video that browsers play, with its faces drawn: boxes in place, the probabilities on a panel beside them.

Importing this module needs PyAV and Pillow.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

import av
import numpy as np
from PIL import Image, ImageDraw

from fer_client._drawing import BACKGROUND, FAINT_TEXT, INK, TEXT, colors_of, draw_bar, font, outline, text_on
from fer_client._results import Box, ImageSize
from fer_client.video.clock import format_time
from fer_client.video.errors import VideoError
from fer_client.video.sightings import Sighting, TrackedFace

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

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

_SHORTEST_SIDE_PX: Final = 360
"""A smaller frame is enlarged to this, so that captions are small beside its faces."""
_LONGEST_SIDE_PX: Final = 1920
"""A larger frame is reduced: encoding takes time, and the panel would be no clearer."""
_FONTS_PER_SIDE: Final = 30
"""How many times the text's height goes into the frame's shorter side."""
_SMALLEST_FONT_PX: Final = 12
_ALWAYS_HOURS_S: Final = 3600.0
"""A span in which the time of a frame is written without tenths of a second."""


class AnnotatedVideo:
    """An MP4 file in which each frame lasts as long as it does in the video.

    The file grows under another name, and gets its own when it is closed.
    """

    def __init__(self, path: Path, size: ImageSize, labels: tuple[str, ...], *, panel: bool = True) -> None:
        """Start the file.

        Args:
            path: File to write; ends in `.mp4`.
            size: Size of the first frame in pixels. Later ones of another size are fitted in.
            labels: The model's, in order.
            panel: Whether the probabilities are drawn on a panel beside the frames.

        Raises:
            VideoError: The file cannot be written.
        """
        self._path = path
        self._partial = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
        self._drawing = FrameDrawing(size, labels, panel=panel)
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
        drawn = av.VideoFrame.from_ndarray(np.asarray(self._drawing.draw(jpeg, sighting)))
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
        except (av.FFmpegError, OSError) as error:
            self._remove_partial()
            raise VideoError(f"cannot write {self._path}: {error.strerror}") from error

    def _remove_partial(self) -> None:
        with contextlib.suppress(OSError):
            self._partial.unlink()


class FrameDrawing:
    """Draws frames of one video, all to the same layout."""

    def __init__(self, size: ImageSize, labels: tuple[str, ...], *, panel: bool = True) -> None:
        """Choose the layout.

        Args:
            size: Size of the first frame in pixels. A frame of another size is fitted in, with bars beside or above it.
            labels: The model's, in order.
            panel: Whether the probabilities are drawn on a panel on the right.
        """
        scale = min(max(1.0, _SHORTEST_SIDE_PX / min(size)), _LONGEST_SIDE_PX / max(size))
        # Even numbers of pixels: the video's colours are stored at half the resolution.
        self._frame_size = (_even(size.width * scale), _even(size.height * scale))
        self._labels = labels
        self._colors = colors_of(labels)
        self._em = max(_SMALLEST_FONT_PX, min(self._frame_size) // _FONTS_PER_SIDE)
        label_width = max(font(self._em).getlength(label) for label in labels)
        self._bar_left = round(label_width + 1.4 * self._em)
        panel_width = _even(self._bar_left + 10 * self._em) if panel else 0
        self._has_panel = panel
        self.canvas_size = (self._frame_size[0] + panel_width, self._frame_size[1])
        """Width and height of what `draw` returns, in pixels."""

    @property
    def _row(self) -> float:
        return 1.25 * self._em

    @property
    def _card_height(self) -> float:
        return (len(self._labels) + 2) * self._row

    def draw(self, jpeg: bytes, sighting: Sighting) -> Image.Image:
        """Draw one frame.

        Args:
            jpeg: The frame.
            sighting: What was seen in it, in pixels of the frame.

        Returns:
            RGB, of `canvas_size`.
        """
        canvas = Image.new("RGB", self.canvas_size, BACKGROUND)
        with Image.open(io.BytesIO(jpeg)) as photo:
            place = _Place.fit(photo.size, self._frame_size)
            canvas.paste(photo.convert("RGB").resize(place.size, Image.Resampling.BILINEAR), (place.left, place.top))
        drawing = ImageDraw.Draw(canvas)
        boxes = [place.of(tracked.face.box) for tracked in sighting.faces]
        for tracked, box in zip(sighting.faces, boxes, strict=True):
            outline(drawing, box, self._colors[tracked.label], max(2, self._em // 7))
        for tracked, box in zip(sighting.faces, boxes, strict=True):
            self._caption(drawing, tracked, box)
        if self._has_panel:
            # A box at the edge may have been drawn into the panel's place.
            drawing.rectangle((self._frame_size[0], 0, *self.canvas_size), fill=BACKGROUND)
            self._draw_panel(drawing, sighting)
        return canvas

    def _caption(self, drawing: ImageDraw.ImageDraw, tracked: TrackedFace, box: Box) -> None:
        """Write track and label above the box, or within it where it touches the frame's upper edge."""
        text = _summary(tracked)
        width, height = font(self._em).getlength(text) + 0.8 * self._em, 1.45 * self._em
        left = min(max(box.x_min, 0.0), max(self._frame_size[0] - width, 0.0))
        top = box.y_min - height if box.y_min >= height else max(box.y_min, 0.0)
        color = self._colors[tracked.label]
        drawing.rounded_rectangle((left, top, left + width, top + height), 3, fill=color, outline=INK)
        _write(drawing, (left + width / 2, top + height / 2), text, text_on(color), self._em, "m")

    def _draw_panel(self, drawing: ImageDraw.ImageDraw, sighting: Sighting) -> None:
        """Draw the time, and a card for each track while there is room, by track: so cards seldom change places."""
        em, left = self._em, self._frame_size[0] + 0.7 * self._em
        right = self.canvas_size[0] - 0.7 * em
        heading = "apparent expression" if sighting.faces else "no face found"
        if sighting.error is not None:
            heading = "no answer"
        _write(drawing, (left, 1.2 * em), heading, FAINT_TEXT, em, "l")
        clock = format_time(sighting.time_s, _ALWAYS_HOURS_S)
        _write(drawing, (right, 1.2 * em), clock, FAINT_TEXT, em, "r")
        top = 2.2 * em
        room = int((self.canvas_size[1] - top) // self._card_height)
        ordered = sorted(sighting.faces, key=lambda tracked: tracked.track)
        for index, tracked in enumerate(ordered[:room]):
            self._draw_card(drawing, left, top + index * self._card_height, tracked)
        if len(ordered) > room:
            text = f"and {len(ordered) - room} more" if room else f"{len(ordered)} faces"
            _write(drawing, (left, self.canvas_size[1] - 0.8 * em), text, FAINT_TEXT, em, "l")

    def _draw_card(self, drawing: ImageDraw.ImageDraw, left: float, top: float, tracked: TrackedFace) -> None:
        """Draw one track: a bar for each smoothed probability, with a tick at the probability of this frame alone."""
        em = self._em
        y = top + 0.5 * self._row
        drawing.rounded_rectangle(
            (left, y - 0.35 * em, left + 0.7 * em, y + 0.35 * em), 2, fill=self._colors[tracked.label]
        )
        _write(drawing, (left + 1.1 * em, y), _summary(tracked), TEXT, em, "l")
        bar_left, bar_width = left + self._bar_left, 5.2 * em
        for label, probability in tracked.probabilities.items():
            y += self._row
            text_color = TEXT if label == tracked.label else FAINT_TEXT
            _write(drawing, (left, y), label, text_color, em, "l")
            upper, lower = y - 0.32 * em, y + 0.32 * em
            draw_bar(drawing, (bar_left, upper, bar_left + bar_width, lower), probability, self._colors[label])
            tick = bar_left + bar_width * tracked.face.probabilities[label]
            drawing.line((tick, upper - 1, tick, lower + 1), fill=TEXT, width=max(1, em // 10))
            _write(drawing, (self.canvas_size[0] - 0.7 * em, y), f"{probability:.0%}", text_color, em, "r")


class _Place(NamedTuple):
    """Where a frame is on the canvas, and by how much it is enlarged."""

    left: int
    top: int
    size: tuple[int, int]
    scale: tuple[float, float]

    @classmethod
    def fit(cls, photo_size: tuple[int, int], room: tuple[int, int]) -> _Place:
        """Place a frame in the middle of the room, as large as fits; its aspect is kept but for the room's rounding."""
        (width, height), (room_width, room_height) = photo_size, room
        scale = min(room_width / width, room_height / height)
        # The first frame's room is rounded to even numbers: it is filled, as are others of the same aspect.
        fitted = tuple(
            full if abs(full - length * scale) < 2 else max(1, round(length * scale))
            for full, length in ((room_width, width), (room_height, height))
        )
        left, top = (room_width - fitted[0]) // 2, (room_height - fitted[1]) // 2
        return cls(left, top, (fitted[0], fitted[1]), (fitted[0] / width, fitted[1] / height))

    def of(self, box: Box) -> Box:
        """Convert a box from pixels of the frame to pixels of the canvas."""
        across, down = self.scale
        return Box(
            self.left + box.x_min * across,
            self.top + box.y_min * down,
            self.left + box.x_max * across,
            self.top + box.y_max * down,
        )


def _even(length: float) -> int:
    return 2 * round(length / 2)


def _summary(tracked: TrackedFace) -> str:
    """Return `3 happy 82%`, with a question mark where the face is uncertain."""
    return f"{tracked.track} {tracked.label}{'?' if tracked.is_uncertain else ''} {tracked.confidence:.0%}"


def _write(
    drawing: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    color: str,
    size_px: int,
    align: Literal["l", "m", "r"],
) -> None:
    """Write a line of text: its left end, middle or right end is at `place`, and so is half its height."""
    mask = _mask(text, size_px)
    left = place[0] - mask.width * {"l": 0.0, "m": 0.5, "r": 1.0}[align]
    drawing.bitmap((round(left), round(place[1] - mask.height / 2)), mask, fill=color)


@functools.lru_cache(maxsize=1024)
def _mask(text: str, size_px: int) -> Image.Image:
    """Return a line of text as a gray mask of its size. Kept: text is most of the work, and most of it recurs."""
    mask = Image.new("L", (math.ceil(font(size_px).getlength(text)) + 1, 2 * size_px))
    ImageDraw.Draw(mask).text((0, size_px), text, fill=255, font=font(size_px), anchor="lm")
    return mask
