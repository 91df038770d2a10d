"""FP16: the same graph with half-precision weights and features between its pixels and its softmax.

Pixels stay uint8, what comes before the first layer with weights and the softmax stay
float32, and so do the probabilities.
"""

from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fer_build.errors import ContractError

_WEIGHTED: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_KEPT_FP32: Final = ("Softmax", "Resize", "Cast")
"""Softmax for its sums, Resize because its scales have to be float32, Cast because it says its own type."""


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a half-precision graph of a float32 one.

    Every node that depends on a layer with weights, or is one, computes in float16, but for a few. Where float32
    features enter or leave that part, a Cast stands.

    Args:
        model: Float32, as training exports it. It is left as it is.

    Returns:
        The new model, with the old one's metadata.

    Raises:
        ContractError: A weight is too large for float16.
    """
    fp16 = onnx.ModelProto()
    fp16.CopyFrom(model)
    _Converter(fp16.graph, _find_types(model)).convert()
    onnx.checker.check_model(fp16, full_check=True)
    return fp16


class _Converter:
    """Changes one graph, node by node in their order."""

    def __init__(self, graph: onnx.GraphProto, types: dict[str, int]) -> None:
        """Take the graph, and the element type of each of its tensors."""
        self._graph = graph
        self._types = types
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._constants |= {
            node.output[0]: node.attribute[0].t
            for node in graph.node
            if node.op_type == "Constant" and node.attribute[0].name == "value"
        }
        self._nodes: list[onnx.NodeProto] = []
        self._fp16_features: set[str] = set()
        """Features that are float16 now."""
        self._made: set[str] = set()
        """Constants and features that were added in another type."""

    def convert(self) -> None:
        for node in self._graph.node:
            weighted = node.op_type in _WEIGHTED or any(name in self._fp16_features for name in node.input)
            if weighted and node.op_type not in _KEPT_FP32:
                self._to_fp16(node)
            else:
                node.input[:] = [self._cast(name, TensorProto.FLOAT) for name in node.input]
            self._nodes.append(node)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        del self._graph.value_info[:]
        _drop_unused(self._graph)

    def _to_fp16(self, node: onnx.NodeProto) -> None:
        node.input[:] = [self._cast(name, TensorProto.FLOAT16) for name in node.input]
        self._fp16_features.update(name for name in node.output if self._types.get(name) == TensorProto.FLOAT)

    def _cast(self, name: str, wanted: int) -> str:
        """Return the name of this tensor in the wanted type, or its own if it has that or is no float."""
        present = TensorProto.FLOAT16 if name in self._fp16_features else self._types.get(name)
        if present == wanted or present not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            return name
        other = f"{name}/{'half' if wanted == TensorProto.FLOAT16 else 'float'}"
        if other not in self._made:
            self._made.add(other)
            if name in self._constants:
                self._graph.initializer.append(_round(self._constants[name], other))
            else:
                self._nodes.append(helper.make_node("Cast", [name], [other], name=other, to=wanted))
        return other


def _find_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of each tensor of the graph."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {tensor.name: int(tensor.data_type) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    return types


def _round(tensor: TensorProto, name: str) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise ContractError(f"weight {tensor.name} is too large for float16 ({np.abs(values).max():g})")
    return numpy_helper.from_array(rounded, name)


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove float32 constants of which only the copy in float16 is used."""
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    nodes = [node for node in graph.node if node.op_type != "Constant" or node.output[0] in used]
    del graph.node[:]
    graph.node.extend(nodes)
