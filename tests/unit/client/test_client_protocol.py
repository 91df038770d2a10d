"""Requests and answers for programs that carry them by themselves, as the load test does."""

import http.client

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2_grpc

from fer_client import ContractError, ImageRefusedError, Prediction, ServerOverloadedError, protocol
from fer_client._results import prediction_from_tensors
from fer_client.protocol import HttpAnswer, HttpCodec, Infer, ModelConfig, ServedModel, ServerReady, Settings, unpack
from fer_client.protocol_grpc import GrpcCodec, channel_opener


def read_settings(url: str) -> Settings:
    return protocol.read_settings(
        url,
        protocol=None,
        timeout_s=5,
        deadline_s=None,
        retries=0,
        tls=None,
        headers=None,
        token=None,
        compression=None,
    )


def carry_over_http(settings, call):
    """What the module's documentation says, by the standard library."""
    codec = HttpCodec(settings)
    request = codec.request(call)
    connection = http.client.HTTPConnection(settings.endpoint.host, settings.endpoint.port)
    connection.request(request.method, request.path, request.body, request.headers)
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    answer = HttpAnswer(response.status, headers, response.read())
    connection.close()
    return codec.result(call, answer)


def carry_over_grpc(settings, call):
    codec = GrpcCodec(settings)
    method, message = codec.request(call)
    with channel_opener(settings)(0) as channel:
        try:
            answer = getattr(service_pb2_grpc.GRPCInferenceServiceStub(channel), method)(message, timeout=5)
        except grpc.RpcError as error:
            raise codec.error(call, error, 5) from error
    return codec.result(call, answer)


@pytest.fixture(params=["http", "grpc"])
def carry(request, fake_triton):
    """Makes a call of the stand-in over each protocol in turn."""
    settings = read_settings(fake_triton.url(request.param))
    carry_over = {"http": carry_over_http, "grpc": carry_over_grpc}[request.param]
    return lambda call: carry_over(settings, call)


def test_a_program_with_connections_of_its_own_gets_what_the_client_gets(carry, fake_triton):
    served = ServedModel.from_config("fer", carry(ModelConfig("fer")), "")
    tensors = served.checked(carry(Infer("fer", b"photo", tuple(served.output_shapes))), "")
    assert fake_triton.images == [b"photo"]
    prediction = prediction_from_tensors(tensors, served)
    assert isinstance(prediction, Prediction)
    assert [face.emotion for face in prediction.faces] == ["happy"]
    assert carry(ServerReady())


@pytest.mark.parametrize(
    ("kind", "error_class"), [("invalid", ImageRefusedError), ("overloaded", ServerOverloadedError)]
)
def test_it_gets_the_client_s_errors_too(carry, fake_triton, kind, error_class):
    fake_triton.refusals["infer"] = (kind, "as told")
    with pytest.raises(error_class, match="as told"):
        carry(Infer("fer", b"photo", ("BOXES",)))


def test_an_answer_to_another_request_is_refused(carry, fake_triton):
    fake_triton.answered_id = "another"
    with pytest.raises(ContractError, match="it answers another request"):
        carry(Infer("fer", b"photo", ("BOXES",)))


@pytest.mark.parametrize("data", [b"\1\0\0\0\2\0\0\0", [1, 2]])
def test_tensors_are_read_from_bytes_and_from_numbers(data):
    tensor = unpack("INT32", [2, 1], data)
    assert (tensor.dtype, tensor.tolist()) == (np.int32, [[1], [2]])


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "message"),
    [
        ("FP64", [1], b"", "datatype 'FP64', expected one of INT32, FP32"),
        ("INT32", [-1], [1, 2], r"shape \[-1\], expected sizes of 0 or more"),
        ("INT32", [3], [1, 2], "reshape"),
        ("FP32", [1], b"123", "buffer"),
    ],
)
def test_tensors_that_make_no_sense_are_refused(datatype, shape, data, message):
    with pytest.raises(ValueError, match=message):
        unpack(datatype, shape, data)


def test_the_public_names_are_there():
    assert all(hasattr(protocol, name) for name in protocol.__all__)
