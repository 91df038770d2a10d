"""YuNet as an ONNX graph, with weights out of libfacedetection. Called by `fer_build.detector`."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from fer_build.libfacedetection import Weights
from fer_yunet import IMAGE, OFFSETS, SCORES

# The oldest versions that have what the graph uses, so that runtimes of years ago load it.
_OPSET: Final = 13
_IR_VERSION: Final = 7
_HEADS: Final = (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
"""What each cell says, and in how many numbers: class, objectness, box, landmarks."""
_CHANNELS: Final = 64
"""Of the features that the heads see."""


def make_graph(weights: Weights, metadata: dict[str, str]) -> onnx.ModelProto:
    """The network, as `fer_yunet` runs it; the same weights give the same bytes.

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
    """Nodes in order; each method adds some and returns the name of what they compute."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add_input(self) -> str:
        """uint8, (height, width, 3) -> float32, (1, 3, height, width)."""
        planes = self._add("Transpose", [IMAGE], "planes", perm=[2, 0, 1])
        batch = self._add("Unsqueeze", [planes, self._constant("first_axis", np.array([0]))], "batch")
        return self._add("Cast", [batch], "pixels", to=TensorProto.FLOAT)

    def add_backbone(self, image: str) -> list[str]:
        """-> features of stride 8, 16, 32."""
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
        """Coarse features are added to finer ones."""
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
        """-> float32, (16, cells) of one stride."""
        names = [(f"bbox_head__multi_level_{head}__{level}", channels) for head, channels in _HEADS]
        point = np.concatenate([self._weights.read(f"{name}_pw_weight", n, _CHANNELS) for name, n in names])
        point_bias = np.concatenate([self._weights.read(f"{name}_pw_bias", n) for name, n in names])
        depth = np.concatenate([self._weights.read(f"{name}_dw_weight", 9, n).T for name, n in names])
        depth_bias = np.concatenate([self._weights.read(f"{name}_dw_bias", n) for name, n in names])
        maps = self._add_pair(features, f"head{level}", (point, point_bias), (depth, depth_bias))
        shape = self._constant(f"head{level}_shape", np.array([len(point), -1]))
        return self._add("Reshape", [maps, shape], f"head{level}_cells")

    def add_outputs(self, levels: list[str]) -> None:
        """Scores are the geometric mean of class and objectness."""
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
        """A 1x1 convolution of weights (out, in), then a 3x3 one of each channel with weights (out, 9)."""
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
