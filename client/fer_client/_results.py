"""What a prediction consists of, and how it is read from the server's tensors.

All coordinates are pixels of the upright image, after the file's EXIF orientation: x grows to the right, y downwards,
(0, 0) is the upper left corner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import fer_contract

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ImageSize(NamedTuple):
    """Width and height of the upright image in pixels."""

    width: int
    height: int


class Point(NamedTuple):
    """A position in pixels of the upright image."""

    x: float
    y: float


class Box(NamedTuple):
    """A rectangle in pixels of the upright image. It lies within the image."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float

    @property
    def width(self) -> float:
        """Extent along x in pixels."""
        return self.x_max - self.x_min

    @property
    def height(self) -> float:
        """Extent along y in pixels."""
        return self.y_max - self.y_min


class Landmarks(NamedTuple):
    """Five points of a face. Right and left are the person's own: the right eye is further left in the image."""

    right_eye: Point
    left_eye: Point
    nose_tip: Point
    right_mouth_corner: Point
    left_mouth_corner: Point


@dataclass(frozen=True)
class Face:
    """One face and its apparent expression, as an annotator would label it.

    Attributes:
        box: Where the face is.
        landmarks: Eyes, nose tip and mouth corners.
        detection_score: How sure the detector is that this is a face, 0..1.
        probabilities: Label to calibrated probability, 0..1, in the model's label order; they sum to 1.
    """

    box: Box
    landmarks: Landmarks
    detection_score: float
    probabilities: Mapping[str, float]

    @property
    def emotion(self) -> str:
        """The label with the highest probability."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def confidence(self) -> float:
        """The probability of `emotion`, 0..1."""
        return self.probabilities[self.emotion]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: pixels rounded to 0.01, scores and probabilities to 0.000001."""
        return {
            "box": {name: round(value, 2) for name, value in self.box._asdict().items()},
            "detection_score": round(self.detection_score, 6),
            "emotion": self.emotion,
            "confidence": round(self.confidence, 6),
            "probabilities": {label: round(value, 6) for label, value in self.probabilities.items()},
            "landmarks": {
                name: {"x": round(point.x, 2), "y": round(point.y, 2)}
                for name, point in self.landmarks._asdict().items()
            },
        }


@dataclass(frozen=True)
class Prediction:
    """What the server found in one image.

    Attributes:
        image_size: Size of the upright image, which boxes and landmarks refer to.
        faces: Largest first; empty when there is no face.
        model_version: Version of the network served when this client first asked. It asks once: make a new client
            after the server has been given another network.
    """

    image_size: ImageSize
    faces: tuple[Face, ...]
    model_version: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, rounded as in `Face.to_dict`."""
        return {
            "image_size": self.image_size._asdict(),
            "model_version": self.model_version,
            "faces": [face.to_dict() for face in self.faces],
        }


def faces_from_tensors(tensors: Mapping[str, NDArray[Any]], labels: tuple[str, ...]) -> tuple[Face, ...]:
    """Build the faces out of the output tensors of the model `fer`, for N faces.

    Args:
        tensors: BOXES float32 (N, 4), LANDMARKS float32 (N, 5, 2), DETECTION_SCORES float32 (N,) and
            PROBABILITIES float32 (N, len(labels)), by name; others are ignored.
        labels: Names of the columns of PROBABILITIES.
    """
    rows = zip(
        tensors[fer_contract.BOXES].tolist(),
        tensors[fer_contract.LANDMARKS].tolist(),
        tensors[fer_contract.DETECTION_SCORES].tolist(),
        tensors[fer_contract.PROBABILITIES].tolist(),
        strict=True,
    )
    return tuple(
        Face(
            box=Box(*box),
            landmarks=Landmarks(*(Point(*point) for point in points)),
            detection_score=score,
            probabilities=dict(zip(labels, row, strict=True)),
        )
        for box, points, score, row in rows
    )
