"""Face detection behind a small interface: BGR pixels in; boxes, five landmarks and scores out.

`fer_faces` asks a `FaceDetector`. The one that is served is `fer_search.FaceSearch`, which decides at what sizes a
picture is shown to a network. The network in use is `fer_yunet`, chosen by the parameter `detector` of
fer_preprocess (config.pbtxt, configs/cpu.pbtxt).
Another one takes its place in one file beside this one, whose class offers `look` as the `Network` below has it:

    class MyNetwork:
        def look(self, pixels, min_score): ...

and in one line of `_CLASSES`, which gives it a name.
"""

import importlib
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

YUNET: Final = "yunet"
_CLASSES: Final = {
    YUNET: ("fer_yunet", "YuNet"),
}
"""Module and class of each network by its name. A module is imported only when it is used."""
NETWORKS: Final = tuple(_CLASSES)


@dataclass(frozen=True)
class Detections:
    """Faces found in one image. Coordinates are px of that image, origin top left."""

    boxes: npt.NDArray[np.float32]
    """float32, (N, 4): x_min, y_min, x_max, y_max. May reach over the image's edge."""
    landmarks: npt.NDArray[np.float32]
    """float32, (N, 5, 2): x, y of right eye, left eye, nose tip, right and left mouth corner (the person's right)."""
    scores: npt.NDArray[np.float32]
    """float32, (N,): 0..1."""

    @staticmethod
    def none() -> "Detections":
        """Return no face."""
        return Detections(np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, np.float32))

    @property
    def sides(self) -> npt.NDArray[np.float32]:
        """Return the boxes' width and height in px: float32, (N, 2)."""
        return self.boxes[:, 2:] - self.boxes[:, :2]

    def picked(self, indices: npt.NDArray[np.intp]) -> "Detections":
        """Return only some of them, in this order."""
        return Detections(self.boxes[indices], self.landmarks[indices], self.scores[indices])

    def scaled(self, factors: npt.NDArray[np.float32]) -> "Detections":
        """Return them in px of another picture: x and y are multiplied by `factors`, float32, (2,)."""
        boxes = self.boxes.reshape(-1, 2, 2) * factors
        return Detections(boxes.reshape(-1, 4), self.landmarks * factors, self.scores)

    def turned(self, to_other: npt.NDArray[np.float64]) -> "Detections":
        """Return them in px of another picture that is turned: boxes keep their shape around a centre that is moved.

        Args:
            to_other: float64, (3, 3): x, y, 1 of this picture to x, y, 1 of the other: a similarity.
        """
        turn, shift = to_other[:2, :2].astype(np.float32), to_other[:2, 2].astype(np.float32)
        centres = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2 @ turn.T + shift
        halves = self.sides * (np.float32(np.hypot(*turn[:, 0])) / 2)
        boxes = np.concatenate([centres - halves, centres + halves], axis=1)
        return Detections(boxes, self.landmarks @ turn.T + shift, self.scores)

    def joined(self, others: "Detections") -> "Detections":
        """Return these, then `others`."""
        return Detections(
            np.concatenate([self.boxes, others.boxes]),
            np.concatenate([self.landmarks, others.landmarks]),
            np.concatenate([self.scores, others.scores]),
        )

    def without(self, others: "Detections", max_overlap: float) -> "Detections":
        """Return those that overlap none of `others` by more than this intersection over union."""
        if not len(others.boxes) or not len(self.boxes):
            return self
        overlaps = np.stack([self.overlaps(box) for box in others.boxes])  # (others, N)
        return self.picked(np.flatnonzero(overlaps.max(axis=0) <= max_overlap))

    def overlaps(self, box: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the intersection over union of each with `box`, (4,): float32, (N,)."""
        shared = np.minimum(self.boxes[:, 2:], box[2:]) - np.maximum(self.boxes[:, :2], box[:2])
        areas = np.maximum(shared, 0).prod(axis=1)
        both = self.sides.prod(axis=1) + (box[2:] - box[:2]).prod() - areas
        return np.asarray(areas / both, np.float32)


class Network(Protocol):
    """What shows faces in pixels, and is shown one picture at one size."""

    def look(self, pixels: npt.NDArray[np.uint8], min_score: float) -> Detections:
        """Find the faces in `pixels`: uint8, (height, width, 3), BGR, 0..255, any size from 1x1 px."""
        ...


class FaceDetector(Protocol):
    """What `fer_faces` asks of a detector."""

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """Find the faces in `image`: uint8, (height, width, 3), BGR, 0..255, any size from 1x1 px."""
        ...


def open_network(name: str) -> Network:
    """Load the network called `name`, one of `NETWORKS`.

    Raises:
        ValueError: There is no such network.
    """
    if name not in _CLASSES:
        raise ValueError(f"detector must be one of {', '.join(NETWORKS)}, not {name!r}")
    module, class_name = _CLASSES[name]
    network: Network = getattr(importlib.import_module(module), class_name)()
    return network
