"""How the load reaches the server: the client's own requests, carried without threads.

HTTP is carried by Locust's FastHttpUser, gRPC by one channel of each process, on gRPC's own adapter to gevent. Requests
are encoded once for each picture, and every answer is decoded by the client's codecs. This is the only module of the
load test that uses more of `fer_client` than `import fer_client` gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal
from typing import Protocol as Interface

import numpy.typing as npt

from fer_client import FerClientError, RequestTimeoutError, ServerUnreachableError, Tls
from fer_client.protocol import (
    HttpAnswer,
    HttpCodec,
    HttpRequest,
    Infer,
    ServedModel,
    Settings,
    error_of_closing,
    error_of_connection,
    read_settings,
)

if TYPE_CHECKING:
    from fer_loadtest.pictures import Picture

__all__ = ["GrpcRequests", "HttpRequests", "Protocol", "ServedModel", "Settings", "connect_settings"]

Protocol = Literal["http", "grpc"]
Tensors = dict[str, npt.NDArray[Any]]

_NO_COMPRESSION: Final = {"accept-encoding": "identity"}
"""FastHttpUser asks for compressed answers otherwise. The client does not, and the server would pay for it."""


def connect_settings(url: str, protocol: Protocol, timeout_s: float, tls: Tls | None, token: str | None) -> Settings:
    """Return how to reach a server: once, without retries. Raises ValueError as `FerClient` does."""
    return read_settings(url, protocol, timeout_s, None, 0, tls, None, token, None)


class Response(Interface):
    """The part of FastHttpUser's responses that is used."""

    status_code: int
    headers: Mapping[str, str] | None
    content: bytes | None


class HttpRequests:
    """The requests of all pictures over HTTP, and the decoding of their answers."""

    def __init__(self, settings: Settings, served: ServedModel, pictures: Sequence[Picture]) -> None:
        """Encode all requests."""
        self._settings = settings
        self._codec = HttpCodec(settings)
        self._calls = _calls(served, pictures)
        self._requests = {name: self._codec.request(call) for name, call in self._calls.items()}

    def request(self, picture: Picture) -> HttpRequest:
        """Return what to send."""
        request = self._requests[picture.name]
        return request._replace(headers={**request.headers, **_NO_COMPRESSION})

    def read(self, picture: Picture, response: Response) -> Tensors:
        """Return the tensors of an answer. Raises FerClientError."""
        url = self._settings.endpoint.url
        if not response.status_code:
            raise self._failure(getattr(response, "error", None)) from getattr(response, "error", None)
        if response.content is None:
            raise error_of_closing(url, midway=True)
        headers = {name.lower(): value for name, value in (response.headers or {}).items()}
        answer = HttpAnswer(response.status_code, headers, bytes(response.content))
        result: Tensors = self._codec.result(self._calls[picture.name], answer)
        return result

    def _failure(self, error: Exception | None) -> FerClientError:
        url = self._settings.endpoint.url
        if isinstance(error, TimeoutError):
            return RequestTimeoutError(url, f"{self._settings.timeout_s:g} s")
        if isinstance(error, OSError) and error.errno is not None:
            return error_of_connection(url, error)
        return ServerUnreachableError(url, str(error) or type(error).__name__, is_temporary=True)


class GrpcRequests:
    """The requests of all pictures over gRPC, and the channel that carries them.

    All users of a process share one channel, as clients that send many requests do: a connection costs both sides more
    than a stream within it.
    """

    def __init__(self, settings: Settings, served: ServedModel, pictures: Sequence[Picture]) -> None:
        """Encode all requests. The channel connects when it is first used."""
        import grpc
        from tritonclient.grpc import service_pb2_grpc

        from fer_client.protocol_grpc import GrpcCodec, channel_opener

        self._timeout_s = settings.timeout_s
        self._codec = GrpcCodec(settings)
        self._rpc_error = grpc.RpcError
        self._channel = channel_opener(settings)(0)
        self._infer = service_pb2_grpc.GRPCInferenceServiceStub(self._channel).ModelInfer
        self._calls = _calls(served, pictures)
        self._messages = {name: self._codec.request(call)[1] for name, call in self._calls.items()}

    def send(self, picture: Picture) -> Any:
        """Send one picture and wait for the answer. Raises FerClientError."""
        try:
            return self._infer(self._messages[picture.name], timeout=self._timeout_s, metadata=self._codec.metadata)
        except self._rpc_error as error:
            raise self._codec.error(self._calls[picture.name], error, self._timeout_s) from error

    def read(self, picture: Picture, message: Any) -> Tensors:
        """Return the tensors of an answer. Raises FerClientError."""
        result: Tensors = self._codec.result(self._calls[picture.name], message)
        return result


def _calls(served: ServedModel, pictures: Sequence[Picture]) -> dict[str, Infer]:
    """Return the call for each picture, by its name. It asks for the tensors that the client asks for."""
    return {one.name: Infer(served.name, one.content, tuple(served.output_shapes)) for one in pictures}


def make_grpc_cooperative() -> None:
    """Let gRPC wait through gevent in this process.

    Call it before anything of gRPC is made, and again after a fork. Locust makes the standard library cooperative;
    gRPC waits in C, and would otherwise stop all other users meanwhile.
    """
    import grpc.experimental.gevent

    grpc.experimental.gevent.init_gevent()
