"""Writes pictures with their faces drawn: where to, and whether that can be done. `photo_drawing` draws them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

from fer_commands.messages import printable
from fer_commands.running import CommandError

if TYPE_CHECKING:
    from fer_client import CroppedPrediction, Prediction

FORMATS: Final = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
"""Pillow's name of the format for each file name extension."""
_QUALITY: Final = {"JPEG": {"quality": 92, "subsampling": 0}, "WEBP": {"quality": 92}}
"""Lines and letters keep their edges; Pillow's own defaults smear them."""


class AnnotationError(CommandError):
    """An annotated picture cannot be drawn or written; the message says why and what to do."""


def plan_outputs(pictures: Sequence[tuple[str, PurePath]], output: str) -> list[Path]:
    """Choose a file for each annotated picture, and find out before any work what would keep them from being written.

    Args:
        pictures: Path and place within what was named, for each picture.
        output: What the user wrote: a folder, made where it does not exist; or for a single picture a file, which is
            what a name with one of the extensions FORMATS means unless a folder has that name.

    Returns:
        A file for each picture, no two the same. In a folder they are laid out as the pictures are and keep their
        names; a second one of the same name gets a number.

    Raises:
        AnnotationError: Pillow is missing, `output` can be neither, or a picture would be overwritten by a copy.
    """
    if importlib.util.find_spec("PIL") is None:
        raise AnnotationError("drawing needs Pillow: pip install 'fer-triton[pictures]'")
    target, extension = Path(output), Path(output).suffix.lower()
    if extension and not target.is_dir() and not output.endswith(("/", os.sep)):
        if extension not in FORMATS:
            raise AnnotationError(
                f"cannot write {printable(output)}: expected a folder, or a name that ends in {', '.join(FORMATS)}; "
                "write a new folder with a dot in its name with / at its end"
            )
        if len(pictures) > 1:
            raise AnnotationError(
                f"{printable(output)} is one file and there are {len(pictures)} images: name a folder"
            )
        planned = [target]
        _check_folder(target.parent, target, must_exist=True)
    else:
        planned = _distinct([target / _with_writable_extension(place) for _, place in pictures])
        _check_folder(target, target, must_exist=False)
    _check_originals([name for name, _ in pictures], planned)
    return planned


def annotate(content: bytes, prediction: Prediction | CroppedPrediction, output: Path, *, panel: bool = True) -> None:
    """Write a picture with its faces drawn. The file appears complete or not at all.

    Args:
        content: The bytes of the image file that the prediction is about.
        prediction: The faces in pixels of the upright image, or the prediction of a crop, which is one face.
        output: File to write, from `plan_outputs`; its extension chooses the format.
        panel: Whether the probabilities are drawn on a panel beside the picture.

    Raises:
        AnnotationError: Pillow cannot read the image, or reads another size than the server did, or the file cannot
            be written.
    """
    from fer_client.command.photo_drawing import draw, open_upright  # Not at the top: Pillow is an extra.

    try:
        photo = open_upright(content)
    except ValueError as error:
        raise AnnotationError(f"cannot draw on the image: {error}") from error
    if photo.size != prediction.image_size:
        there, here = (f"{width} x {height} px" for width, height in (prediction.image_size, photo.size))
        raise AnnotationError(
            f"cannot draw on the image: it is {there} to the server and {here} to Pillow, so boxes would be misplaced; "
            "save it again without an EXIF orientation"
        )
    partial = output.with_name(f".{output.name}.{os.getpid()}.part")
    kind = FORMATS[output.suffix.lower()]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        faces, left_out = getattr(prediction, "faces", [prediction]), getattr(prediction, "faces_left_out", 0)
        draw(photo, faces, left_out, panel=panel).save(partial, format=kind, **_QUALITY.get(kind, {}))
        partial.replace(output)
    except (OSError, ValueError) as error:  # ValueError: larger than the format can be.
        raise AnnotationError(
            f"cannot write {printable(output)}: {getattr(error, 'strerror', None) or error}"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _check_originals(names: Sequence[str], planned: Sequence[Path]) -> None:
    """Make sure that no picture is overwritten by an annotated copy, its own or another's."""
    originals = {Path(name).resolve() for name in names}
    for file in planned:
        if file.resolve() in originals:
            raise AnnotationError(f"{printable(file)} would be overwritten by an annotated copy: choose another folder")


def _check_folder(folder: Path, output: Path, *, must_exist: bool) -> None:
    """Make sure that files can be written to a folder, or to the nearest one that exists above it."""
    if must_exist and not folder.is_dir():
        raise AnnotationError(f"cannot write {printable(output)}: there is no folder {printable(folder)}")
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise AnnotationError(f"cannot write {printable(output)}: {printable(existing)} is a file")
    if not os.access(existing, os.W_OK):
        raise AnnotationError(f"cannot write {printable(output)}: the folder {printable(existing)} is not writable")


def _with_writable_extension(place: PurePath) -> PurePath:
    """Return the same name, or one that ends in .png where the format is not one that can be written."""
    return place if place.suffix.lower() in FORMATS else place.with_name(f"{place.name}.png")


def _distinct(files: Sequence[Path]) -> list[Path]:
    """Return the same files, numbered from the second of a name on."""
    taken: set[Path] = set()
    distinct = []
    for file in files:
        number, candidate = 1, file
        while candidate in taken:
            number += 1
            candidate = file.with_name(f"{file.stem}-{number}{file.suffix}")
        taken.add(candidate)
        distinct.append(candidate)
    return distinct
