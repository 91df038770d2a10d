"""The whole way from bytes to probabilities in one process, by the very functions that the server calls.

What the ceiling runs, and what a user of another framework would put behind it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import fer_contract as contract
from fer_build.release import SERVED_ONNX, SERVED_RUNTIME
from fer_detector import YUNET, open_network
from fer_faces import Faces, find_faces
from fer_images import ImageLimits
from fer_process import set_up_process
from fer_runtimes import open_classifier
from fer_search import FaceSearch


@dataclass(frozen=True)
class Answer:
    """What the model `fer` answers."""

    faces: Faces
    probabilities: npt.NDArray[np.float32]
    """float32, (N, 7)."""

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "image_size": self.faces.image_size.tolist(),
            "boxes": self.faces.boxes.tolist(),
            "landmarks": self.faces.landmarks.tolist(),
            "detection_scores": self.faces.scores.tolist(),
            "probabilities": self.probabilities.tolist(),
        }


class Pipeline:
    """Decodes, detects, aligns and classifies on one thread. Not to be shared between threads."""

    def __init__(self, onnx: Path = SERVED_ONNX, runtime: str = SERVED_RUNTIME) -> None:
        """Loads the detector and the classifier, and runs each once."""
        set_up_process()
        self.limits = ImageLimits()
        self.detector = FaceSearch(open_network(YUNET))
        self.detector.detect(np.zeros((240, 320, 3), np.uint8))
        self.classify = open_classifier(onnx, runtime, 1)
        self.classify(np.zeros((1, 1, contract.FACE_SIZE_PX, contract.FACE_SIZE_PX), np.uint8))

    def __call__(self, image: bytes) -> Answer:
        """The faces of one encoded image and their probabilities. Raises `fer_images.ImageRefusedError`."""
        faces = find_faces(image, self.detector, self.limits)
        if not len(faces.crops):
            return Answer(faces, np.zeros((0, len(contract.LABELS)), np.float32))
        return Answer(faces, self.classify(faces.crops))
