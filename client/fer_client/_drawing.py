"""What pictures, videos and plots with faces drawn have in common: one palette, and how boxes, captions and bars look.

Pillow is loaded when something is drawn: the palette needs nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias, cast

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

Area: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

BACKGROUND: Final = "#1B1B20"
TROUGH: Final = "#33333C"
"""What a bar lies on."""
TEXT: Final = "#F4F4F6"
FAINT_TEXT: Final = "#A8A8B3"
INK: Final = "#101014"

_OF_LABEL: Final = {
    "angry": "#D55E00",
    "disgust": "#009E73",
    "fear": "#CC79A7",
    "happy": "#E69F00",
    "sad": "#0072B2",
    "surprise": "#56B4E9",
    "neutral": "#B4B4B4",
}
"""Colour-blind people tell them apart too. Source: Okabe and Ito, Color Universal Design, 2008, with a gray in place of
black and yellow."""
_OTHERS: Final = ("#8DD3C7", "#BEBADA", "#FB8072", "#B3DE69", "#FCCDE5", "#BC80BD", "#CCEBC5", "#A6761D")
"""Colours for labels that a model of another kind may serve. They come round again where there are more labels."""


def colors_of(labels: Sequence[str]) -> dict[str, str]:
    """Return a colour, `#RRGGBB`, for each label, the same in everything that is drawn."""
    unknown = [label for label in labels if label not in _OF_LABEL]
    return {label: _OF_LABEL.get(label) or _OTHERS[unknown.index(label) % len(_OTHERS)] for label in labels}


@functools.cache
def text_on(color: str) -> str:
    """Return the colour of text, dark or white, that is easier to read on a colour, `#RRGGBB`."""
    luminance = _luminance(color)
    return INK if (luminance + 0.05) / (_luminance(INK) + 0.05) > 1.05 / (luminance + 0.05) else "#FFFFFF"


def _luminance(color: str) -> float:
    """Return the relative luminance of a colour, 0..1. Source: WCAG 2.2."""
    channels = [int(color[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@functools.cache
def font(size_px: int) -> ImageFont.FreeTypeFont:
    """Return the typeface that Pillow carries inside itself, so that it is there on every machine."""
    from PIL import ImageFont  # Not at the top: the palette is needed without Pillow.

    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size_px))


def outline(drawing: ImageDraw.ImageDraw, area: Area, color: str, line_px: int) -> None:
    """Draw a face's box. A dark edge around the line keeps a light colour visible on a light background."""
    left, top, right, bottom = area
    edge = (left - 1, top - 1, right + 1, bottom + 1)
    drawing.rounded_rectangle(edge, radius=2 * line_px, outline=INK, width=line_px + 2)
    drawing.rounded_rectangle(area, radius=2 * line_px, outline=color, width=line_px)


def draw_bar(drawing: ImageDraw.ImageDraw, area: Area, share: float, color: str) -> None:
    """Draw a bar that fills a share, 0..1, of an area from the left."""
    left, top, right, bottom = area
    drawing.rectangle((left, top, right - 1, bottom), fill=TROUGH)
    length = share * (right - left)
    if length >= 1:
        drawing.rectangle((left, top, left + length - 1, bottom), fill=color)
