"""Carries messages to Triton over one gRPC channel, for asyncio.

grpc.aio is not used: a thread of its own never leaves gRPC, so no process that was forked after it began could use gRPC
(see `_grpc_forks`), and its channels belong to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from fer_client._calls import Call
from fer_client._grpc import GrpcTransport
from fer_client._settings import Settings


class AsyncGrpcTransport:
    """Reaches a server over one gRPC channel, which is opened when it is first used."""

    def __init__(self, settings: Settings) -> None:
        """Prepare to talk to the server; nothing is sent yet. Raises ValueError where TLS files are not good."""
        self._grpc = GrpcTransport(settings)

    async def ask(self, call: Call, timeout_s: float) -> Any:
        """Make a call.

        Raises:
            FerClientError: It failed.
            RuntimeError: gRPC does not work in this process, because it was forked.
        """
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[None] = loop.create_future()

        def end() -> None:
            with contextlib.suppress(RuntimeError):  # The loop was closed meanwhile.
                loop.call_soon_threadsafe(_wake, answered)

        pending = self._grpc.begin(call, timeout_s, end)
        try:
            await answered
        except asyncio.CancelledError:
            pending.cancel()
            raise
        return self._grpc.result(call, pending, timeout_s)

    async def close(self) -> None:
        """Close the channel; what is still in flight is given up."""
        self._grpc.close()


def _wake(answered: asyncio.Future[None]) -> None:
    if not answered.done():
        answered.set_result(None)
