"""What a forked process does with the connections it inherits: it lets go of them, and they stay its parent's alone.

After a fork both processes hold the same connections, and each would read answers meant for the other. So transports
register here, and start anew in each forked process before any other code runs in it. A check of the process's number
at use would come too late: by then the child may have closed an inherited client, or dropped it, and so have ended its
parent's connections.

Used by the transports of both clients.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket


class Inherited(Protocol):
    """What is of no use in a forked process as it is."""

    def start_anew(self) -> None:
        """Let go of what belongs to the parent. Called in the child, which has no other thread yet."""


_registered: weakref.WeakSet[Inherited] = weakref.WeakSet()


def register(inherited: Inherited) -> None:
    """Have `start_anew` called in each process forked from now on, as long as there is the object."""
    _registered.add(inherited)


def let_go(connections: Iterable[socket.socket]) -> None:
    """Part with inherited connections, without a word to their other ends.

    To shut a connection down, or to say goodbye over TLS, would end it for the parent too. To close its descriptor
    alone would free the number for the next connection, while objects that an event loop or OpenSSL keep still use it.
    So each number gets a socket that leads nowhere: what is still read or written there fails, and closing it is
    harmless.
    """
    import socket  # Not at the top, so that `import fer_client` stays light.

    descriptors = [connection.fileno() for connection in connections]
    try:
        with socket.socket() as nowhere:
            for descriptor in descriptors:
                if descriptor != -1:  # That of a closed socket.
                    os.dup2(nowhere.fileno(), descriptor, inheritable=False)
    except OSError:  # No descriptor is left. Nothing uses the inherited ones any more; they end with the process.
        pass


def require_same_process(process: int) -> None:
    """Make sure that work is continued where it began.

    Args:
        process: Number of the process in which it began.

    Raises:
        RuntimeError: This is another one, forked meanwhile. The threads or tasks at work are the parent's alone.
    """
    if os.getpid() != process:
        raise RuntimeError(
            "these results are those of the process that asked for them, and this one was forked meanwhile: "
            "call predict_many or predict_as_completed in each process"
        )


def _start_anew() -> None:
    for inherited in list(_registered):
        inherited.start_anew()


if hasattr(os, "register_at_fork"):  # Windows has no fork.
    os.register_at_fork(after_in_child=_start_anew)
