"""How the load reaches the server: the client's requests, carried without threads.

HTTP is carried by Locust's FastHttpUser, gRPC by one channel of each process, on gRPC's own adapter to gevent. Requests
are encoded once for each picture; answers are decoded by the client's codecs, each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import numpy.typing as npt

from fer_client import FerClientError, RequestTimeoutError, ServerUnreachableError
from fer_client.protocol import (
    HttpAnswer,
    HttpCodec,
    HttpRequest,
    Infer,
    ServedModel,
    Settings,
    error_of_closing,
    error_of_connection,
)
from fer_loadtest.pictures import Picture

Tensors = dict[str, npt.NDArray[Any]]

_NO_COMPRESSION: Final = {"accept-encoding": "identity"}
"""FastHttpUser asks for compressed answers otherwise, which the client does not, and the server would pay for it."""


class Response(Protocol):
    """What is used of FastHttpUser's responses."""

    status_code: int
    headers: Mapping[str, str] | None
    content: bytes | None


class HttpRequests:
    """The requests of all pictures over HTTP, and the reading of their answers."""

    def __init__(self, settings: Settings, served: ServedModel, pictures: Sequence[Picture]) -> None:
        """Encode all requests."""
        self._settings = settings
        self._codec = HttpCodec(settings)
        calls = {one.name: Infer(served.name, one.content, tuple(served.output_shapes)) for one in pictures}
        self._calls = calls
        self._requests = {name: self._codec.request(call) for name, call in calls.items()}

    def request(self, picture: Picture) -> HttpRequest:
        """What to send."""
        request = self._requests[picture.name]
        return request._replace(headers={**request.headers, **_NO_COMPRESSION})

    def read(self, picture: Picture, response: Response) -> Tensors:
        """The tensors of an answer. Raises FerClientError."""
        url = self._settings.endpoint.url
        if not response.status_code:
            raise self._failure(getattr(response, "error", None)) from getattr(response, "error", None)
        if response.content is None:
            raise error_of_closing(url, midway=True)
        headers = {name.lower(): value for name, value in (response.headers or {}).items()}
        result: Tensors = self._codec.result(
            self._calls[picture.name], HttpAnswer(response.status_code, headers, bytes(response.content))
        )
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

    One channel for all users of a process: so clients do it that send many requests, and a connection to a server costs
    both sides more than a stream in it.
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
        self._calls = {one.name: Infer(served.name, one.content, tuple(served.output_shapes)) for one in pictures}
        self._messages = {name: self._codec.request(call)[1] for name, call in self._calls.items()}

    def send(self, picture: Picture) -> Any:
        """Send one and wait for its answer. Raises FerClientError."""
        try:
            return self._infer(self._messages[picture.name], timeout=self._timeout_s, metadata=self._codec.metadata)
        except self._rpc_error as error:
            raise self._codec.error(self._calls[picture.name], error, self._timeout_s) from error

    def read(self, picture: Picture, message: Any) -> Tensors:
        """The tensors of an answer. Raises FerClientError."""
        result: Tensors = self._codec.result(self._calls[picture.name], message)
        return result


def make_grpc_cooperative() -> None:
    """Let gRPC wait through gevent, in this process. Call it before anything of gRPC's is made, and after a fork.

    Locust makes the standard library cooperative; gRPC waits in C, and would stop all other users meanwhile.
    """
    import grpc.experimental.gevent

    grpc.experimental.gevent.init_gevent()
