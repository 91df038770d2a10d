"""The inference protocol as the client speaks it, for programs that carry requests themselves, such as a load test.

Calls are what a client can ask of a server, as values. A codec writes a call as a request and reads the answer: here
`HttpCodec`, in `fer_client.protocol_grpc` `GrpcCodec`. What each call results in is written at the call; results that
are JSON look the same over both protocols, but for what protobuf does to it: integers are strings there, and what is
zero or empty is left out.

    settings = read_settings("http://localhost:8000")
    codec = HttpCodec(settings)
    call = ModelConfig("fer")
    request = codec.request(call)
    # Send request.method, .path, .headers and .body to settings.endpoint, and make an HttpAnswer of what comes back.
    config = codec.result(call, answer)
    served = ServedModel.from_config("fer", config, settings.endpoint.url)
    # Infer("fer", image, tuple(served.output_shapes)) results in tensors; served.checked(tensors, url) checks them.

No connection is touched here. The HTTP format is the Open Inference Protocol's with its binary tensor extension,
written out in full rather than by tritonclient, whose HTTP module brings gevent into the process and builds an array of
objects around each image.
"""

from __future__ import annotations

import json
import os
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import fer_contract
from fer_client._config import Protocol, Settings, read_settings
from fer_client._errors import ContractError, FerClientError, error_of_closing, error_of_connection, error_of_status
from fer_client._server import ServedModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Call",
    "HttpAnswer",
    "HttpCodec",
    "HttpRequest",
    "Infer",
    "ModelConfig",
    "ModelMetadata",
    "ModelReady",
    "Protocol",
    "ServedModel",
    "ServerLive",
    "ServerMetadata",
    "ServerReady",
    "Settings",
    "check_request_id",
    "error_of_closing",
    "error_of_connection",
    "pack_bytes",
    "read_settings",
    "unpack",
]

HEADER_LENGTH: Final = "inference-header-content-length"
"""Where the JSON of a body ends and the tensors begin, in bytes."""

_ZLIB_FORMATS: Final = {"gzip": 31, "deflate": 15}
"""`wbits` of zlib for each value of Content-Encoding."""

_COMPRESSION_LEVEL: Final = 1
"""Photos are compressed already; on what is not, the higher levels take many times as long for a tenth less."""

_DTYPES: Final = {"INT32": "<i4", "FP32": "<f4"}
"""The types that the contract's outputs have, in NumPy's words. Raw tensors are little-endian.

Source: the Open Inference Protocol, "Tensor Data" and its binary extension.
"""


@dataclass(frozen=True)
class Infer:
    """Send one image through a model whose only input is IMAGE. Results in a dict of arrays by tensor name.

    Attributes:
        model: The model's name.
        image: One encoded image file.
        outputs: Names of the tensors wanted; the result may lack some.
        request_id: Comes back with the answer, and so tells that it is the answer to this request. Random, so that
            forked processes do not count on from the same number.
    """

    model: str
    image: bytes
    outputs: tuple[str, ...]
    request_id: str = field(default_factory=lambda: os.urandom(8).hex(), compare=False)


@dataclass(frozen=True)
class ModelConfig:
    """Ask for the configuration of a served model. Results in JSON."""

    model: str


@dataclass(frozen=True)
class ModelMetadata:
    """Ask for the versions and tensors of a served model. Results in JSON."""

    model: str


@dataclass(frozen=True)
class ServerMetadata:
    """Ask for the name, version and extensions of the server. Results in JSON."""


@dataclass(frozen=True)
class ServerLive:
    """Ask whether the server answers at all. Results in a bool."""


@dataclass(frozen=True)
class ServerReady:
    """Ask whether the server is ready. Results in a bool."""


@dataclass(frozen=True)
class ModelReady:
    """Ask whether the model is ready. Results in a bool."""

    model: str


Call = Infer | ModelConfig | ModelMetadata | ServerMetadata | ServerLive | ServerReady | ModelReady


