"""What a prediction consists of, and how it is read from the server's tensors.

All coordinates are pixels of the upright image, after the file's EXIF orientation: x grows to the right, y downwards,
(0, 0) is the upper left corner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import fer_contract
from fer_client._server import LOW_CONFIDENCE, ServedModel

if TYPE_CHECKING:
    import numpy as np
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


class _Expression:
    """What faces and cropped faces have in common: probabilities, and what follows from them."""

    probabilities: Mapping[str, float]
    uncertain: bool
    uncertain_reasons: tuple[str, ...]
    quality: Mapping[str, float]

    @property
    def emotion(self) -> str:
        """The label with the highest probability: the apparent expression, as an annotator would label it."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def confidence(self) -> float:
        """The probability of `emotion`, 0..1."""
        return self.probabilities[self.emotion]

    def _summary(self) -> str:
        reasons = f" ({', '.join(self.uncertain_reasons)})" if self.uncertain_reasons else ""
        return f"{self.emotion} {self.confidence:.1%}" + f", uncertain{reasons}" * self.uncertain

    def _expression_to_dict(self) -> dict[str, Any]:
        quality = {column: round(value, 4) for column, value in self.quality.items()}
        return {
            "emotion": self.emotion,
            "confidence": round(self.confidence, 6),
            "uncertain": self.uncertain,
            "uncertain_reasons": list(self.uncertain_reasons),
            **({"quality": quality} if quality else {}),
            "probabilities": {label: round(value, 6) for label, value in self.probabilities.items()},
        }


