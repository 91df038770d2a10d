"""Triton's HTTP protocol as bytes in and bytes out: calls become requests, answers become results or errors.

No connection is touched here: `_http` and `_aiohttp` carry requests and answers. The format is the Open Inference
Protocol's with its binary tensor extension, written out here in full rather than by tritonclient, whose HTTP module
brings gevent into the process and builds an array of objects around each image.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import fer_contract
from fer_client._calls import (
    Call,
    Infer,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
)
from fer_client._errors import ContractError, FerClientError
from fer_client._failures import check_request_id, of_status
from fer_client._settings import Settings
from fer_client._tensors import from_numbers, pack_bytes, unpack

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER_LENGTH: Final = "inference-header-content-length"
"""Where the JSON of a body ends and the tensors begin, in bytes."""

_ZLIB_FORMATS: Final = {"gzip": 31, "deflate": 15}
"""`wbits` of zlib for each value of Content-Encoding."""

_COMPRESSION_LEVEL: Final = 1
"""Photos are compressed already; on what is not, the higher levels take many times as long for a tenth less."""


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
    """Writes requests for one server and reads its answers."""

    def __init__(self, settings: Settings) -> None:
        """Take over what each request needs."""
        self._url = settings.endpoint.url
        self._tls = settings.endpoint.tls
        self._compression = settings.compression
        self._headers = dict(settings.headers)
        self._headers["accept-encoding"] = self._compression or "identity"

    def request(self, call: Call) -> HttpRequest:
        """The request that makes a call."""
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
        """What a call results in.

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
        """What an answer with another status than 200 means."""
        sentence = _sentence_of_triton(body)
        words = sentence or _title_of_proxy(body)
        return of_status(self._url, call, status, words, from_triton=sentence is not None, tls=self._tls)

    def _tensors(self, call: Infer, answer: HttpAnswer, body: bytes) -> dict[str, NDArray[Any]]:
        try:
            json_length = int(answer.headers.get(HEADER_LENGTH, len(body)))
            document = json.loads(body[:json_length])
            check_request_id(self._url, call, document.get("id", ""))
            tensors, offset = {}, json_length
            for output in document["outputs"]:
                name, datatype, shape = output["name"], output["datatype"], output["shape"]
                size = output.get("parameters", {}).get("binary_data_size")
                if size is None:
                    tensors[name] = from_numbers(datatype, shape, output["data"])
                else:
                    tensors[name] = unpack(datatype, shape, body[offset : offset + size])
                    offset += size
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise self._unreadable(error) from error
        return tensors

    def _unreadable(self, error: Exception) -> ContractError:
        return ContractError(self._url, f"its answer cannot be read ({type(error).__name__}: {error})")


def _compressed(body: bytes, compression: str) -> bytes:
    compressor = zlib.compressobj(_COMPRESSION_LEVEL, wbits=_ZLIB_FORMATS[compression])
    return compressor.compress(body) + compressor.flush()


def _plain(answer: HttpAnswer) -> bytes:
    """The body, decompressed. Raises zlib.error."""
    encoding = answer.headers.get("content-encoding", "")
    return zlib.decompress(answer.body, _ZLIB_FORMATS[encoding]) if encoding in _ZLIB_FORMATS else answer.body


def _sentence_of_triton(body: bytes) -> str | None:
    """What Triton says went wrong, or None where something else than Triton answered."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return None


def _title_of_proxy(body: bytes) -> str | None:
    """The title of the page that proxies answer with, such as `400 No required SSL certificate was sent`."""
    title = re.search(rb"<title>([^<]{1,200})</title>", body, re.IGNORECASE)
    return title and " ".join(title[1].decode("utf-8", "replace").split())
