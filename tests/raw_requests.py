"""Requests as bytes on the wire, right or wrong, with the answers as they come: no client library corrects anything."""

import json
import re
import socket
import struct
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import service_pb2, service_pb2_grpc

from fer_contract import FER_MODEL, IMAGE

PATIENCE_S = 30.0
"""When a test gives up waiting for an answer: the server hangs."""
CLOSED = "closed"
"""The status of an HTTP request whose connection was closed without an answer."""

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int | str
    """HTTP's number, CLOSED, or the name of a gRPC status code."""
    message: str = ""
    arrays: Arrays | None = None
    """Outputs by name, of a good answer only."""


def http_request(
    body: bytes, path: str = f"/v2/models/{FER_MODEL}/infer", method: str = "POST", **headers: object
) -> bytes:
    """A whole HTTP request; `Content_Length=5` overrules the true header, None leaves it out."""
    fields = {"Host": "localhost", "Content-Length": len(body)}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def infer_request(
    data: bytes,
    tensor: dict[str, object] | None = None,
    request: dict[str, object] | None = None,
    *,
    stated_length: int | None = None,
    model: str = FER_MODEL,
    **headers: object,
) -> bytes:
    """An inference with IMAGE as binary data, and what is given in place of the right fields."""
    element = struct.pack("<I", len(data) if stated_length is None else stated_length) + data
    fields = {"name": IMAGE, "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(element)}}
    outputs = {"parameters": {"binary_data_output": True}}
    header = json.dumps({"inputs": [fields | (tensor or {})]} | outputs | (request or {})).encode()
    headers = {"Inference_Header_Content_Length": len(header)} | headers
    return http_request(header + element, f"/v2/models/{model}/infer", **headers)


def ask_http(url: str, request: bytes) -> Answer:
    """Sends bytes to `host:port` on a connection of their own, says that no more will come, and reads the answer."""
    host, _, port = url.partition(":")
    with socket.create_connection((host, int(port)), PATIENCE_S) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        except OSError:  # the server refused it before the end: an answer may be there all the same
            pass
        return read_http_answer(connection)


def read_http_answer(connection: socket.socket) -> Answer:
    """Reads one answer. Raises TimeoutError if none comes."""
    received = b""
    try:
        while (end := _end_of_answer(received)) is None:
            chunk = connection.recv(1 << 16)
            if not chunk:
                return Answer(CLOSED)
            received += chunk
    except ConnectionResetError:
        return Answer(CLOSED)
    head, body = received[: end[0]].decode("latin-1"), received[end[0] : end[1]]
    status = int(head.split()[1])
    json_length = re.search(r"Inference-Header-Content-Length: (\d+)", head, re.IGNORECASE)
    if json_length is None:  # no inference
        return Answer(status, body.decode(errors="replace"))
    result = tritonclient.http.InferResult.from_response_body(body, header_length=int(json_length[1]))
    return Answer(status, arrays={o["name"]: result.as_numpy(o["name"]) for o in result.get_response()["outputs"]})


def _end_of_answer(received: bytes) -> tuple[int, int] | None:
    """Where the body begins and ends, once all of it is there."""
    head, blank, _ = received.partition(b"\r\n\r\n")
    if not blank:
        return None
    length = re.search(rb"\r\nContent-Length: (\d+)", head, re.IGNORECASE)
    start = len(head) + len(blank)
    end = start + int(length[1]) if length else len(received)
    return (start, end) if len(received) >= end else None


def grpc_message(data: bytes, model: str = FER_MODEL) -> service_pb2.ModelInferRequest:
    """A good request, to be spoilt."""
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name=IMAGE, datatype="BYTES", shape=[1])
    element = struct.pack("<I", len(data)) + data
    return service_pb2.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[element])


def open_channel(url: str) -> grpc.Channel:
    """A gRPC channel without limits of its own, which is quick to connect again."""
    limits = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    backoff = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]
    return grpc.insecure_channel(url, [*limits, *backoff])


def ask_grpc(channel: grpc.Channel, message: service_pb2.ModelInferRequest) -> Answer:
    """Sends a message as it is."""
    return _call(lambda: service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message, timeout=PATIENCE_S))


def ask_grpc_bytes(channel: grpc.Channel, message: bytes, method: str = "ModelInfer") -> Answer:
    """Sends bytes that need not be a message."""
    call = channel.unary_unary(
        f"/inference.GRPCInferenceService/{method}",
        response_deserializer=service_pb2.ModelInferResponse.FromString,
    )
    return _call(lambda: call(message, timeout=PATIENCE_S))


def _call(send: Any) -> Answer:
    try:
        response = send()
    except grpc.RpcError as error:
        return Answer(error.code().name, error.details())
    result = tritonclient.grpc.InferResult(response)
    return Answer(grpc.StatusCode.OK.name, arrays={o.name: result.as_numpy(o.name) for o in response.outputs})
