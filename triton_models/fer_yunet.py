"""YuNet, the network of libfacedetection, in ONNX Runtime: BGR pixels in; boxes, five landmarks and scores out.

Called by `fer_detector`, which decides at what sizes a picture is looked at. The file that it runs is written by
`fer-build detector`, and lies beside the model `fer_preprocess`.

Source: Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", 2023; decoding and suppression follow
facedetectcnn.cpp of libfacedetection v3.
"""

from functools import lru_cache
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

from fer_detector import Detections

ONNX_FILE: Final = Path(__file__).resolve().parent / "fer_preprocess" / "1" / "yunet.onnx"
"""In the checkout as in an assembled repository."""

IMAGE: Final = "IMAGE"
"""Input: uint8, (height, width, 3), BGR, 0..255; both sides multiples of `GRID_PX`."""
SCORES: Final = "SCORES"
"""Output: float32, (cells,), 0..1. Cells are those of stride 8, row by row, then of 16 and of 32."""
OFFSETS: Final = "OFFSETS"
"""Output: float32, (14, cells): centre x and y from the cell's own corner, in cells; logarithms of width and height in
cells; x and y of the five landmarks from the cell's corner, in cells."""

GRID_PX: Final = 32
"""The network halves its input five times."""
STRIDES: Final = (8, 16, 32)
_MAX_OVERLAP: Final = 0.45
"""Of two boxes of one face, the better one is kept. Intersection over union. Source: facedetectcnn.cpp, and the gate of
`fer-build detector`, which fails on eight pictures of 240 at 0.4 and on ten at 0.5."""
_LEAST_WEIGHT: Final = 1e-6
"""Lest a sum be 0."""
_MAX_CANDIDATES: Final = 512
"""The best ones only are compared with each other, so that a picture of nothing but faces does not take for ever."""


class YuNet:
    """The network on one thread. Not to be shared between threads."""

    def __init__(self, onnx: Path | bytes = ONNX_FILE, averages: bool = True) -> None:
        """Load a network.

        Args:
            onnx: The file, or the bytes of one.
            averages: Whether a face's box and landmarks are the mean of what all cells say that show it, each weighted
                by its score. Otherwise they are those of the best cell, as libfacedetection has it; which one that is
                changes with the least noise, and the landmarks with it by 2 % of the face's height.

        Raises:
            Exception: It cannot be loaded; ONNX Runtime has no public base class for that.
        """
        self._averages = averages
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])

    def look(self, pixels: npt.NDArray[np.uint8], min_score: float) -> Detections:
        """Find the faces that are between 10 and 300 px large.

        Args:
            pixels: uint8, (height, width, 3), BGR, 0..255, any size from 1x1 px. Looked at as they are.
            min_score: Weaker detections are dropped. 0..1.

        Returns:
            In px of `pixels`, best score first; not cut to whole px.
        """
        padded = _pad(pixels)
        scores, offsets = self._session.run([SCORES, OFFSETS], {IMAGE: padded})
        cells = np.flatnonzero(scores >= min_score)
        if not len(cells):
            return Detections.none()
        found = scores[cells]
        best = np.argsort(-found, kind="stable")[:_MAX_CANDIDATES]
        cells = cells[best]
        boxes, landmarks = _decode(offsets[:, cells], cells, padded.shape[0], padded.shape[1])
        scores = found[best]
        kept, shares = _group(boxes, scores - min_score)
        if not self._averages:
            return Detections(boxes[kept], landmarks[kept], scores[kept])
        averaged = (shares @ landmarks.reshape(len(cells), -1)).reshape(-1, 5, 2)
        return Detections(shares @ boxes, averaged, scores[kept])


def _pad(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Add black px at the right and below, up to multiples of the grid: what libfacedetection does."""
    below, right = (-side % GRID_PX for side in pixels.shape[:2])
    if below or right:
        pixels = np.asarray(cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_CONSTANT), np.uint8)
    return np.ascontiguousarray(pixels)


def _decode(
    offsets: npt.NDArray[np.float32], cells: npt.NDArray[np.intp], height: int, width: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return boxes (N, 4) and landmarks (N, 5, 2), float32, in px, of the `offsets` (14, N) of `cells` (N,)."""
    corners, strides = _grid(height, width)
    corner, stride = corners.take(cells, axis=1), strides.take(cells)
    centres = (corner + offsets[:2]) * stride
    halves = np.exp(offsets[2:4]) * (stride / 2)
    boxes = np.concatenate([centres - halves, centres + halves]).T
    landmarks = (offsets[4:].reshape(5, 2, -1) + corner) * stride  # (5, 2, N)
    return boxes, np.ascontiguousarray(landmarks.transpose(2, 0, 1))


@lru_cache(maxsize=16)
def _grid(height: int, width: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the cells of a picture: x and y of their corners in cells, float32, (2, cells), and strides, (cells,)."""
    corners, strides = [], []
    for stride in STRIDES:
        row, column = np.mgrid[: height // stride, : width // stride].reshape(2, -1)
        corners.append(np.stack([column, row]).astype(np.float32))
        strides.append(np.full(len(row), stride, np.float32))
    return np.concatenate(corners, axis=1), np.concatenate(strides)


def _group(
    boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Put the cells that show the same face together.

    Args:
        boxes: float32, (N, 4), best score first.
        scores: float32, (N,): how much each counts.

    Returns:
        Indices of the best of each group, (groups,), best first. And what part of its group's box and landmarks each
        cell says: float32, (groups, N), rows that sum to 1. A cell counts the less, the less it overlaps the best.
    """
    left, top, right, bottom = boxes.T
    areas = (right - left) * (bottom - top)
    rest = np.arange(len(boxes))
    kept, shares = [], []
    while len(rest):
        best = rest[0]
        width = np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest])
        height = np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        overlap = shared / (areas[best] + areas[rest] - shared)
        same = overlap > _MAX_OVERLAP
        same[0] = True  # also where a box has no area
        weights = np.zeros(len(boxes), np.float32)
        weights[rest[same]] = scores[rest[same]] * (overlap[same] - _MAX_OVERLAP)
        weights[best] = max(weights[best], _LEAST_WEIGHT)
        kept.append(best)
        shares.append(weights / weights.sum())
        rest = rest[~same]
    return np.array(kept), np.array(shares)
