"""Ends a command in order when the system asks for it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import NoReturn


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Within the block SIGTERM, which stops jobs and containers, does what Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # Only there can handlers be set.
        yield
        return

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