@dataclass(frozen=True, repr=False)
class Face(_Expression):
    """One face and its apparent expression, as an annotator would label it.

    Attributes:
        box: Where the face is.
        landmarks: Eyes, nose tip and mouth corners.
        detection_score: How sure the detector is that this is a face, 0..1.
        probabilities: Label to calibrated probability, 0..1, in the model's label order; they sum to 1.
        uncertain: Whether there is a reason not to rely on the answer.
        uncertain_reasons: Which: what is out of the bounds that the server publishes for `quality`, in its own words
            (`too small`, `turned away`), and `low confidence` where the highest probability is below its threshold.
        quality: What the picture of the face is worth, by the names of the server's columns; empty where it has none.
    """

    box: Box
    landmarks: Landmarks
    detection_score: float
    probabilities: Mapping[str, float]
    uncertain: bool = False
    uncertain_reasons: tuple[str, ...] = ()
    quality: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        box = self.box
        place = f"{box.x_min:.0f}, {box.y_min:.0f}, {box.width:.0f} x {box.height:.0f} px"
        return f"Face({self._summary()}, box {place}, score {self.detection_score:.2f})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: pixels rounded to 0.01, scores and probabilities to 0.000001."""
        return {
            "box": {name: round(value, 2) for name, value in self.box._asdict().items()},
            "detection_score": round(self.detection_score, 6),
            **self._expression_to_dict(),
            "landmarks": {
                name: {"x": round(point.x, 2), "y": round(point.y, 2)}
                for name, point in self.landmarks._asdict().items()
            },
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Face:
        """Read back what `to_dict` made. Raises as `Prediction.from_dict`."""
        with _reading("Face"):
            return cls(
                box=Box(**values["box"]),
                landmarks=Landmarks(**{name: Point(**point) for name, point in values["landmarks"].items()}),
                detection_score=float(values["detection_score"]),
                probabilities=_probabilities_from(values),
                uncertain=bool(values["uncertain"]),
                uncertain_reasons=_reasons_from(values),
                quality=_quality_from(values),
            )


@dataclass(frozen=True, repr=False)
class Prediction:
    """What the server found in one image.

    Attributes:
        image_size: Size of the upright image, which boxes and landmarks refer to.
        faces: Largest first; empty when there is no face. The server answers no more than the largest 32.
        model_version: Version of the network served when this client first asked. It asks once: make a new client
            after the server has been given another network.
        faces_left_out: How many more faces the server found than it answers; 0 too where an older server does not say.
    """

    image_size: ImageSize
    faces: tuple[Face, ...]
    model_version: str
    faces_left_out: int = 0

    @property
    def faces_found(self) -> int:
        """How many faces the server found: those in `faces`, and those that it left out."""
        return len(self.faces) + self.faces_left_out

    @property
    def boxes(self) -> NDArray[np.float32]:
        """float32, (N, 4): x_min, y_min, x_max, y_max of each face in pixels of the upright image."""
        return _array([face.box for face in self.faces], 4)

    @property
    def landmarks(self) -> NDArray[np.float32]:
        """float32, (N, 5, 2): x, y of each face's landmarks in pixels of the upright image."""
        return _array([face.landmarks for face in self.faces], len(Landmarks._fields), 2)

    @property
    def detection_scores(self) -> NDArray[np.float32]:
        """float32, (N,), 0..1."""
        return _array([face.detection_score for face in self.faces])

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """float32, (N, number of labels), 0..1, in label order; (0, 0) where there is no face."""
        rows = [list(face.probabilities.values()) for face in self.faces]
        return _array(rows, len(rows[0]) if rows else 0)

    @property
    def quality(self) -> NDArray[np.float32]:
        """float32, (N, number of columns), in the order of the server's columns; (0, 0) where there is no face."""
        rows = [list(face.quality.values()) for face in self.faces]
        return _array(rows, len(rows[0]) if rows else 0)

    def __repr__(self) -> str:
        left_out = f" of {self.faces_found}" if self.faces_left_out else ""
        count = f"{len(self.faces)}{left_out} face{'s' * (self.faces_found != 1)}"
        faces = ": " * bool(self.faces) + "; ".join(face._summary() for face in self.faces)
        return f"Prediction({self.image_size.width} x {self.image_size.height} px, {count}{faces})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, rounded as in `Face.to_dict`."""
        return {
            "image_size": self.image_size._asdict(),
            "model_version": self.model_version,
            "faces_found": self.faces_found,
            "faces": [face.to_dict() for face in self.faces],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Prediction:
        """Read back what `to_dict` made, in an older version too; what else is in the mapping is ignored.

        Raises:
            ValueError: It was made by something else.
        """
        with _reading("Prediction"):
            size = ImageSize(**values["image_size"])
            faces = tuple(Face.from_dict(face) for face in values["faces"])
            left_out = int(values.get("faces_found", len(faces))) - len(faces)
            if left_out < 0:
                raise ValueError(f"faces_found is less than the number of faces, {len(faces)}")
            return cls(size, faces, str(values["model_version"]), left_out)


@dataclass(frozen=True, repr=False)
class CroppedPrediction(_Expression):
    """The apparent expression of an image that is one face, cut out. Nothing was detected in it.

    Attributes:
        image_size: Size of the upright image.
        probabilities: Label to calibrated probability, 0..1, in the model's label order; they sum to 1.
        uncertain: Whether there is a reason not to rely on the answer.
        model_version: As in `Prediction`.
        uncertain_reasons: Which, as in `Face`.
        quality: As in `Face`, but of a crop less is known.
    """

    image_size: ImageSize
    probabilities: Mapping[str, float]
    uncertain: bool
    model_version: str
    uncertain_reasons: tuple[str, ...] = ()
    quality: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"CroppedPrediction({self.image_size.width} x {self.image_size.height} px, {self._summary()})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, rounded as in `Face.to_dict`."""
        return {
            "image_size": self.image_size._asdict(),
            "model_version": self.model_version,
            **self._expression_to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CroppedPrediction:
        """Read back what `to_dict` made. Raises as `Prediction.from_dict`."""
        with _reading("CroppedPrediction"):
            return cls(
                image_size=ImageSize(**values["image_size"]),
                probabilities=_probabilities_from(values),
                uncertain=bool(values["uncertain"]),
                model_version=str(values["model_version"]),
                uncertain_reasons=_reasons_from(values),
                quality=_quality_from(values),
            )


def prediction_from_tensors(tensors: Mapping[str, NDArray[Any]], served: ServedModel) -> Prediction:
    """Build a prediction out of the output tensors of the model `fer`, for N faces.

    Args:
        tensors: IMAGE_SIZE int32 (2,), BOXES float32 (N, 4), LANDMARKS float32 (N, 5, 2), DETECTION_SCORES float32 (N,)
            and PROBABILITIES float32 (N, number of labels), by name; FACES_FOUND int32 (1,) and QUALITY float32
            (N, number of columns) where `served` has them; others are ignored.
        served: What the server says about the model.
    """
    places = zip(
        tensors[fer_contract.BOXES].tolist(),
        tensors[fer_contract.LANDMARKS].tolist(),
        tensors[fer_contract.DETECTION_SCORES].tolist(),
        _expressions(tensors, served),
        strict=True,
    )
    faces = tuple(
        Face(Box(*box), Landmarks(*(Point(*point) for point in points)), score, **expression)
        for box, points, score, expression in places
    )
    size = ImageSize(*tensors[fer_contract.IMAGE_SIZE].tolist())
    [found] = tensors[fer_contract.FACES_FOUND].tolist() if served.tells_faces_found else [len(faces)]
    return Prediction(size, faces, served.version, found - len(faces))


def cropped_prediction_from_tensors(tensors: Mapping[str, NDArray[Any]], served: ServedModel) -> CroppedPrediction:
    """Build a prediction out of the output tensors of the model `fer_cropped`.

    Args:
        tensors: IMAGE_SIZE int32 (2,) and PROBABILITIES float32 (1, number of labels), by name, and QUALITY float32
            (1, number of columns) where `served` has it.
        served: What the server says about the model.
    """
    [expression] = _expressions(tensors, served)
    size = ImageSize(*tensors[fer_contract.IMAGE_SIZE].tolist())
    return CroppedPrediction(image_size=size, model_version=served.version, **expression)


def _expressions(tensors: Mapping[str, NDArray[Any]], served: ServedModel) -> list[dict[str, Any]]:
    """Return the fields of `_Expression`, which faces and cropped faces have in common, for each row."""
    rows = tensors[fer_contract.PROBABILITIES].tolist()
    measured = tensors[fer_contract.QUALITY].tolist() if served.quality_columns else [[]] * len(rows)
    expressions = []
    for row, values in zip(rows, measured, strict=True):
        quality = dict(zip(served.quality_columns, values, strict=True))
        reasons = served.find_reasons(max(row), quality)
        expressions.append(
            {
                "probabilities": dict(zip(served.labels, row, strict=True)),
                "uncertain": bool(reasons),
                "uncertain_reasons": reasons,
                "quality": quality,
            }
        )
    return expressions


def _array(rows: list[Any], *shape: int) -> NDArray[np.float32]:
    """Make an array of one row of the given shape for each face, also where there are none."""
    import numpy as np  # Not at the top, so that `import fer_client` stays light.

    return np.array(rows, np.float32).reshape(len(rows), *shape)


def _probabilities_from(values: Mapping[str, Any]) -> dict[str, float]:
    probabilities = {str(label): float(value) for label, value in values["probabilities"].items()}
    if not probabilities:
        raise ValueError("there are no probabilities")
    return probabilities


def _reasons_from(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the reasons that were written. Documents of older versions have none: there was only one then."""
    reasons = values.get("uncertain_reasons", [LOW_CONFIDENCE] if values["uncertain"] else [])
    if isinstance(reasons, str):
        raise TypeError("uncertain_reasons is text, expected a list")
    return tuple(map(str, reasons))


def _quality_from(values: Mapping[str, Any]) -> dict[str, float]:
    return {str(column): float(value) for column, value in values.get("quality", {}).items()}


@contextmanager
def _reading(kind: str) -> Iterator[None]:
    """Turn what goes wrong with a document within the block into a ValueError that says what it should be."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"not a {kind}.to_dict() document: key {error} is missing") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"not a {kind}.to_dict() document: {error}") from error
