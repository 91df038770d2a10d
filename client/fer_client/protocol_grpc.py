"""The inference protocol over gRPC: calls become messages, answers become results or errors. See `fer_client.protocol`.

It needs the extra `grpc`: tritonclient brings the classes of the messages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2

import fer_contract
from fer_client._config import Settings
from fer_client._errors import (
    AuthenticationError,
    ContractError,
    FerClientError,
    RequestTimeoutError,
    ServerOverloadedError,
    ServerUnreachableError,
    TlsError,
    class_of_code,
    error_of_status,
    explain_tls,
)
from fer_client.protocol import (
    Call,
    Infer,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    check_request_id,
    pack_bytes,
    unpack,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GrpcCodec", "channel_opener"]

_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),  # The server says what is too large.
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),  # `_retries` tries again.
    ("grpc.enable_http_proxy", 0),  # Nothing is sent anywhere but to the server named.
    # A channel that failed to connect fails at once until this is over: with gRPC's own second, no retry would help.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)

_COMPRESSIONS: Final = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate, None: None}


def channel_opener(settings: Settings) -> Callable[[int], grpc.Channel]:
    """Read what a channel needs, and open none yet: gRPC is left alone until it is used.

    Returns:
        Opens a channel, which connects when it is first used. It takes the number of forks between the first process
        and this one: channels with the same options share a connection, and one made before a fork is the parent's.

    Raises:
        ValueError: The TLS files are not what they should be.
    """
    address, tls = settings.endpoint.address, settings.tls
    if tls is None:
        return lambda forks: grpc.insecure_channel(address, options=(*_OPTIONS, ("fer.forks", forks)))
    tls.ssl_context()  # Says which file is wrong; gRPC would fail much later.
    authorities, certificate, key = tls.pem_files()
    name = (("grpc.ssl_target_name_override", tls.server_name),) if tls.server_name else ()

    def open_channel(forks: int) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(authorities, key, certificate)
        return grpc.secure_channel(address, credentials, options=(*_OPTIONS, *name, ("fer.forks", forks)))

    return open_channel


class GrpcCodec:
    """Write messages for one server, and read its answers.

    Attributes:
        metadata: Sent with each call.
        compression: Of each call.
    """

    def __init__(self, settings: Settings) -> None:
        """Take over what each call needs."""
        self._url = settings.endpoint.url
        self._tls = settings.endpoint.tls
        self.metadata = tuple(settings.headers.items())
        self.compression = _COMPRESSIONS[settings.compression]

    def request(self, call: Call) -> tuple[str, Any]:
        """Return the method of Triton's service that makes a call, and its message."""
        match call:
            case Infer(model, image, outputs, request_id):
                message = service_pb2.ModelInferRequest(
                    model_name=model, id=request_id, raw_input_contents=[pack_bytes(image)]
                )
                message.inputs.add(name=fer_contract.IMAGE, datatype="BYTES", shape=[1])
                for name in outputs:
                    message.outputs.add(name=name)
                return "ModelInfer", message
            case ModelConfig(model):
                return "ModelConfig", service_pb2.ModelConfigRequest(name=model)
            case ModelMetadata(model):
                return "ModelMetadata", service_pb2.ModelMetadataRequest(name=model)
            case ModelReady(model):
                return "ModelReady", service_pb2.ModelReadyRequest(name=model)
            case ServerMetadata():
                return "ServerMetadata", service_pb2.ServerMetadataRequest()
            case ServerLive():
                return "ServerLive", service_pb2.ServerLiveRequest()
            case ServerReady():
                return "ServerReady", service_pb2.ServerReadyRequest()

    def result(self, call: Call, message: Any) -> Any:
        """Read the answer to a call, and return what the call results in.

        Raises:
            ContractError: The answer makes no sense.
        """
        match call:
            case Infer():
                check_request_id(self._url, call, message.id)
                return self._tensors(message)
            case ServerLive():
                return bool(message.live)
            case ServerReady() | ModelReady():
                return bool(message.ready)
        document = MessageToDict(message, preserving_proto_field_name=True)
        return document.get("config", {}) if isinstance(call, ModelConfig) else document

    def _tensors(self, message: Any) -> dict[str, NDArray[Any]]:
        try:
            return {
                output.name: unpack(output.datatype, output.shape, raw)
                for output, raw in zip(message.outputs, message.raw_output_contents, strict=True)
            }
        except ValueError as error:
            reason = f"its answer cannot be read ({type(error).__name__}: {error})"
            raise ContractError(self._url, reason) from error

    def error(self, call: Call, error: grpc.RpcError, timeout_s: float) -> FerClientError:
        """Make the error of a failed call.

        UNAVAILABLE is said of a full queue and of a connection that was dropped alike. Where the text does not tell,
        the server counts as overloaded here.
        """
        code, reason = error.code().name, error.details() or ""
        if code == "DEADLINE_EXCEEDED":
            return RequestTimeoutError(self._url, f"{timeout_s:g} s")
        if status := re.search(r"http2 header with status: (\d+)", reason):  # A proxy's own answer.
            return error_of_status(
                self._url,
                int(status[1]),
                reason,
                asks_about_image=isinstance(call, Infer),
                from_triton=False,
                tls=self._tls,
            )
        if code == "UNAVAILABLE":
            return self._unavailable(reason)
        return class_of_code(code, asks_about_image=isinstance(call, Infer))(self._url, reason or code)

    def _unavailable(self, reason: str) -> FerClientError:
        if "protocol is restricted, expecting header" in reason:  # Triton's --grpc-restricted-protocol.
            return AuthenticationError(self._url, reason)
        if "errors resolving" in reason or "resolution failed" in reason:
            return ServerUnreachableError(self._url, reason)
        if "http1.x server" in reason:
            return ServerUnreachableError(self._url, f"what answers does not speak gRPC, or only with TLS: {reason}")
        if not reason.startswith("failed to connect"):
            return ServerOverloadedError(self._url, reason, is_temporary=True)
        if self._tls and (words := explain_tls(reason)):
            return TlsError(self._url, f"{words} ({reason.rpartition('last error: ')[2]})")
        return ServerUnreachableError(self._url, reason, is_temporary=True)
