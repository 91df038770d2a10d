"""What becomes of answers as faces get smaller, are cut off at the picture's edge, or turn away.

Used by `quality_bounds`, for what faces of 48 px don't tell by themselves.
"""

import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from fer_contract import FACE_SIZE_PX
from fer_faces import FER2013_LANDMARKS
from fer_quality import measure_crop
from fer_training.evaluate import predict_with_onnx
from fer_training.faces import LabelledFaces

SIDES_PX: Final = (48, 40, 32, 28, 24, 20, 16, 12)
"""Heights that a face has in its photo before it is enlarged to a crop."""
CUT_PARTS: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Parts of a crop that lie beyond the picture's edge."""
TURNS_DEG: Final = (0, 10, 20, 30, 40, 50, 90)
SEED: Final = 0

_COLUMNS: Final = ("faces", "right", "mean confidence", "not uncertain", "of these right")
_Images = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float64]


def sweep_sizes(onnx: Path, faces: LabelledFaces, threshold: float) -> str:
    """A Markdown table: answers by the distance between the eyes, of faces shrunk and enlarged again."""
    eye_distance = float(np.linalg.norm(FER2013_LANDMARKS[1] - FER2013_LANDMARKS[0]))
    rows = []
    for side_px in SIDES_PX:
        images = np.array([_shrink(image, side_px) for image in faces.images], np.uint8)
        sharpness = np.median([measure_crop(image)[0] for image in images])
        named = f"{eye_distance * side_px / FACE_SIZE_PX:.1f} px, a face of {side_px} px | {sharpness:.2f}"
        rows.append((named, *_answer(onnx, faces, images)))
    return _table("distance between the eyes | sharpness, median", rows, threshold)


def sweep_cuts(onnx: Path, faces: LabelledFaces, threshold: float) -> str:
    """A Markdown table: answers by the part of the crop that the photo doesn't show, at any one of the four sides."""
    rows = []
    for part in CUT_PARTS:
        turns = np.random.default_rng(SEED).integers(4, size=len(faces)).tolist()
        pairs = zip(faces.images, turns, strict=True)
        images = np.array([_cut_off(image, part, quarters) for image, quarters in pairs], np.uint8)
        rows.append((f"{part:.0%}", *_answer(onnx, faces, images)))
    return _table("outside", rows, threshold)


def tabulate_turns(yaw_deg: _Floats, confidence: _Floats, right: npt.NDArray[np.bool_], threshold: float) -> str:
    """A Markdown table: answers by how far the faces are turned to a side, all arguments being of N faces."""
    rows = []
    for low, high in itertools.pairwise(TURNS_DEG):
        chosen = (np.abs(yaw_deg) >= low) & (np.abs(yaw_deg) < high)
        rows.append((f"{low} to {high}°", confidence[chosen], right[chosen]))
    return _table("yaw, either way", rows, threshold)


def _shrink(image: _Images, side_px: int) -> _Images:
    small = cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, image.shape[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def _cut_off(image: _Images, part: float, quarters: int) -> _Images:
    """Repeats the last column or row that the photo shows, as `fer_faces.align_face` does."""
    turned = np.rot90(image, quarters).copy()
    shown = FACE_SIZE_PX - round(part * FACE_SIZE_PX)
    turned[:, shown:] = turned[:, shown - 1 : shown]
    return np.rot90(turned, -quarters)


def _answer(onnx: Path, faces: LabelledFaces, images: _Images) -> tuple[_Floats, npt.NDArray[np.bool_]]:
    """Confidence, and whether the answer is right, of each face."""
    probabilities = predict_with_onnx(onnx, replace(faces, images=images)).astype(np.float64)
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == faces.labels


def _table(title: str, rows: Iterable[tuple[str, _Floats, npt.NDArray[np.bool_]]], threshold: float) -> str:
    lines = [f"| {title} | {' | '.join(_COLUMNS)} |", "|" + " --- |" * (title.count("|") + 1 + len(_COLUMNS))]
    for name, confidence, right in rows:
        sure = confidence >= threshold
        cells = [str(len(right)), *(["", "", "", ""] if not len(right) else _figures(confidence, right, sure))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _figures(confidence: _Floats, right: npt.NDArray[np.bool_], sure: npt.NDArray[np.bool_]) -> list[str]:
    of_sure = f"{right[sure].mean():.1%}" if sure.any() else ""
    return [f"{right.mean():.1%}", f"{confidence.mean():.3f}", f"{sure.mean():.1%}", of_sure]
