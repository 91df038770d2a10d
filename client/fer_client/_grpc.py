"""Carries messages to Triton over one gRPC channel, for clients shared by threads and for asyncio, and across forks.

gRPC sets a forked process up anew, but only if no thread was inside gRPC at the moment of the fork; else its threads
are missing there, and whatever is asked waits for ever (grpcio 1.85: "Other threads are currently calling into gRPC,
skipping fork() handlers"). So a fork waits here until the calls under way are answered, while new ones wait for the
fork. The calls of other parts of the program are not seen here: therefore a forked process tries gRPC out before it
asks a server, on a socket that does not exist, which must fail at once. Where gRPC's own support for forks is switched
off, nothing is even tried, because gRPC may end the process then ("Mutex::Fer while waiting on Condition").

grpc.aio is not used: a thread of its own never leaves gRPC, so no process that was forked after it began could use
gRPC, and its channels belong to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import grpc
from tritonclient.grpc import service_pb2_grpc

from fer_client import _forks
from fer_client._config import Settings
from fer_client.protocol import Call
from fer_client.protocol_grpc import GrpcCodec, channel_opener

if TYPE_CHECKING:
    from fer_client._many import Cancellation

_PATIENCE_S: Final = 5.0
"""How long a fork waits for calls under way. gRPC's own support for forks waits as long."""
_TRIAL_S: Final = 5.0
"""How long a trial may take. Where gRPC works it is over within 10 ms; a busy machine gets time."""
_IS_SWITCHED_OFF: Final = os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "").lower() in {"0", "f", "false", "n", "no"}
"""Source: gRPC's config_vars. It is on by default, and read once."""
_NOBODY: Final = "unix:///nonexistent/fer_client"

_BROKEN: Final = (
    "gRPC does not work in this process, because it was forked while gRPC was at work in its parent, or with gRPC's "
    "support for forks switched off (GRPC_ENABLE_FORK_SUPPORT): start processes by spawn or forkserver, or use HTTP"
)


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
        """Begin a call. `ended` is called in another thread when `result` will not have to wait any more."""
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
        """Return the result of a call that `begin` began. Raises as `ask`."""
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
        """Return the stub. Its channel is opened only now, so that earlier forks have nothing to disturb."""
        with self._opening:
            if self._stub is None:
                self._channel = self._open_channel(CALLS.forks)
                self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
            return self._stub

    def _options(self, timeout_s: float) -> dict[str, Any]:
        return {"timeout": timeout_s, "metadata": self._codec.metadata, "compression": self._codec.compression}


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


class Calls:
    """Counts the gRPC calls of this process, and lets none overlap with a fork. One for all clients.

    Attributes:
        forks: How many lie between the first process and this one.
    """

    def __init__(self) -> None:
        """Nothing is under way."""
        self.forks = 0
        self._changed = threading.Condition()
        self._under_way = 0
        self._forking = 0
        self._is_used = False
        self._is_tried_out = True
        self._is_broken = False

    def begin(self) -> None:
        """Note that a call begins, after the forks under way.

        Raises:
            RuntimeError: This process was forked in a way that leaves it without gRPC.
        """
        if not self._is_tried_out:
            self._try_out()
        if self._is_broken:
            raise RuntimeError(_BROKEN)
        with self._changed:
            self._changed.wait_for(lambda: not self._forking)
            self._under_way += 1
            self._is_used = True

    def end(self) -> None:
        """Note that a call is over."""
        with self._changed:
            self._under_way -= 1
            if self._forking and not self._under_way:
                self._changed.notify_all()

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Count the call that is made within the block. Raises as `begin`."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def before_fork(self) -> None:
        """Wait until the calls under way are over, and let no other begin."""
        with self._changed:
            self._forking += 1
            self._changed.wait_for(lambda: not self._under_way, _PATIENCE_S)

    def after_fork_in_parent(self) -> None:
        """Let calls begin again."""
        with self._changed:
            self._forking -= 1
            self._changed.notify_all()

    def start_anew(self) -> None:
        """Begin with no calls under way in a forked process, where gRPC has yet to be tried out."""
        self._is_broken = self._is_broken or self._under_way > 0 or (self._is_used and _IS_SWITCHED_OFF)
        self._is_tried_out = self._is_broken
        self._changed = threading.Condition()
        self._under_way = self._forking = 0
        self.forks += 1

    def _try_out(self) -> None:
        """Find out whether gRPC works here. It is tried in a thread, because it may not even give up by itself."""
        failed = threading.Event()

        def fail() -> None:
            channel = grpc.insecure_channel(_NOBODY, options=(("fer.forks", self.forks),))
            with contextlib.suppress(grpc.FutureTimeoutError):
                channel.unary_unary("/nobody/Nothing").future(b"", timeout=_TRIAL_S).exception(_TRIAL_S)
                failed.set()
                channel.close()

        with self._changed:
            self._under_way += 1  # A fork now would leave its child without gRPC.
        threading.Thread(target=fail, name="fer-client-trial", daemon=True).start()
        self._is_broken = not failed.wait(_TRIAL_S)
        self._is_tried_out = True
        self.end()


CALLS: Final = Calls()

_forks.register(CALLS)
if hasattr(os, "register_at_fork"):  # Windows has no fork.
    os.register_at_fork(before=CALLS.before_fork, after_in_parent=CALLS.after_fork_in_parent)
