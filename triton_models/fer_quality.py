"""What the picture of a face is worth: its size, sharpness, light, pose, and how much of it the image shows.

Called by `fer_faces` for each face, and by the Triton models through it. Nothing is learnt here: every column is a
measure with a unit, and the bounds that a measure must keep are parameters of the served configuration.
"""

import math
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from fer_contract import FACE_SIZE_PX, QUALITY_COLUMNS

HEAD_MODEL: Final = np.array(
    [[-0.5, 0, 0], [0.5, 0, 0], [0, 0.574, -0.470], [-0.394, 1.032, 0], [0.394, 1.032, 0]],
    np.float64,
)
"""float64, (5, 3): x to the right of the image, y down, z away from the camera, of the landmarks of a face that looks
into the camera, in distances between its eyes. Source: fer-train head-model on FER2013's PublicTest: what
the landmarks of many faces that are turned this way and that have in common."""

_FIT: Final = np.linalg.pinv(HEAD_MODEL - HEAD_MODEL.mean(axis=0))
"""float64, (3, 5): times landmarks, the two rows of a scaled rotation that the landmarks fit best."""

Point = tuple[float, float]


def measure_faces(
    crops: npt.NDArray[np.uint8],
    landmarks: npt.NDArray[np.float32],
    image_size: npt.NDArray[np.int32],
    frame: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Measure the faces of one image.

    Args:
        crops: uint8, (N, 1, 48, 48): the aligned faces, gray, 0..255, as they are before any normalisation.
        landmarks: float32, (N, 5, 2): x, y in px of the upright image, in the order of `fer_contract.LANDMARK_NAMES`.
        image_size: int32, (2,): width, height of the upright image.
        frame: float32, (5, 2): where the landmarks lie in a crop, in its px.

    Returns:
        float32, (N, 8), the columns of `fer_contract.QUALITY_COLUMNS`, all of them finite:

        - `eye_distance_px`: between the eyes, in px of the upright image at full size;
        - `sharpness`, `brightness`, `contrast`: see `measure_crop`;
        - `yaw_deg`, `pitch_deg`, `roll_deg`: see `estimate_pose`;
        - `outside`: the part of the crop, 0..1, that lies beyond the image's edge.
    """
    size: Point = tuple(image_size.tolist())
    goal = [complex(x, y) for x, y in frame.tolist()]
    rotations = (_FIT @ landmarks.astype(np.float64)).tolist()  # (N, 3, 2)
    rows = []
    for crop, points, rotation in zip(crops, landmarks.tolist(), rotations, strict=True):
        seen = [complex(x, y) for x, y in points]
        pose = _pose_of(rotation)
        rows.append((abs(seen[1] - seen[0]), *measure_crop(crop[0]), *pose, _share_outside(seen, goal, size)))
    return np.array(rows, np.float32).reshape(len(rows), len(QUALITY_COLUMNS))


def measure_crop(crop: npt.NDArray[np.uint8]) -> tuple[float, float, float]:
    """Measure the pixels of one face.

    Args:
        crop: uint8, (48, 48): gray, 0..255.

    Returns:
        - sharpness: the standard deviation of the Laplacian (4 neighbours) divided by the root mean square of the
          gradient (differences of neighbours along x and y), so that neither the amount of light nor its contrast or
          direction change it. 0 is one gray everywhere, white noise has 2.24. A blurred or enlarged face has less than
          a sharp one, a noisy one has more;
        - brightness: the mean gray, 0..255;
        - contrast: the standard deviation of the grays, 0..127.5.
    """
    mean, deviation = cv2.meanStdDev(crop)
    _, of_laplacian = cv2.meanStdDev(cv2.Laplacian(crop, cv2.CV_16S))
    steps = math.hypot(cv2.norm(crop[:, 1:], crop[:, :-1]), cv2.norm(crop[1:], crop[:-1]))
    gradient = steps / math.sqrt(crop.size - FACE_SIZE_PX)
    sharpness = float(of_laplacian[0, 0]) / gradient if gradient > 0 else 0.0
    return sharpness, float(mean[0, 0]), float(deviation[0, 0])


def estimate_pose(landmarks: npt.NDArray[np.float32]) -> tuple[float, float, float]:
    """Estimate which way a head is turned, by fitting HEAD_MODEL to its landmarks under weak perspective.

    The nose alone tells yaw and pitch, so both depend on how far it stands out: a nose that is longer by a tenth makes
    a yaw of 30 degrees one of 32. A camera half a metre away is worth 2 degrees. And a detector may know upright heads
    best: libfacedetection's landmarks follow a tilt by a third only, and so does the roll.

    Args:
        landmarks: float32, (5, 2): x, y in px, y down, in the order of `fer_contract.LANDMARK_NAMES`.

    Returns:
        In degrees, each 0 for a face that looks into the camera: yaw, -180..180, positive towards the right of the
        image, which is the person's left; pitch, -90..90, positive upwards; roll, -180..180, positive clockwise in the
        image. The head is turned by its yaw first, then nods, and is tilted in the plane of the image last.
        All are 0 where the landmarks lie on one line.
    """
    return _pose_of((_FIT @ landmarks.astype(np.float64)).tolist())


def _pose_of(columns: list[list[float]]) -> tuple[float, float, float]:
    """Return yaw, pitch and roll of three rows (x, y): a rotation's first two rows, scaled, as columns.

    The rotation is the one nearest to these rows (its polar factor, in closed form for two rows).
    """
    (ax, bx), (ay, by), (az, bz) = columns
    aa, bb, ab = ax * ax + ay * ay + az * az, bx * bx + by * by + bz * bz, ax * bx + ay * by + az * bz
    area = math.sqrt(max(aa * bb - ab * ab, 0.0))
    if area <= 1e-9 * (aa + bb):
        return 0.0, 0.0, 0.0
    # The third row is the normal of the first two: where the face looks, seen from the camera.
    forward_x, forward_y, forward_z = (
        (ay * bz - az * by) / area,
        (az * bx - ax * bz) / area,
        (ax * by - ay * bx) / area,
    )
    yaw, pitch = math.atan2(forward_x, forward_z), -math.asin(max(-1.0, min(1.0, forward_y)))
    roll = math.atan2(ab * by - (bb + area) * ay, (aa + area) * by - ab * ay)
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def _share_outside(seen: list[complex], goal: list[complex], size: Point) -> float:
    """Return the part of a crop, 0..1, that lies beyond an image of `size`.

    `seen` are the landmarks in the image, `goal` in the crop; the crop is what the similarity transform that brings
    the former closest to the latter makes of the image, as in `fer_faces.similarity_transform`.
    """
    middle, goal_middle = sum(seen) / len(seen), sum(goal) / len(goal)
    spread = sum(abs(z - middle) ** 2 for z in seen)
    turn = sum((z - middle).conjugate() * w for z, w in zip(seen, goal, strict=True)) / spread if spread else 1 + 0j
    if not turn:
        return 0.0
    side = FACE_SIZE_PX
    corners = [(w - goal_middle) / turn + middle for w in (0j, complex(side), complex(side, side), complex(0, side))]
    width, height = size
    if all(0 <= z.real <= width and 0 <= z.imag <= height for z in corners):
        return 0.0
    inside = corners
    for quarter, limit in enumerate((width, height, 0.0, 0.0)):
        # Turned so that the edge to cut at is the right one: x <= limit.
        inside = _cut([z * (-1j) ** quarter for z in inside], limit)
        inside = [z / (-1j) ** quarter for z in inside]
    return min(max(1 - _area(inside) / _area(corners), 0.0), 1.0)


def _cut(polygon: list[complex], limit: float) -> list[complex]:
    """Return the part of a convex polygon with real parts of at most `limit`."""
    kept = []
    for start, end in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if start.real <= limit:
            kept.append(start)
        if (start.real <= limit) != (end.real <= limit):
            kept.append(start + (end - start) * (limit - start.real) / (end.real - start.real))
    return kept


def _area(polygon: list[complex]) -> float:
    """Return the area of a polygon, whichever way round its corners are listed."""
    return abs(sum((a.conjugate() * b).imag for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True))) / 2
