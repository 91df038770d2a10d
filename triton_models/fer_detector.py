"""Face detection behind a small interface: BGR pixels in; boxes, five landmarks and scores out.

`fer_faces` asks a `FaceDetector`. The one that is served is `FaceSearch`, which decides at what sizes a picture is
shown to a network. The network in use is `fer_yunet`, chosen by the parameter `detector` of
fer_preprocess/config.pbtxt.
Another one takes its place in one file, whose class offers `look` as the `Network` below has it:

    class MyNetwork:
        def look(self, pixels, min_score): ...

and in one line of `open_network`, which gives it a name.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import cv2
import numpy as np
import numpy.typing as npt

YUNET: Final = "yunet"
NETWORKS: Final = (YUNET,)


@dataclass(frozen=True)
class Detections:
    """Faces found in one image, in no particular order. Coordinates are px of that image, origin top left."""

    boxes: npt.NDArray[np.float32]
    """float32, (N, 4): x_min, y_min, x_max, y_max. May reach over the image's edge."""
    landmarks: npt.NDArray[np.float32]
    """float32, (N, 5, 2): x, y of right eye, left eye, nose tip, right and left mouth corner (the person's right)."""
    scores: npt.NDArray[np.float32]
    """float32, (N,): 0..1."""

    @staticmethod
    def none() -> "Detections":
        """No face."""
        return Detections(np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, np.float32))


class Network(Protocol):
    """What shows faces in pixels, and is shown one picture at one size."""

    def look(self, pixels: npt.NDArray[np.uint8], min_score: float) -> Detections:
        """Finds the faces in `pixels`: uint8, (height, width, 3), BGR, 0..255, any size from 1x1 px."""
        ...


class FaceDetector(Protocol):
    """What `fer_faces` asks of a detector."""

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """Finds the faces in `image`: uint8, (height, width, 3), BGR, 0..255, any size from 1x1 px."""
        ...


def open_network(name: str) -> Network:
    """Loads the network called `name`, one of `NETWORKS`.

    Raises:
        ValueError: there is no such network.
    """
    if name == YUNET:
        from fer_yunet import YuNet  # a network's runtime is imported only where it is used

        return YuNet()
    raise ValueError(f"detector must be one of {', '.join(NETWORKS)}, not {name!r}")


class FaceSearch:
    """Shows a picture to a network. One object serves one thread at a time."""

    def __init__(self, network: Network, side_px: int = 320, min_score: float = 0.5) -> None:
        """Takes the settings.

        Args:
            network: what finds faces in pixels.
            side_px: larger images are shrunk to this longest side, at least 32. More px find smaller faces, in a time
                that grows with their square.
            min_score: weaker detections are dropped. 0..1.

        Raises:
            ValueError: an argument is out of its range.
        """
        if side_px < 32 or not 0 <= min_score <= 1:
            raise ValueError(f"side_px must be at least 32 and min_score 0..1: {side_px}, {min_score}")
        self._network = network
        self._side_px = side_px
        self._min_score = min_score

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """Finds the faces in `image`: uint8, (height, width, 3), BGR, 0..255, any size from 1x1 px."""
        height, width = image.shape[:2]
        ratio = min(1.0, self._side_px / max(height, width))
        if ratio == 1:
            return self._network.look(image, self._min_score)
        small_width, small_height = max(1, round(width * ratio)), max(1, round(height * ratio))
        small = np.asarray(cv2.resize(image, (small_width, small_height), interpolation=cv2.INTER_AREA), np.uint8)
        found = self._network.look(small, self._min_score)
        scale = np.array([width / small_width, height / small_height], np.float32)
        return Detections(found.boxes * np.tile(scale, 2), found.landmarks * scale, found.scores)
