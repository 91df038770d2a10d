"""Writes the annotated picture of a prediction. `_drawing` draws it and needs Pillow, the extra `annotate`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from pathlib import Path
from typing import Final

from fer_client._results import Prediction

FORMATS: Final = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
"""Pillow's name of the format for each file name extension."""


class AnnotationError(Exception):
    """The annotated picture cannot be drawn or written; the message says why and what to do."""


def check_output(output: Path) -> None:
    """Find out before any work what would keep an annotated picture from being written.

    Args:
        output: File to be written.

    Raises:
        AnnotationError: Pillow is missing, the extension is none of FORMATS, or the folder takes no file.
    """
    if importlib.util.find_spec("PIL") is None:
        raise AnnotationError("drawing needs Pillow: pip install pillow")
    if output.suffix.lower() not in FORMATS:
        raise AnnotationError(f"cannot write {output}: expected a name that ends in {', '.join(FORMATS)}")
    if output.is_dir():
        raise AnnotationError(f"cannot write {output}: it is a folder")
    if not output.parent.is_dir():
        raise AnnotationError(f"cannot write {output}: there is no folder {output.parent}")
    if not os.access(output.parent, os.W_OK):
        raise AnnotationError(f"cannot write {output}: the folder {output.parent} is not writable")


def annotate(content: bytes, prediction: Prediction, output: Path) -> None:
    """Write a picture with its faces drawn. The file appears complete or not at all.

    Args:
        content: The image file that the prediction is about.
        prediction: Its faces, in pixels of the upright image.
        output: File to write; its extension chooses the format. `check_output` has accepted it.

    Raises:
        AnnotationError: Pillow cannot read the image, or reads another size than the server did, or the file cannot
            be written.
    """
    from fer_client._drawing import draw, open_upright  # Not at the top: Pillow is an extra.

    try:
        photo = open_upright(content)
    except ValueError as error:
        raise AnnotationError(f"cannot draw on the image: {error}") from error
    if photo.size != prediction.image_size:
        there, here = (f"{width} x {height} px" for width, height in (prediction.image_size, photo.size))
        raise AnnotationError(
            f"cannot draw on the image: it is {there} to the server and {here} to Pillow, so boxes would be misplaced; "
            "save it anew without an orientation"
        )
    partial = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        draw(photo, prediction.faces).save(partial, format=FORMATS[output.suffix.lower()])
        partial.replace(output)
    except (OSError, ValueError) as error:  # ValueError: larger than the format can be.
        raise AnnotationError(f"cannot write {output}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
