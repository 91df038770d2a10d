"""Gives up from outside what threads are waiting for: an answer, or the time to try again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class CancelledError(Exception):
    """What a thread was waiting for has been given up."""


class Cancellation:
    """Shared by those who wait and the one who may give up on all of them."""

    def __init__(self) -> None:
        """Nothing is given up yet."""
        self._requested = threading.Event()
        self._lock = threading.Lock()
        self._aborts: set[Callable[[], object]] = set()

    def request(self) -> None:
        """Abort whatever is waited for now, and what anyone would wait for later."""
        with self._lock:
            self._requested.set()
            aborts, self._aborts = self._aborts, set()
        for abort in aborts:
            abort()

    @contextmanager
    def watching(self, abort: Callable[[], object]) -> Iterator[None]:
        """Where something is waited for.

        Args:
            abort: Ends the waiting; called from another thread, where the block then fails in any way.

        Raises:
            CancelledError: Everything has been given up, before the block or within it.
        """
        with self._lock:
            self.check()
            self._aborts.add(abort)
        try:
            yield
        except Exception:
            self.check()
            raise
        finally:
            with self._lock:
                self._aborts.discard(abort)

    def check(self) -> None:
        """Raise CancelledError if everything has been given up."""
        if self._requested.is_set():
            raise CancelledError

    def wait(self, duration_s: float) -> None:
        """Sleep. Raises CancelledError when everything is given up before or meanwhile."""
        if self._requested.wait(duration_s):
            raise CancelledError
