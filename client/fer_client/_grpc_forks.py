"""Keeps gRPC usable in forked processes, or has them say that it is not, where they would hang.

gRPC sets a forked process up anew, but only if no thread was inside gRPC at the moment of the fork; else its threads
are missing there, and whatever is asked waits for ever (grpcio 1.85: "Other threads are currently calling into gRPC,
skipping fork() handlers"). So a fork waits here until the calls under way are answered, while new ones wait for the
fork. The calls of other parts of the program are not seen here: therefore a forked process tries gRPC out before it
asks a server, on a socket that does not exist, which must fail at once. Where gRPC's own support for forks is switched
off, nothing is even tried, because gRPC may end the process then ("Mutex::Fer while waiting on Condition").

grpc.aio has a thread that is always inside gRPC, which is why the asynchronous client does without it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import grpc

from fer_client import _forks

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

    @contextmanager
    def one(self) -> Iterator[None]:
        """Where a call is made. Raises as `begin`."""
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
        """In a forked process nothing is under way, and nobody knows yet whether gRPC works."""
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
            with suppress(grpc.FutureTimeoutError):
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
