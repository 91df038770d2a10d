"""Carries messages to Triton over one gRPC channel, for clients shared by threads."""

from __future__ import annotations

from typing import Any

import grpc
from tritonclient.grpc import service_pb2_grpc

from fer_client._calls import Call
from fer_client._cancellation import Cancellation
from fer_client._grpc_codec import GrpcCodec, open_channel
from fer_client._settings import Settings


class GrpcTransport:
    """Reaches a server over one gRPC channel, which connects when it is first used."""

    def __init__(self, settings: Settings) -> None:
        """Prepare to talk to the server; nothing is sent yet. Raises ValueError where TLS files are not good."""
        self._codec = GrpcCodec(settings)
        self._channel = open_channel(grpc, settings)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def ask(self, call: Call, timeout_s: float, cancellation: Cancellation | None = None) -> Any:
        """Make a call.

        Raises:
            FerClientError: It failed.
            CancelledError: It was given up.
        """
        method, message = self._codec.request(call)
        make = getattr(self._stub, method)
        options = {"timeout": timeout_s, "metadata": self._codec.metadata, "compression": self._codec.compression}
        try:
            if cancellation is None:
                return self._codec.result(call, make(message, **options))
            pending = make.future(message, **options)
            with cancellation.watching(pending.cancel):
                return self._codec.result(call, pending.result())
        except grpc.RpcError as error:
            raise self._codec.error(call, error, timeout_s) from error

    def close(self) -> None:
        """Close the channel; what is still in flight is given up."""
        self._channel.close()
