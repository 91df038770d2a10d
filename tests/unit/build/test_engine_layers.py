"""fer_build.engine_layers: what TensorRT 10, TensorRT 11 and TensorRT-RTX say of an engine is read alike."""

import json

import pytest

from fer_build.engine_layers import (
    Layer,
    count_datatypes,
    list_convolutions,
    parse_inspection,
    parse_listing,
    require_precision,
)
from fer_build.errors import PlanError

LISTING = """Layers:
Name: shape_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, Metadata: 
Name: a, b [x], LayerType: correlation, Inputs: [ { Name: FACES, Dimensions: [-1,1,48,48], Datatype: Int8, Format: \
(NHWC) Channel major format }], Constants: [ { Name: w, Dimensions: [1], Datatype: Half }], Outputs: [ { Name: y, \
Dimensions: [-1,7], Datatype: Float, Format: (Linear) Row major linear format }], TacticName: t, StreamId: 0, Metadata:

I/O Tensors:
 Name: FACES, IOMode: Input, DataType: UInt8, Dimensions: [-1,1,48,48], Location: Device
"""  # noqa: W291 - as TensorRT-RTX writes it


def inspection(**tensor: str) -> str:
    layer = {"Name": "conv", "LayerType": "CaskConvolution", "Inputs": [tensor], "Outputs": [tensor, tensor]}
    return json.dumps({"Layers": [layer]})


def convolution(datatype: str, kind: str = "CaskConvolution") -> Layer:
    return Layer("conv", kind, (datatype,), (datatype,))


def test_a_builder_s_listing_is_read():
    assert parse_listing(LISTING) == (
        Layer("shape_0", "shape_call", (), ()),
        Layer("a, b [x]", "correlation", ("Int8",), ("Float",)),
    )


def test_a_listing_without_constants_is_read():
    (layer,) = parse_listing(
        "Name: a, LayerType: gemm, Inputs: [ { Datatype: Half }], Outputs: [ { Datatype: Float }], TacticName: t"
    )
    assert layer == Layer("a", "gemm", ("Half",), ("Float",))


@pytest.mark.parametrize("text", ["", "Layers:\n", "Name: a, LayerType: gemm, Reads: [], Outputs: [], TacticName: t"])
def test_an_unknown_listing_is_refused(text):
    with pytest.raises(PlanError, match="lists the engine's layers in a form that is not known"):
        parse_listing(text)


@pytest.mark.parametrize(
    ("tensor", "datatype"),
    [
        ({"Datatype": "Half", "Format": "(Linear) Row major linear format"}, "Half"),
        ({"Format/Datatype": "Int8"}, "Int8"),
        ({"Format/Datatype": "Row major linear FP32"}, "Float"),
        ({"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}, "Half"),
        ({"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format."}, "Int8"),
        ({"Format/Datatype": "Row major linear UINT8 format (kLINEAR)"}, "UInt8"),
        ({"Datatype": "FP4E2M1"}, "FP4E2M1"),
    ],
)
def test_an_inspection_of_tensorrt_10_and_11_is_read(tensor, datatype):
    assert parse_inspection(inspection(**tensor)) == (Layer("conv", "CaskConvolution", (datatype,), (datatype,) * 2),)


@pytest.mark.parametrize("text", ["no JSON", "{}", '{"Layers": ["names only"]}', inspection(Precision="Half")])
def test_an_unknown_inspection_is_refused(text):
    with pytest.raises(PlanError, match="describes the engine's layers in a form that is not known"):
        parse_inspection(text)


def test_layers_are_counted_by_their_first_input():
    layers = [Layer("a", "gemm", ("Half", "Float"), ()), Layer("b", "gemm", ("Half",), ()), Layer("c", "wait", (), ())]
    assert count_datatypes(layers) == {"Half": 2}


def test_convolutions_are_known_by_either_name():
    kinds = ["CaskConvolution", "correlation", "kgen", "Reformat", "CaskGemmConvolution", "gemm"]
    found = list_convolutions([Layer("a", kind, (), ()) for kind in kinds])
    assert [layer.kind for layer in found] == ["CaskConvolution", "correlation", "CaskGemmConvolution"]


def test_a_convolution_that_the_file_keeps_in_float_is_no_misfit():
    require_precision([convolution("Float"), convolution("Int8")], "int8", promised=1)


@pytest.mark.parametrize("kind", ["gemm", "CaskGemmMatrixMultiply", "MatrixMultiply", "FullyConnected"])
def test_a_convolution_may_become_a_matrix_product(kind):
    require_precision([convolution("Int8"), convolution("Int8", kind)], "int8", promised=2)


def test_most_of_the_promised_convolutions_must_be_there():
    require_precision([convolution("Int8")] * 14 + [convolution("Float")], "int8", promised=15)
    with pytest.raises(
        PlanError,
        match=r"is int8, and 15 of its convolutions are, but .* 13 compute in Int8 .13 Int8, 2 Float., and 14 at least",
    ):
        require_precision([convolution("Int8")] * 13 + [convolution("Float")] * 2, "int8", promised=15)


def test_one_int8_convolution_makes_no_int8_engine():
    with pytest.raises(PlanError, match=r"1 compute in Int8 .14 Float, 1 Int8."):
        require_precision([convolution("Float")] * 14 + [convolution("Int8")], "int8", promised=15)


def test_another_layer_in_the_file_s_precision_is_not_enough():
    with pytest.raises(PlanError, match=r"says that it is int8, .* 0 compute in Int8 .2 Half, 1 Float."):
        require_precision(
            [*map(convolution, ("Half", "Float", "Half")), Layer("q", "kgen", ("Int8",), ())], "int8", promised=1
        )


def test_a_file_that_promises_nothing_needs_one_all_the_same():
    with pytest.raises(PlanError, match=r"0 of its convolutions are, .* 0 compute in Int8 .1 Float., and 1 at least"):
        require_precision([convolution("Float")], "int8", promised=0)


def test_without_convolutions_any_layer_counts():
    require_precision([Layer("a", "gemm", ("Half",), ())], "fp16", promised=0)
    with pytest.raises(PlanError, match="of the layers of its engine 0 compute in Int8 .1 Half."):
        require_precision([Layer("a", "gemm", ("Half",), ())], "int8", promised=0)
