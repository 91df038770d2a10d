"""Draws faces on their picture.

Only pictures that the model server has accepted come here, so that their formats and pixels are within its limits.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from fer_web.answers import DrawnPicture, Face

_LONGEST_SIDE_PX: Final = 2048
_QUALITY: Final = 90
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP")
_EXIF_ORIENTATION: Final = 0x0112
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image of each EXIF orientation upright. Source: Exif 2.32, tag 274."""
_COLOR: Final = "#ffd54a"
_UNCERTAIN_COLOR: Final = "#d0d4dc"
_INK: Final = "#101014"


def draw(content: bytes, faces: Sequence[Face]) -> DrawnPicture:
    """Return a picture with its faces drawn on it, as JPEG.

    Args:
        content: An encoded picture that the model server has accepted.
        faces: With boxes in pixels of the upright picture; those without are not drawn.

    Raises:
        ValueError: Pillow cannot read it.
    """
    try:
        photo = _open_upright(content)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("the picture cannot be drawn on") from error
    scale = min(1.0, _LONGEST_SIDE_PX / max(photo.size))
    if scale < 1:
        photo = photo.resize((round(photo.width * scale), round(photo.height * scale)))
    pen = ImageDraw.Draw(photo)
    line_px = max(2, min(photo.size) // 200)
    font = ImageFont.load_default(max(12, min(photo.size) // 32))
    for face in faces:
        _draw_face(pen, face, scale, line_px, font)
    drawn = io.BytesIO()
    photo.save(drawn, "JPEG", quality=_QUALITY)
    return DrawnPicture("image/jpeg", drawn.getvalue())


def _draw_face(
    pen: ImageDraw.ImageDraw, face: Face, scale: float, line_px: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> None:
    """Draw a box, and above it, or within where there is no room, the label and its probability."""
    if not face.box:
        return
    box = face.box
    left, top, right, bottom = (value * scale for value in (box.x_min, box.y_min, box.x_max, box.y_max))
    color = _UNCERTAIN_COLOR if face.uncertain else _COLOR
    pen.rectangle((left, top, right, bottom), outline=color, width=line_px)
    caption = f"{face.emotion} {face.confidence:.0%}" + "?" * face.uncertain
    _, _, width, height = pen.textbbox((0, 0), caption, font=font)
    left = max(0.0, min(left, pen.im.size[0] - width - 2 * line_px))
    above = top - height - 2 * line_px
    y = above if above >= 0 else top
    pen.rectangle((left, y, left + width + 2 * line_px, y + height + 2 * line_px), fill=color)
    pen.text((left + line_px, y + line_px), caption, fill=_INK, font=font)


def _open_upright(content: bytes) -> Image.Image:
    """Decode a picture to RGB, upright by its EXIF orientation and by no other, as the model server does."""
    stored = Image.open(io.BytesIO(content), formats=_FORMATS)
    exif = Image.Exif()  # `getexif` would go by XMP too, which the model server leaves alone.
    try:
        exif.load(stored.info.get("exif", b""))
        turn = _TURNS.get(int(exif.get(_EXIF_ORIENTATION, 1)))
    except Exception:  # Damaged metadata make Pillow raise many kinds; the picture is good all the same.
        turn = None
    upright = stored if turn is None else stored.transpose(turn)
    if upright.mode.startswith("I"):  # 16 bits, which `convert` would clip at 255.
        upright = upright.point(lambda value: value * (1 / 256)).convert("L")
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    return upright.convert("RGB")
