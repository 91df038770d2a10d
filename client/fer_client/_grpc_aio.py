"""Carries messages to Triton over one gRPC channel of asyncio's kind, for clients of one event loop."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2_grpc

from fer_client._calls import Call
from fer_client._grpc_codec import GrpcCodec, open_channel
from fer_client._settings import Settings


class AsyncGrpcTransport:
    """Reaches a server over one gRPC channel, which connects when it is first used."""

    def __init__(self, settings: Settings) -> None:
        """Prepare to talk to the server; nothing is sent yet. Raises ValueError where TLS files are not good."""
        self._settings = settings
        self._codec = GrpcCodec(settings)
        if settings.tls is not None:
            settings.tls.ssl_context()
        self._channel: Any = None
        self._stub: Any = None

    async def ask(self, call: Call, timeout_s: float) -> Any:
        """Make a call. Raises FerClientError when it fails."""
        if self._channel is None:  # Not earlier: a channel belongs to the event loop that runs when it is made.
            self._channel = open_channel(grpc.aio, self._settings)
            self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        method, message = self._codec.request(call)
        try:
            answer = await getattr(self._stub, method)(
                message, timeout=timeout_s, metadata=self._codec.metadata, compression=self._codec.compression
            )
        except grpc.RpcError as error:
            raise self._codec.error(call, error, timeout_s) from error
        return self._codec.result(call, answer)

    async def close(self) -> None:
        """Close the channel; what is still in flight is given up."""
        if self._channel is not None:
            await self._channel.close()
