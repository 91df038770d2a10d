"""Encoded bytes -> upright image -> faces -> aligned crops: the one preprocessing of serving, training and evaluation.

Called by the Triton models `fer_preprocess` and `fer_preprocess_cropped`, and by whoever needs the crops that the
server makes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from fer_contract import FACE_SIZE_PX, MAX_FACES
from fer_detector import Detections, FaceDetector
from fer_images import ImageLimits, UprightImage, decode_image
from fer_quality import measure_faces
from fer_scaling import halve

FER2013_LANDMARKS: Final = np.array(
    [[15.2, 17.9], [32.2, 18.3], [22.8, 28.2], [16.5, 36.1], [30.3, 36.5]],
    np.float32,
)
"""float32, (5, 2): where FER2013's pictures have the landmarks, in px of the 48x48 crop: the frame that faces are
aligned into. Source: means over 574 Training images, measured with libfacedetection; deviations are 3 to 5 px."""

ENOUGH_PX: Final = 1100
"""An image that has as many px as a square of this side is good enough: the search's second look shows about as many. A
JPEG of 4000x3000 px is decoded at half its size, and a PNG is reduced to that, so that both give the same answer."""


_FINER: Final = ((0.25, 4), (1.0, 2), (math.inf, 1))
"""Crops that shrink the face by more than the first number are sampled so many times finer and averaged, so that every
px of the face counts: what the answers differ by between a PNG and a JPEG of the same picture is halved by it."""

DECODE: Final = "decode"
DETECT: Final = "detect"
ALIGN: Final = "align"
STAGES: Final = (DECODE, DETECT, ALIGN)
"""Pipeline stages in order; labels of the metric."""


@dataclass(frozen=True)
class Faces:
    """The faces of one image, largest box first. Coordinates are px of the upright image, origin top left."""

    image_size: npt.NDArray[np.int32]
    """int32, (2,): width, height of the upright image."""
    boxes: npt.NDArray[np.float32]
    """float32, (N, 4): x_min, y_min, x_max, y_max, inside the image."""
    landmarks: npt.NDArray[np.float32]
    """float32, (N, 5, 2): x, y of right eye, left eye, nose tip, right and left mouth corner (the person's right)."""
    scores: npt.NDArray[np.float32]
    """float32, (N,): the detector's, 0..1."""
    crops: npt.NDArray[np.uint8]
    """uint8, (N, 1, 48, 48): aligned faces, gray, 0..255."""
    quality: npt.NDArray[np.float32]
    """float32, (N, 8): see `fer_quality.measure_faces`."""
    found: int
    """How many faces the detector found: N, or more where there are more than MAX_FACES."""


def find_faces(
    data: bytes, detector: FaceDetector, limits: ImageLimits, finish: Callable[[str], None] = lambda _: None
) -> Faces:
    """Find and align the faces of one encoded image.

    Args:
        data: One encoded file: JPEG, PNG, WebP or BMP.
        detector: What finds them.
        limits: What to refuse.
        finish: Called with the name of each of the STAGES when it ends.

    Returns:
        At most MAX_FACES faces, the largest. None is a result too: N is 0 then.

    Raises:
        fer_images.ImageRefusedError: The bytes cannot be used as an image.
    """
    image = decode_image(data, limits, ENOUGH_PX)
    finish(DECODE)
    detected = detector.detect(image.pixels)
    found = _largest_first(detected)
    finish(DETECT)
    crops = np.empty((len(found.boxes), 1, FACE_SIZE_PX, FACE_SIZE_PX), np.uint8)
    for crop, landmarks in zip(crops, found.landmarks, strict=True):
        crop[0] = align_face(image.pixels, landmarks)
    size = np.array([image.width_px, image.height_px], np.int32)
    corners = found.boxes.reshape(-1, 2, 2) * image.scale
    boxes = np.clip(corners, 0, size.astype(np.float32)).reshape(-1, 4)
    landmarks = found.landmarks * image.scale
    quality = measure_faces(crops, landmarks, size, FER2013_LANDMARKS)
    finish(ALIGN)
    return Faces(size, boxes, landmarks, found.scores, crops, quality, len(detected.boxes))


def read_face_crop(data: bytes, limits: ImageLimits) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Take a whole encoded image as one face crop in FER2013's framing. Nothing is detected.

    The image is scaled to 48x48 without keeping its proportions; one that has this size already is taken as it is.

    Returns:
        The crop: uint8, (1, 1, 48, 48), gray, 0..255. And int32, (2,): width, height of the upright image.

    Raises:
        fer_images.ImageRefusedError: The bytes cannot be used as an image.
    """
    image = decode_image(data, limits, 8 * FACE_SIZE_PX)
    gray = cv2.cvtColor(image.pixels, cv2.COLOR_BGR2GRAY)
    crop = cv2.resize(gray, (FACE_SIZE_PX, FACE_SIZE_PX), interpolation=_interpolation(image))
    return crop[np.newaxis, np.newaxis].astype(np.uint8), np.array([image.width_px, image.height_px], np.int32)


def align_face(image: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Crop one face so that its landmarks lie where FER2013's pictures have them.

    Args:
        image: uint8, (height, width, 3), BGR, 0..255.
        landmarks: float32, (5, 2): x, y in px of `image`, in the order of FER2013_LANDMARKS.

    Returns:
        uint8, (48, 48), gray, 0..255. What lies beyond the image's edge repeats the edge.
    """
    to_crop = similarity_transform(landmarks, FER2013_LANDMARKS)
    region, offset = _region_of_crop(image, to_crop)
    gray = cv2.cvtColor(region, cv2.COLOR_BGR2GRAY)
    to_crop[:, 2] += to_crop[:, :2] @ offset  # px of `region` instead of px of `image`
    scale = math.hypot(to_crop[0, 0], to_crop[1, 0])
    finer = next(factor for limit, factor in _FINER if scale < limit)
    to_crop *= finer
    to_crop[:, 2] += (finer - 1) / 2  # px centres: what was the centre of one px is that of finer x finer
    scale *= finer
    while scale <= 0.5:  # bilinear sampling would skip px
        gray = halve(np.asarray(gray, np.uint8))
        to_crop[:, 2] += to_crop[:, :2] @ (0.5, 0.5)
        to_crop[:, :2] *= 2
        scale *= 2
    side = (FACE_SIZE_PX * finer, FACE_SIZE_PX * finer)
    crop = cv2.warpAffine(gray, to_crop, side, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if finer > 1:
        crop = cv2.resize(crop, (FACE_SIZE_PX, FACE_SIZE_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(crop, np.uint8)


def similarity_transform(source: npt.NDArray[np.float32], target: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the rotation, uniform scale and shift that bring `source` closest to `target` in the least-squares sense.

    Points are taken as complex numbers, in which such a transform is `a * z + b` with complex a and b. Where all
    source points coincide, there is no scale to be had and a shift alone is returned.

    Args:
        source: float32, (K, 2): x, y.
        target: float32, (K, 2): x, y.

    Returns:
        float64, (2, 3): maps (x, y, 1) of the source to x, y of the target.
    """
    # Python's own numbers: for five points, NumPy's calls would take ten times as long as the arithmetic.
    z = [complex(x, y) for x, y in source.tolist()]
    w = [complex(x, y) for x, y in target.tolist()]
    z_mean, w_mean = sum(z) / len(z), sum(w) / len(w)
    spread = sum(abs(one - z_mean) ** 2 for one in z)
    product = sum((one - z_mean).conjugate() * (other - w_mean) for one, other in zip(z, w, strict=True))
    a = product / spread if spread > 0 else 1.0 + 0j
    b = w_mean - a * z_mean
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def _region_of_crop(
    image: npt.NDArray[np.uint8], to_crop: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """Return the part of `image` that a crop is sampled from, and where it starts (x, y).

    Saves turning a whole photo gray for one face in it.
    """
    height, width = image.shape[:2]
    a, b = complex(to_crop[0, 0], to_crop[1, 0]), complex(to_crop[0, 2], to_crop[1, 2])
    reach = [(complex(x, y) - b) / a for x in (0, FACE_SIZE_PX) for y in (0, FACE_SIZE_PX)]
    margin = 2 / abs(a)  # two px of the crop
    left, right = _span([point.real for point in reach], margin, width)
    top, bottom = _span([point.imag for point in reach], margin, height)
    return image[top:bottom, left:right], np.array([left, top], np.float64)


def _span(places: list[float], margin: float, end: int) -> tuple[int, int]:
    """Return the first to the last px that is needed, one at least, of those from 0 to `end`."""
    low = min(max(math.floor(min(places) - margin), 0), end - 1)
    return low, min(max(math.ceil(max(places) + margin), low + 1), end)


def _largest_first(found: Detections) -> Detections:
    width, height = found.boxes[:, 2] - found.boxes[:, 0], found.boxes[:, 3] - found.boxes[:, 1]
    order = np.argsort(-(width * height), kind="stable")[:MAX_FACES]
    return Detections(found.boxes[order], found.landmarks[order], found.scores[order])


def _interpolation(image: UprightImage) -> int:
    shrinks = min(image.pixels.shape[:2]) > FACE_SIZE_PX
    return cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
