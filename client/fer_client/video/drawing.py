"""Draws what was seen on a frame. The panel keeps the bars readable however small the faces are.

Importing this module needs Pillow.
"""

from __future__ import annotations

import functools
import io
import math
from typing import Final, Literal, NamedTuple, cast

from PIL import Image, ImageDraw, ImageFont

from fer_client._results import Box, ImageSize
from fer_client.video.clock import format_time
from fer_client.video.palette import colors_of
from fer_client.video.sightings import Sighting, TrackedFace

_SHORTEST_SIDE_PX: Final = 360
"""A smaller frame is enlarged to this, so that captions are small beside its faces."""
_LONGEST_SIDE_PX: Final = 1920
"""A larger frame is reduced: encoding takes time, and the panel would be no clearer."""
_FONTS_PER_SIDE: Final = 30
"""How many times the text's height goes into the frame's shorter side."""
_SMALLEST_FONT_PX: Final = 12

_BACKGROUND: Final = "#1b1b20"
_TROUGH: Final = "#33333c"
_TEXT: Final = "#f4f4f6"
_FAINT_TEXT: Final = "#a8a8b3"
_DARK: Final = "#101014"
_ALWAYS_HOURS_S: Final = 3600.0


class FrameDrawing:
    """Draws frames of one video, all to the same layout."""

    def __init__(self, size: ImageSize, labels: tuple[str, ...]) -> None:
        """Lay it out.

        Args:
            size: Of the first frame, in pixels. One that has another is fitted in, with bars beside or above it.
            labels: The model's, in order.
        """
        scale = min(max(1.0, _SHORTEST_SIDE_PX / min(size)), _LONGEST_SIDE_PX / max(size))
        # Even numbers of pixels: the video's colours are stored at half the resolution.
        self._frame_size = (_even(size.width * scale), _even(size.height * scale))
        self._labels = labels
        self._colors = colors_of(labels)
        self._em = max(_SMALLEST_FONT_PX, min(self._frame_size) // _FONTS_PER_SIDE)
        label_width = max(_font(self._em).getlength(label) for label in labels)
        self._bar_left = round(label_width + 1.4 * self._em)
        panel_width = _even(self._bar_left + 10 * self._em)
        self.canvas_size = (self._frame_size[0] + panel_width, self._frame_size[1])
        """Width and height of what `draw` returns."""

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
        canvas = Image.new("RGB", self.canvas_size, _BACKGROUND)
        with Image.open(io.BytesIO(jpeg)) as photo:
            place = _Place.fit(photo.size, self._frame_size)
            canvas.paste(photo.convert("RGB").resize(place.size, Image.Resampling.BILINEAR), (place.left, place.top))
        drawing = ImageDraw.Draw(canvas)
        boxes = [place.of(tracked.face.box) for tracked in sighting.faces]
        for tracked, box in zip(sighting.faces, boxes, strict=True):
            self._outline(drawing, tracked, box)
        for tracked, box in zip(sighting.faces, boxes, strict=True):
            self._caption(drawing, tracked, box)
        # What a box at the edge has drawn into the panel's place goes.
        drawing.rectangle((self._frame_size[0], 0, *self.canvas_size), fill=_BACKGROUND)
        self._draw_panel(drawing, sighting)
        return canvas

    def _outline(self, drawing: ImageDraw.ImageDraw, tracked: TrackedFace, box: Box) -> None:
        line_px = max(2, self._em // 7)
        x_min, y_min, x_max, y_max = box
        color = self._colors[tracked.label]
        # A dark edge first, so that a light outline is seen on a light background too.
        drawing.rounded_rectangle((x_min - 1, y_min - 1, x_max + 1, y_max + 1), 6, outline=_DARK, width=line_px + 2)
        drawing.rounded_rectangle((x_min, y_min, x_max, y_max), 5, outline=color, width=line_px)

    def _caption(self, drawing: ImageDraw.ImageDraw, tracked: TrackedFace, box: Box) -> None:
        """Track and label above the box; within it where it touches the frame's upper edge."""
        text, font = _summary(tracked), _font(self._em)
        width, height = font.getlength(text) + 0.8 * self._em, 1.45 * self._em
        left = min(max(box.x_min, 0.0), max(self._frame_size[0] - width, 0.0))
        top = box.y_min - height if box.y_min >= height else max(box.y_min, 0.0)
        color = self._colors[tracked.label]
        drawing.rounded_rectangle((left, top, left + width, top + height), 3, fill=color, outline=_DARK)
        _write(drawing, (left + width / 2, top + height / 2), text, _DARK, self._em, "m")

    def _draw_panel(self, drawing: ImageDraw.ImageDraw, sighting: Sighting) -> None:
        """Time, and a card for each track while there is room. Ordered by track, cards seldom change places."""
        em, left = self._em, self._frame_size[0] + 0.7 * self._em
        right = self.canvas_size[0] - 0.7 * em
        heading = "apparent expression" if sighting.faces else "no face found"
        if sighting.error is not None:
            heading = "no answer"
        _write(drawing, (left, 1.2 * em), heading, _FAINT_TEXT, em, "l")
        clock = format_time(sighting.time_s, _ALWAYS_HOURS_S)
        _write(drawing, (right, 1.2 * em), clock, _FAINT_TEXT, em, "r")
        top = 2.2 * em
        room = int((self.canvas_size[1] - top) // self._card_height)
        ordered = sorted(sighting.faces, key=lambda tracked: tracked.track)
        for index, tracked in enumerate(ordered[:room]):
            self._draw_card(drawing, left, top + index * self._card_height, tracked)
        if len(ordered) > room:
            text = f"and {len(ordered) - room} more" if room else f"{len(ordered)} faces"
            _write(drawing, (left, self.canvas_size[1] - 0.8 * em), text, _FAINT_TEXT, em, "l")

    def _draw_card(self, drawing: ImageDraw.ImageDraw, left: float, top: float, tracked: TrackedFace) -> None:
        """One track: a bar for each smoothed probability, with a tick where the frame alone stands."""
        em = self._em
        y = top + 0.5 * self._row
        drawing.rounded_rectangle(
            (left, y - 0.35 * em, left + 0.7 * em, y + 0.35 * em), 2, fill=self._colors[tracked.label]
        )
        _write(drawing, (left + 1.1 * em, y), _summary(tracked), _TEXT, em, "l")
        bar_left, bar_width = left + self._bar_left, 5.2 * em
        for label, probability in tracked.probabilities.items():
            y += self._row
            text_color = _TEXT if label == tracked.label else _FAINT_TEXT
            _write(drawing, (left, y), label, text_color, em, "l")
            upper, lower = y - 0.32 * em, y + 0.32 * em
            drawing.rectangle((bar_left, upper, bar_left + bar_width, lower), fill=_TROUGH)
            drawing.rectangle((bar_left, upper, bar_left + bar_width * probability, lower), fill=self._colors[label])
            tick = bar_left + bar_width * tracked.face.probabilities[label]
            drawing.line((tick, upper - 1, tick, lower + 1), fill=_TEXT, width=max(1, em // 10))
            _write(drawing, (self.canvas_size[0] - 0.7 * em, y), f"{probability:.0%}", text_color, em, "r")


class _Place(NamedTuple):
    """Where a frame is on the canvas, and by how much it is enlarged."""

    left: int
    top: int
    size: tuple[int, int]
    scale: tuple[float, float]

    @classmethod
    def fit(cls, photo_size: tuple[int, int], room: tuple[int, int]) -> _Place:
        """As large as there is room, in its middle, with its aspect kept but for the rounding of the room itself."""
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
        """A box in pixels of the frame, in those of the canvas."""
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
    """`3 happy 82%`; with a question mark where it is uncertain."""
    return f"{tracked.track} {tracked.label}{'?' if tracked.is_uncertain else ''} {tracked.confidence:.0%}"


def _write(
    drawing: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    color: str,
    size_px: int,
    align: Literal["l", "m", "r"],
) -> None:
    """Write a line whose left end, middle or right end is at `place`, as is its middle in height."""
    mask = _mask(text, size_px)
    left = place[0] - mask.width * {"l": 0.0, "m": 0.5, "r": 1.0}[align]
    drawing.bitmap((round(left), round(place[1] - mask.height / 2)), mask, fill=color)


@functools.lru_cache(maxsize=1024)
def _mask(text: str, size_px: int) -> Image.Image:
    """A line of text, gray, as large as it is. Kept: text is most of the work, and most of it comes again."""
    font = _font(size_px)
    mask = Image.new("L", (math.ceil(font.getlength(text)) + 1, 2 * size_px))
    ImageDraw.Draw(mask).text((0, size_px), text, fill=255, font=font, anchor="lm")
    return mask


@functools.cache
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, which is there on every machine."""
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size_px))
