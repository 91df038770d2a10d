"""Draws faces on their picture: boxes and landmarks in place, the probabilities on a panel beside it.

The panel keeps the bars readable however small the faces are and however many there are, and hides nothing.
Importing this module needs Pillow.
"""

from __future__ import annotations

import io
import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from PIL import Image, ImageDraw

from fer_client._drawing import BACKGROUND, FAINT_TEXT, INK, TEXT, Area, colors_of, draw_bar, font, outline, text_on
from fer_client._results import Box, CroppedPrediction, Face

_Expression: TypeAlias = Face | CroppedPrediction

_SHORTEST_SIDE_PX: Final = 400
"""A smaller picture is enlarged to this, so that captions and lines are small beside its faces."""
_LONGEST_SIDE_PX: Final = 4096
"""No picture is enlarged beyond this."""

_SMALLEST_FONT_PX: Final = 11
"""The smallest text that is still readable."""
_LARGEST_FONT_PX: Final = 48
"""Larger text takes room and is no easier to read."""
_FONTS_PER_SIDE: Final = 32
"""How many times the text's height goes into the picture's shorter side."""
_CROWD: Final = 4
"""More faces than this are a crowd."""
_CROWDED_FONTS_PER_FACE: Final = 3.5
"""How many times the captions' height goes into the width of a crowd's typical face."""
_PANEL_SHARE: Final = 0.6
"""Where the panel would be wider than this share of the picture, its text shrinks."""

_EXIF_ORIENTATION: Final = 0x0112
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image of each EXIF orientation upright. Source: Exif 2.32, tag 274."""


def open_upright(content: bytes) -> Image.Image:
    """Decode an image file to RGB with its EXIF orientation applied, and no other, as the server does.

    Args:
        content: An encoded image file.

    Raises:
        ValueError: Pillow cannot read it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of damaged metadata; the picture is good all the same.
            return _decode_upright(content)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"Pillow says: {error}") from error


def _decode_upright(content: bytes) -> Image.Image:
    """Do as `open_upright` does, but raise what Pillow raises."""
    stored = Image.open(io.BytesIO(content))
    turn = _UPRIGHT.get(_orientation(stored))  # Before the pixels are read: the server goes by what precedes them.
    upright = stored if turn is None else stored.transpose(turn)
    if upright.mode.startswith("I"):  # 16 bits: convert() would clip at 255 instead of scaling.
        upright = upright.point(lambda value: value * (1 / 256)).convert("L")
    return upright.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened file; 1, upright, where there is none or it cannot be read.

    ImageOps.exif_transpose would go by XMP too (Pillow 12.3), which the server leaves alone.
    """
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        return int(exif.get(_EXIF_ORIENTATION, 1))
    except Exception:  # A damaged EXIF block makes Pillow raise many kinds; the picture is still good.
        return 1


def draw(
    photo: Image.Image, faces: Sequence[_Expression], faces_left_out: int = 0, *, panel: bool = True
) -> Image.Image:
    """Draw faces on a picture.

    Args:
        photo: RGB and upright. It is left as it is.
        faces: Faces with boxes and landmarks in pixels of `photo`; a crop has neither, and gets its panel alone.
        faces_left_out: How many more faces were found, which the panel's heading says.
        panel: Whether the probabilities are drawn on a panel on the right.

    Returns:
        RGB: the picture, enlarged where it is small, with what was drawn.
    """
    scale = max(1.0, min(_SHORTEST_SIDE_PX / min(photo.size), _LONGEST_SIDE_PX / max(photo.size)))
    enlarged = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.LANCZOS)
    font_px = min(max(min(enlarged.size) // _FONTS_PER_SIDE, _SMALLEST_FONT_PX), _LARGEST_FONT_PX)
    placed = [face for face in faces if isinstance(face, Face)]
    _draw_on_photo(enlarged, placed, scale, _caption_px(placed, scale, font_px))
    if not panel:
        return enlarged
    cards = _Panel.fit(enlarged.size, faces, font_px, faces_left_out)
    canvas = Image.new("RGB", (enlarged.width + cards.width, max(enlarged.height, cards.height)), BACKGROUND)
    canvas.paste(enlarged, (0, 0))
    cards.draw(canvas, enlarged.width)
    return canvas


def _caption_px(faces: Sequence[Face], scale: float, font_px: int) -> int:
    """Return the height of the captions' text, which is smaller in a crowd: there, captions would hide each other."""
    if len(faces) <= _CROWD:
        return font_px
    typical_px = statistics.median(face.box.width * scale for face in faces)
    return max(_SMALLEST_FONT_PX, min(font_px, round(typical_px / _CROWDED_FONTS_PER_FACE)))


