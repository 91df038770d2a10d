"""Carries messages to Triton over one gRPC channel, for clients shared by threads."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import grpc
from tritonclient.grpc import service_pb2_grpc

from fer_client import _forks
from fer_client._calls import Call
from fer_client._cancellation import Cancellation
from fer_client._grpc_codec import GrpcCodec, channel_opener
from fer_client._grpc_forks import CALLS
from fer_client._settings import Settings


class GrpcTransport:
    """Reaches a server over one gRPC channel, which is opened when it is first used."""

    def __init__(self, settings: Settings) -> None:
        """Prepare to talk to the server; nothing is sent yet. Raises ValueError where TLS files are not good."""
        self._codec = GrpcCodec(settings)
        self._open_channel = channel_opener(settings)
        self._opening = threading.Lock()
        self._channel: Any = None
        self._stub: Any = None
        _forks.register(self)

    def ask(self, call: Call, timeout_s: float, cancellation: Cancellation | None = None) -> Any:
        """Make a call.

        Raises:
            FerClientError: It failed.
            CancelledError: It was given up.
            RuntimeError: gRPC does not work in this process, because it was forked.
        """
        method, message = self._codec.request(call)
        try:
            with CALLS.one():
                if cancellation is None:
                    answer = getattr(self._open(), method)(message, **self._options(timeout_s))
                else:
                    pending = getattr(self._open(), method).future(message, **self._options(timeout_s))
                    with cancellation.watching(pending.cancel):
                        answer = pending.result()
        except grpc.RpcError as error:
            raise self._codec.error(call, error, timeout_s) from error
        return self._codec.result(call, answer)

    def begin(self, call: Call, timeout_s: float, ended: Callable[[], None]) -> grpc.Future:
        """Make a call, and go on meanwhile. `ended` is called in another thread, when `result` has not to wait."""
        method, message = self._codec.request(call)
        CALLS.begin()
        try:
            pending = getattr(self._open(), method).future(message, **self._options(timeout_s))
        except BaseException:
            CALLS.end()
            raise

        def end(_: object) -> None:
            CALLS.end()
            ended()

        pending.add_done_callback(end)
        return pending

    def result(self, call: Call, pending: grpc.Future, timeout_s: float) -> Any:
        """What a call results in that `begin` began. Raises as `ask`."""
        try:
            answer = pending.result()
        except grpc.RpcError as error:
            raise self._codec.error(call, error, timeout_s) from error
        return self._codec.result(call, answer)

    def start_anew(self) -> None:
        """Leave the channel to the parent process, and make another one when it is needed."""
        if self._channel is not None:
            # It lives for ever: taking it apart waits for calls under way, which the parent's threads alone can end.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._channel))
        self._opening = threading.Lock()
        self._channel = self._stub = None

    def close(self) -> None:
        """Close the channel; what is still in flight is given up."""
        if self._channel is not None:
            self._channel.close()

    def _open(self) -> Any:
        """The stub. Its channel is not opened earlier, so that forks before the first call have nothing to disturb."""
        with self._opening:
            if self._stub is None:
                self._channel = self._open_channel(CALLS.forks)
                self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
            return self._stub

    def _options(self, timeout_s: float) -> dict[str, Any]:
        return {"timeout": timeout_s, "metadata": self._codec.metadata, "compression": self._codec.compression}
