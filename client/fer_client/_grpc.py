"""Triton's gRPC protocol, carried by tritonclient: its client may be shared by threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from fer_client._endpoint import Endpoint
from fer_client._errors import (
    ContractError,
    FerClientError,
    ImageRefusedError,
    RequestTimeoutError,
    ServerError,
    ServerOverloadedError,
    ServerUnreachableError,
)
from fer_client._transport import Transport

_UNAVAILABLE: Final = "StatusCode.UNAVAILABLE"
_DEADLINE_EXCEEDED: Final = "StatusCode.DEADLINE_EXCEEDED"

_ERRORS: Final[Mapping[str, type[FerClientError]]] = {
    "StatusCode.INVALID_ARGUMENT": ImageRefusedError,
    "StatusCode.RESOURCE_EXHAUSTED": ImageRefusedError,  # gRPC's own limit on the size of a message.
    "StatusCode.NOT_FOUND": ContractError,
    "StatusCode.UNIMPLEMENTED": ContractError,  # Something else than Triton answers.
}


class GrpcTransport(Transport):
    """Reaches a server over one gRPC channel, which connects when it is first used."""

    _triton = tritonclient.grpc

    def __init__(self, endpoint: Endpoint, timeout_s: float) -> None:
        """Prepare to talk to the server; nothing is sent yet."""
        super().__init__(endpoint, timeout_s)
        self._client = tritonclient.grpc.InferenceServerClient(endpoint.address)

    def _infer(self, model: str, inputs: list[Any], outputs: list[Any]) -> Any:
        return self._call(self._client.infer, model, inputs, outputs=outputs)

    def model_config(self, model: str) -> Mapping[str, Any]:
        """See Transport."""
        answer: Mapping[str, Any] = self._call(self._client.get_model_config, model, as_json=True)
        config: Mapping[str, Any] = answer.get("config", {})
        return config

    def is_ready(self, model: str) -> bool:
        """See Transport."""
        return bool(self._call(self._client.is_server_ready) and self._call(self._client.is_model_ready, model))

    def close(self) -> None:
        """Close the channel; what is still in flight is given up."""
        self._client.close()

    def _call(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            return method(*args, client_timeout=self.timeout_s, **options)
        except InferenceServerException as error:
            raise self._translated(error) from error

    def _translated(self, error: InferenceServerException) -> FerClientError:
        url, reason = self.endpoint.url, error.message()
        if error.status() == _DEADLINE_EXCEEDED:
            return RequestTimeoutError(url, f"{self.timeout_s:g} s")
        if error.status() == _UNAVAILABLE:
            return ServerOverloadedError(url, reason) if self._is_live() else ServerUnreachableError(url, reason)
        return _ERRORS.get(error.status(), ServerError)(url, reason)

    def _is_live(self) -> bool:
        """Ask for what needs no queue: UNAVAILABLE is said of a full queue and of a server that is not there alike."""
        try:
            return bool(self._client.is_server_live(client_timeout=self.timeout_s))
        except InferenceServerException:
            return False
