"""Classifiers of three convolutions that fit the contract, in each precision, as ONNX files; they are built fast."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import fer_contract as contract
from fer_build.gates import Comparison, write_gate
from fer_runtimes import RUNTIMES

_CHANNELS = (16, 32, 32)
_ACTIVATION_SCALE = np.float32(1 / 32)

PASSED_GATE = write_gate(
    {
        runtime: Comparison(
            source="nowhere",
            faces_sha256="0" * 64,
            images=1000,
            accuracy=0.7,
            macro_f1=0.7,
            accuracy_lost=0.001,
            macro_f1_lost=0.001,
            agreement=1.0,
            largest_difference=0.01,
            mean_difference=0.001,
        )
        for runtime in RUNTIMES
    }
)
"""What a file of a smaller precision says of itself."""


def write_network(
    path: Path,
    precision: str = "fp32",
    *,
    metadata: dict[str, str | None] | None = None,
    quantised_biases: bool = False,
    quantised_convolutions: int = len(_CHANNELS),
    bit_shift: bool = False,
) -> Path:
    """Writes a network with weights of one seed.

    Args:
        path: the file.
        precision: `fp32`, `fp16` (half weights and tensors) or `int8` (Q/DQ, symmetric, weights per channel).
        metadata: in addition to what the contract asks for, and a passed gate; None takes an entry away.
        quantised_biases: whether an int8 network's biases are int32 too, which TensorRT refuses.
        quantised_convolutions: how many of an int8 network's are; the first ones.
        bit_shift: whether the faces go through an operator first that TensorRT does not know.
    """
    graph = _Graph(np.float16 if precision == "fp16" else np.float32)
    faces = graph.add("BitShift", contract.FACES, graph.constant(np.uint8(1)), direction="RIGHT") if bit_shift else None
    tensor = graph.add("Cast", faces or contract.FACES, to=graph.onnx_type)
    tensor = graph.add("Mul", tensor, graph.constant(graph.type(1 / 255)))
    for index, (inputs, outputs) in enumerate(zip((1, *_CHANNELS[:-1]), _CHANNELS, strict=True)):
        weights = graph.draw((outputs, inputs, 3, 3), (2 / (9 * inputs)) ** 0.5)
        biases = np.zeros(outputs, graph.type)
        if precision == "int8" and index < quantised_convolutions:
            operands = graph.quantise(tensor, weights, biases, quantised_biases)
        else:
            operands = (tensor, graph.constant(weights), graph.constant(biases))
        tensor = graph.add("Conv", *operands, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
        tensor = graph.add("Relu", tensor)
    tensor = graph.add("Flatten", graph.add("GlobalAveragePool", tensor))
    tensor = graph.add("MatMul", tensor, graph.constant(graph.draw((_CHANNELS[-1], len(contract.LABELS)), 0.1)))
    tensor = graph.add("Cast", tensor, to=TensorProto.FLOAT)
    graph.nodes.append(helper.make_node("Softmax", [tensor], [contract.PROBABILITIES], axis=1))
    stated = {
        contract.ONNX_LABELS_KEY: ",".join(contract.LABELS),
        contract.ONNX_VERSION_KEY: "tiny",
        "fer.precision": precision,
    } | (metadata or {})
    if stated["fer.precision"] in ("fp16", "int8"):
        stated.setdefault("fer.gate", PASSED_GATE)
    model = graph.to_model({key: value for key, value in stated.items() if value is not None})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


class _Graph:
    """Nodes and initializers, named as they come: `Conv_0`, `Conv_1` ..."""

    def __init__(self, type_: type[np.floating[Any]]) -> None:
        self.type = type_
        self.onnx_type = helper.np_dtype_to_tensor_dtype(np.dtype(type_))
        self.nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator}_{sum(node.op_type == operator for node in self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def constant(self, value: Any) -> str:
        name = f"constant_{len(self._initializers)}"
        self._initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def draw(self, shape: tuple[int, ...], deviation: float) -> np.ndarray[Any, Any]:
        return self._random.normal(0, deviation, shape).astype(self.type)

    def quantise(self, tensor: str, weights: Any, biases: Any, quantised_biases: bool) -> tuple[str, str, str]:
        scale, zero = self.constant(_ACTIVATION_SCALE), self.constant(np.int8(0))
        activations = self.add("DequantizeLinear", self.add("QuantizeLinear", tensor, scale, zero), scale, zero)
        scales = (np.abs(weights).max((1, 2, 3)) / 127).astype(np.float32)
        whole = np.round(weights / scales[:, None, None, None]).astype(np.int8)
        zeros = self.constant(np.zeros(len(scales), np.int8))
        kernel = self.add("DequantizeLinear", self.constant(whole), self.constant(scales), zeros, axis=0)
        if not quantised_biases:
            return activations, kernel, self.constant(biases)
        whole_biases, bias_scales = self.constant(biases.astype(np.int32)), self.constant(scales * _ACTIVATION_SCALE)
        return activations, kernel, self.add("DequantizeLinear", whole_biases, bias_scales, axis=0)

    def to_model(self, metadata: dict[str, str]) -> onnx.ModelProto:
        side = contract.FACE_SIZE_PX
        faces = helper.make_tensor_value_info(contract.FACES, TensorProto.UINT8, ["N", 1, side, side])
        rows = helper.make_tensor_value_info(contract.PROBABILITIES, TensorProto.FLOAT, ["N", len(contract.LABELS)])
        graph = helper.make_graph(self.nodes, "tiny", [faces], [rows], self._initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        helper.set_model_props(model, metadata)
        return model