class HttpRequest(NamedTuple):
    """What a transport has to send."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class HttpAnswer(NamedTuple):
    """What came back. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpCodec:
    """Write requests for one server, and read its answers."""

    def __init__(self, settings: Settings) -> None:
        """Take over what each request needs."""
        self._url = settings.endpoint.url
        self._tls = settings.endpoint.tls
        self._compression = settings.compression
        self._headers = dict(settings.headers)
        self._headers["accept-encoding"] = self._compression or "identity"

    def request(self, call: Call) -> HttpRequest:
        """Write the request that makes a call."""
        match call:
            case Infer(model):
                return self._infer_request(call, f"/v2/models/{model}/infer")
            case ModelConfig(model):
                path = f"/v2/models/{model}/config"
            case ModelMetadata(model):
                path = f"/v2/models/{model}"
            case ModelReady(model):
                path = f"/v2/models/{model}/ready"
            case ServerMetadata():
                path = "/v2"
            case ServerLive():
                path = "/v2/health/live"
            case ServerReady():
                path = "/v2/health/ready"
        return HttpRequest("GET", path, self._headers, b"")

    def _infer_request(self, call: Infer, path: str) -> HttpRequest:
        tensor = pack_bytes(call.image)
        image = {
            "name": fer_contract.IMAGE,
            "datatype": "BYTES",
            "shape": [1],
            "parameters": {"binary_data_size": len(tensor)},
        }
        outputs = [{"name": name, "parameters": {"binary_data": True}} for name in call.outputs]
        document = {"id": call.request_id, "inputs": [image], "outputs": outputs}
        text = json.dumps(document, separators=(",", ":")).encode()
        headers = self._headers | {HEADER_LENGTH: str(len(text)), "content-type": "application/octet-stream"}
        body = text + tensor
        if self._compression:
            headers["content-encoding"] = self._compression
            body = _compressed(body, self._compression)
        return HttpRequest("POST", path, headers, body)

    def result(self, call: Call, answer: HttpAnswer) -> Any:
        """Read the answer to a call, and return what the call results in.

        Raises:
            FerClientError: The answer says so, or makes no sense.
        """
        if isinstance(call, ServerLive | ServerReady | ModelReady):
            return answer.status == HTTPStatus.OK
        try:
            body = _plain(answer)
        except zlib.error as error:
            raise self._unreadable(error) from error
        if answer.status != HTTPStatus.OK:
            raise self._error(call, answer.status, body)
        if isinstance(call, Infer):
            return self._tensors(call, answer, body)
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ContractError(self._url, "its answer is no JSON object, so it is no Triton server")
        return document

    def _error(self, call: Call, status: int, body: bytes) -> FerClientError:
        """Make the error of an answer with another status than 200."""
        sentence = _sentence_of_triton(body)
        words = sentence or _title_of_proxy(body)
        return error_of_status(
            self._url,
            status,
            words,
            asks_about_image=isinstance(call, Infer),
            from_triton=sentence is not None,
            tls=self._tls,
        )

    def _tensors(self, call: Infer, answer: HttpAnswer, body: bytes) -> dict[str, NDArray[Any]]:
        try:
            json_length = int(answer.headers.get(HEADER_LENGTH, len(body)))
            document = json.loads(body[:json_length])
            check_request_id(self._url, call, document.get("id", ""))
            tensors, offset = {}, json_length
            for output in document["outputs"]:
                size = output.get("parameters", {}).get("binary_data_size")
                data = output["data"] if size is None else body[offset : offset + size]
                tensors[output["name"]] = unpack(output["datatype"], output["shape"], data)
                offset += size or 0
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise self._unreadable(error) from error
        return tensors

    def _unreadable(self, error: Exception) -> ContractError:
        return ContractError(self._url, f"its answer cannot be read ({type(error).__name__}: {error})")


def check_request_id(url: str, call: Infer, answered_id: str) -> None:
    """Make sure that an answer is the answer to this request. Its id is empty where the server repeats none.

    Raises:
        ContractError: It is the answer to another request, so about another image.
    """
    if answered_id not in ("", call.request_id):
        raise ContractError(url, f"it answers another request (id {answered_id!r}, expected {call.request_id!r})")


def pack_bytes(content: bytes) -> bytes:
    """Make a BYTES tensor of one element: its length in four bytes, then itself."""
    return struct.pack("<I", len(content)) + content


def unpack(datatype: str, shape: Sequence[int], data: bytes | Sequence[float]) -> NDArray[Any]:
    """Read a tensor from its raw form, or from the list of numbers that JSON may hold instead.

    Returns:
        The array. Of raw data it is a view, and read-only.

    Raises:
        ValueError: The type is none of the contract's, or data and shape do not go together.
        OverflowError: A number does not fit the type.
    """
    import numpy as np  # Not at the top, so that `import fer_client` stays light.

    if datatype not in _DTYPES:
        raise ValueError(f"datatype {datatype!r}, expected one of {', '.join(_DTYPES)}")
    if not all(isinstance(size, int) and size >= 0 for size in shape):  # NumPy would fill in a -1.
        raise ValueError(f"shape {shape!r}, expected sizes of 0 or more")
    dtype = _DTYPES[datatype]
    return (np.frombuffer(data, dtype) if isinstance(data, bytes) else np.array(data, dtype)).reshape(tuple(shape))


def _compressed(body: bytes, compression: str) -> bytes:
    compressor = zlib.compressobj(_COMPRESSION_LEVEL, wbits=_ZLIB_FORMATS[compression])
    return compressor.compress(body) + compressor.flush()


def _plain(answer: HttpAnswer) -> bytes:
    """Return the body, decompressed. Raises zlib.error."""
    encoding = answer.headers.get("content-encoding", "")
    return zlib.decompress(answer.body, _ZLIB_FORMATS[encoding]) if encoding in _ZLIB_FORMATS else answer.body


def _sentence_of_triton(body: bytes) -> str | None:
    """Return what Triton says went wrong, or None where something else than Triton answered."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return None


def _title_of_proxy(body: bytes) -> str | None:
    """Return the title of the page that proxies answer with, such as `400 No required SSL certificate was sent`."""
    title = re.search(rb"<title>([^<]{1,200})</title>", body, re.IGNORECASE)
    return title and " ".join(title[1].decode("utf-8", "replace").split())
