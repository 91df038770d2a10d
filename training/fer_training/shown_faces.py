"""Faces that are crops already, shown to the server's preprocessing as if each were a photo of its own.

Called by `quality_bounds` and `head_model`, which need what a photo has and a crop of 48x48 px lacks: landmarks, and
the crop that the server would make.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from fer_contract import FACE_SIZE_PX, QUALITY_COLUMNS
from fer_detector import YUNET, FaceDetector, open_network
from fer_faces import Faces, find_faces
from fer_images import ImageLimits
from fer_search import FaceSearch

ZOOM: Final = 3
"""A face of 48 px is enlarged so many times: a detector that is shown 320 px finds it then."""
MARGIN_PX: Final = 40
"""Around the enlarged face, filled with its mirror image: a detector wants to see where a head ends."""


@dataclass(frozen=True)
class ShownFaces:
    """Results of the server's preprocessing for N crops. Rows without a face hold zeros."""

    found: npt.NDArray[np.bool_]
    """bool, (N,)."""
    crops: npt.NDArray[np.uint8]
    """uint8, (N, 48, 48): the aligned faces, gray, 0..255."""
    landmarks: npt.NDArray[np.float32]
    """float32, (N, 5, 2): x, y in px of the crops that were shown."""
    quality: npt.NDArray[np.float32]
    """float32, (N, 8): as `fer_quality.measure_faces`, with px of the crops that were shown."""


def open_detector() -> FaceDetector:
    """Open the detector that is served, with the settings that it has by default."""
    return FaceSearch(open_network(YUNET))


def show_faces(
    images: npt.NDArray[np.uint8], detector: FaceDetector, zoom: int = ZOOM, margin_px: int = MARGIN_PX
) -> ShownFaces:
    """Show each image, enlarged and surrounded by its mirror image, to the server's preprocessing.

    Where that finds several faces, the one nearest to the middle is taken.
    """
    count = len(images)
    shown = ShownFaces(
        np.zeros(count, np.bool_),
        np.zeros_like(images),
        np.zeros((count, 5, 2), np.float32),
        np.zeros((count, len(QUALITY_COLUMNS)), np.float32),
    )
    for index, image in enumerate(tqdm(images, unit="face", leave=False, disable=None)):
        enlarged = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
        photo = cv2.copyMakeBorder(enlarged, *(margin_px,) * 4, cv2.BORDER_REFLECT_101)
        faces = find_faces(cv2.imencode(".bmp", photo)[1].tobytes(), detector, ImageLimits())
        if len(faces.boxes):
            middle = _nearest_to(margin_px + zoom * FACE_SIZE_PX / 2, faces)
            shown.found[index] = True
            shown.crops[index] = faces.crops[middle, 0]
            shown.landmarks[index] = (faces.landmarks[middle] - margin_px) / zoom
            shown.quality[index] = faces.quality[middle]
    shown.quality[:, QUALITY_COLUMNS.index("eye_distance_px")] /= zoom
    return shown


def _nearest_to(middle: float, faces: Faces) -> int:
    """Return the face whose box has its centre closest to (middle, middle)."""
    centres = faces.boxes.reshape(-1, 2, 2).mean(axis=1)
    return int(np.abs(centres - middle).sum(axis=1).argmin())