def _draw_on_photo(photo: Image.Image, faces: Sequence[Face], scale: float, font_px: int) -> None:
    """Outline the faces, dot their landmarks and caption them; `scale` takes their pixels to those of `photo`."""
    drawing = ImageDraw.Draw(photo)
    line_px = max(2, font_px // 7)
    boxes = [_clipped(face.box, scale, photo.size) for face in faces]
    for face, box in zip(faces, boxes, strict=True):
        outline(drawing, box, _color(face), line_px)
        radius = max(2.0, min(0.02 * scale * face.box.width, font_px / 4))
        for x, y in face.landmarks:
            drawing.circle((x * scale, y * scale), radius, fill=_color(face), outline=INK)
    captions: list[Area] = []
    for number, (face, box) in enumerate(zip(faces, boxes, strict=True), start=1):
        text, area = _place_caption(photo.size, number, face, box, [*boxes, *captions], font_px)
        captions.append(area)
        drawing.rounded_rectangle(area, radius=line_px, fill=_color(face), outline=INK)
        center = ((area[0] + area[2]) / 2, (area[1] + area[3]) / 2)
        drawing.text(center, text, fill=text_on(_color(face)), font=font(font_px), anchor="mm")


def _place_caption(
    size: tuple[int, int], number: int, face: Face, box: Area, taken: Sequence[Area], font_px: int
) -> tuple[str, Area]:
    """Choose what a face's caption says and where: above, below or inside its box, where nothing is in the way.

    Where the full caption fits nowhere, the number alone has to do: the panel has the rest. It goes into the upper
    left corner of the box where even that is in the way. `size` is the picture's; all coordinates are its pixels.
    """
    width, height = size
    others = [area for area in taken if area != box]
    for text in (f"{number} {_summary(face)}", str(number)):
        text_width, text_height = font(font_px).getlength(text) + 0.8 * font_px, 1.5 * font_px
        left = max(0.0, min(box[0], width - text_width))
        tops = (box[1] - text_height, box[3], box[1], box[3] - text_height)
        for top in tops:
            area = (left, top, left + text_width, top + text_height)
            is_inside = top >= 0 and area[2] <= width and area[3] <= height
            if is_inside and not any(_overlap(area, other) for other in others):
                return text, area
    return text, (left, box[1], left + text_width, box[1] + text_height)


@dataclass(frozen=True)
class _Panel:
    """The faces' probabilities as cards, in as many columns as the picture's height makes necessary."""

    faces: Sequence[_Expression]
    font_px: int
    rows: int
    left_out: int

    @classmethod
    def fit(cls, photo_size: tuple[int, int], faces: Sequence[_Expression], font_px: int, left_out: int) -> _Panel:
        """Return the panel with the largest text, at most `font_px`, that leaves most of the width to the picture."""
        width, height = photo_size
        for candidate_px in range(font_px, _SMALLEST_FONT_PX - 1, -1):
            panel = cls(faces, candidate_px, rows=1, left_out=left_out)
            panel = replace(panel, rows=max(1, int((height - panel.header_height) // panel.card_height)))
            if panel.width <= _PANEL_SHARE * width:
                break
        return panel

    @property
    def labels(self) -> list[str]:
        return list(self.faces[0].probabilities) if self.faces else []

    @property
    def label_width(self) -> float:
        return max((font(self.font_px).getlength(label) for label in self.labels), default=0.0)

    @property
    def card_width(self) -> int:
        return round(self.label_width + 11 * self.font_px)

    @property
    def row_height(self) -> float:
        return 1.25 * self.font_px

    @property
    def card_height(self) -> int:
        return round((len(self.labels) + 2.4) * self.row_height)

    @property
    def header_height(self) -> int:
        return round(2.4 * self.font_px)

    @property
    def width(self) -> int:
        return max(1, math.ceil(len(self.faces) / self.rows)) * self.card_width

    @property
    def height(self) -> int:
        return self.header_height + min(self.rows, len(self.faces)) * self.card_height

    def draw(self, canvas: Image.Image, left: int) -> None:
        """Draw the panel from x = `left` on."""
        drawing = ImageDraw.Draw(canvas)
        heading = "apparent expression" if self.faces else "no face found"
        if self.left_out:
            heading = f"largest {len(self.faces)} of {len(self.faces) + self.left_out} faces"
        position = (left + 0.8 * self.font_px, self.header_height / 2)
        drawing.text(position, heading, fill=FAINT_TEXT, font=font(self.font_px), anchor="lm")
        for index, face in enumerate(self.faces):
            column, row = divmod(index, self.rows)
            corner = (left + column * self.card_width, self.header_height + row * self.card_height)
            self._draw_card(drawing, corner, index + 1, face)

    def _draw_card(self, drawing: ImageDraw.ImageDraw, corner: tuple[int, int], number: int, face: _Expression) -> None:
        """Draw one face: its number and expression, then a bar for each label."""
        em, face_font = self.font_px, font(self.font_px)
        left, y = corner[0] + 0.8 * em, corner[1] + 0.7 * self.row_height
        badge_width = face_font.getlength(str(number)) + 0.8 * em
        drawing.rounded_rectangle((left, y - 0.7 * em, left + badge_width, y + 0.7 * em), 0.3 * em, fill=_color(face))
        drawing.text((left + badge_width / 2, y), str(number), fill=text_on(_color(face)), font=face_font, anchor="mm")
        drawing.text((left + badge_width + 0.5 * em, y), _summary(face), fill=TEXT, font=face_font, anchor="lm")

        bar_left = left + self.label_width + 0.6 * em
        bar_width = 5.5 * em
        right = corner[0] + self.card_width - 0.8 * em
        y += 0.2 * self.row_height
        for label, probability in face.probabilities.items():
            y += self.row_height
            color = TEXT if label == face.emotion else FAINT_TEXT
            drawing.text((left, y), label, fill=color, font=face_font, anchor="lm")
            drawing.text((right, y), f"{probability:.0%}", fill=color, font=face_font, anchor="rm")
            top, bottom = y - 0.25 * em, y + 0.25 * em
            draw_bar(drawing, (bar_left, top, bar_left + bar_width, bottom), probability, _color(face, label))


def _clipped(box: Box, scale: float, size: tuple[int, int]) -> Area:
    """Return the part of a box that lies on a picture of `size`, in pixels of that picture."""
    width, height = size
    xs = sorted(min(max(x * scale, 0.0), width - 1.0) for x in (box.x_min, box.x_max))
    ys = sorted(min(max(y * scale, 0.0), height - 1.0) for y in (box.y_min, box.y_max))
    return xs[0], ys[0], xs[1], ys[1]


def _overlap(one: Area, other: Area) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _summary(face: _Expression) -> str:
    """Return the expression in a few words, with a question mark where the server calls it uncertain."""
    return f"{face.emotion} {face.confidence:.0%}{'?' * face.uncertain}"


def _color(face: _Expression, label: str | None = None) -> str:
    """Return the colour of a label; of the face's most probable one unless told."""
    return colors_of(list(face.probabilities))[label or face.emotion]
