"""The layers of a built engine and their datatypes: proof that it computes in INT8 or FP16."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from fer_build.errors import NotInstalledError, PlanError
from fer_build.onnx_weights import read_onnx

DATATYPES: Final = {"fp32": "Float", "fp16": "Half", "int8": "Int8"}
"""The datatype of a convolution's inputs by precision, in TensorRT's words."""

_LEAST_KEPT: Final = 0.9
"""Share of the ONNX file's convolutions that must be found; TensorRT may merge two, or replace one."""

_LISTED_LAYER: Final = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: (?P<inputs>.*?)"
    r"(?:, Constants: .*?)?, Outputs: (?P<outputs>.*?), TacticName: "
)
_LISTED_DATATYPE: Final = re.compile(r"Datatype: (\w+)")

_MATRIX_PRODUCT: Final = re.compile(r"gemm|matrix_?multiply|matmul|fully_?connected", re.I)

_DATATYPE_WORD: Final = re.compile(r"\b(float|fp32|half|fp16|bf16|bfloat16|fp8|u?int8|int4|int32|int64|bool)\b", re.I)
_DATATYPE_NAMES: Final = {
    **{"float": "Float", "fp32": "Float", "half": "Half", "fp16": "Half", "bf16": "BFloat16", "bfloat16": "BFloat16"},
    **{"fp8": "FP8", "int4": "Int4", "int8": "Int8", "uint8": "UInt8", "int32": "Int32", "int64": "Int64"},
    "bool": "Bool",
}


@dataclass(frozen=True)
class Layer:
    """A layer of an engine, which may be several of the network's."""

    name: str
    kind: str
    """TensorRT's word: `CaskConvolution`, `correlation` (a convolution), `gemm`, `kgen` (a generated kernel) ..."""
    inputs: tuple[str, ...]
    """Datatypes, in TensorRT's words: `Float`, `Half`, `Int8`, `UInt8` ..."""
    outputs: tuple[str, ...]


def parse_listing(text: str) -> tuple[Layer, ...]:
    """Read what the builder of TensorRT-RTX logs at severity VERBOSE: `Layers:`, then a line for each.

    Raises:
        PlanError: A layer, or all, are in a form that is not known.
    """
    lines = [line for line in text.splitlines() if ", LayerType: " in line]
    found = [_LISTED_LAYER.match(line) for line in lines]
    if not found or None in found:
        raise PlanError(f"the builder lists the engine's layers in a form that is not known: {text[:200]!r}")
    return tuple(
        Layer(
            match["name"],
            match["kind"],
            tuple(_LISTED_DATATYPE.findall(match["inputs"])),
            tuple(_LISTED_DATATYPE.findall(match["outputs"])),
        )
        for match in found
        if match
    )


def parse_inspection(text: str) -> tuple[Layer, ...]:
    """Read what EngineInspector says of an engine in JSON: TensorRT 10's form and TensorRT 11's.

    Raises:
        PlanError: It is in a form that is not known.
    """
    try:
        return tuple(
            Layer(
                layer["Name"], layer["LayerType"], _read_datatypes(layer["Inputs"]), _read_datatypes(layer["Outputs"])
            )
            for layer in json.loads(text)["Layers"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise PlanError(
            f"the inspector describes the engine's layers in a form that is not known ({error!r}): {text[:200]!r}"
        ) from error


def _read_datatypes(tensors: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """Return the datatypes in one spelling.

    TensorRT 11 has `Datatype: Half`, TensorRT 10 `Format/Datatype`, which can be `Row major linear FP16 format`.
    """
    written = [str(tensor.get("Datatype") or tensor["Format/Datatype"]) for tensor in tensors]
    words = [(text, _DATATYPE_WORD.search(text)) for text in written]
    return tuple(_DATATYPE_NAMES[word[0].lower()] if word else text for text, word in words)


def list_convolutions(layers: Iterable[Layer]) -> list[Layer]:
    """Return the layers that are convolutions."""
    return [layer for layer in layers if "conv" in layer.kind.lower() or layer.kind == "correlation"]


def list_products(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers that are convolutions or matrix products; TensorRT may make these of those."""
    return list_convolutions(layers) + [layer for layer in layers if _is_matrix_product(layer)]


def _is_matrix_product(layer: Layer) -> bool:
    return not list_convolutions([layer]) and _MATRIX_PRODUCT.search(layer.kind) is not None


def count_datatypes(layers: Iterable[Layer]) -> dict[str, int]:
    """Count layers by the datatype of their first input, the most frequent first."""
    return dict(Counter(layer.inputs[0] for layer in layers if layer.inputs).most_common())


def describe_layers(layers: Sequence[Layer]) -> dict[str, Any]:
    """Return the document that is written beside a plan: a summary by datatype, and the layers."""
    return {
        "summary": {"layers": count_datatypes(layers), "convolutions": count_datatypes(list_convolutions(layers))},
        "layers": [asdict(layer) for layer in layers],
    }


def count_promised(onnx: Path, precision: str) -> int:
    """Count the Conv nodes of an ONNX file that are written in a precision.

    In int8, the input of such a node comes from a DequantizeLinear; in fp16 and fp32, that is the type of its weights.

    Raises:
        NotInstalledError: The package `onnx` is missing.
    """
    try:
        from onnx import TensorProto, load_from_string, shape_inference
    except ImportError:
        raise NotInstalledError("onnx is not installed: in the checkout, pip install -e '.[build]'") from None
    graph = shape_inference.infer_shapes(load_from_string(read_onnx(onnx))).graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    dequantised = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    names = {TensorProto.FLOAT16: "fp16", TensorProto.FLOAT: "fp32"}
    found = Counter(
        "int8" if node.input[0] in dequantised else names.get(types.get(node.input[1], TensorProto.UNDEFINED))
        for node in graph.node
        if node.op_type == "Conv"
    )
    return found[precision]


def require_precision(layers: Sequence[Layer], precision: str, promised: int) -> None:
    """Make sure that an engine computes in the precision that its ONNX file says it has.

    As many convolutions as the file has in that precision must, or nearly; TensorRT may make a matrix product of one.
    One must in any case. In an engine without convolutions, any layer.

    Args:
        layers: The layers of the engine.
        precision: `fp32`, `fp16` or `int8`.
        promised: The number of the ONNX file's convolutions that are in it, see `count_promised`.

    Raises:
        PlanError: None does, or too few do.
    """
    kind, candidates = "convolutions", list_convolutions(layers)
    if promised:
        kind, candidates = "convolutions and matrix products", list_products(layers)
    if not candidates:
        kind, candidates = "layers", list(layers)
    found, datatype = count_datatypes(candidates), DATATYPES[precision]
    needed = max(1, math.ceil(_LEAST_KEPT * promised))
    if found.get(datatype, 0) < needed:
        counts = ", ".join(f"{count} {name}" for name, count in found.items()) or "none"
        raise PlanError(
            f"the ONNX file says that it is {precision}, and {promised} of its convolutions are, but of the {kind} of "
            f"its engine {found.get(datatype, 0)} compute in {datatype} ({counts}), and {needed} at least should: make "
            "the file again, or correct its metadata"
        )
