"""When a call is tried again, how long before, and how long all tries may take together.

Nothing waits or is sent here: the functions are generators that yield steps and are sent their results. `FerClient`
carries the steps out one after the other, `AsyncFerClient` awaits them.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from fer_client._config import Settings
from fer_client._errors import FerClientError, RequestTimeoutError, ServerOverloadedError, ServerUnreachableError
from fer_client.protocol import Call, ServerLive

if TYPE_CHECKING:
    from fer_client._images import Channels, ImageSource

_Result = TypeVar("_Result")

_FIRST_PAUSE_S: Final = 0.1
"""The longest pause before the first retry: about what a full queue takes to have room again."""
_LONGEST_PAUSE_S: Final = 5.0


@dataclass(frozen=True)
class Ask:
    """Make a call, for no longer than `timeout_s`. Results in what is written at the call, or raises FerClientError."""

    call: Call
    timeout_s: float


@dataclass(frozen=True)
class Encode:
    """Turn an image into the file to be sent. Results in bytes, or raises as `encode` does."""

    image: ImageSource
    channels: Channels | None


@dataclass(frozen=True)
class Pause:
    """Wait. Results in nothing."""

    duration_s: float


Step: TypeAlias = Ask | Encode | Pause
Steps: TypeAlias = Generator[Step, Any, _Result]


def deadline_of(settings: Settings) -> float | None:
    """Return when all tries of a call that begins now have to be over, by the monotonic clock."""
    return None if settings.deadline_s is None else time.monotonic() + settings.deadline_s


def ask(settings: Settings, call: Call, deadline: float | None) -> Steps[Any]:
    """Make a call, again and again while its failures may pass, within `retries` and the deadline."""
    retry = 0
    failure: FerClientError | None = None
    while True:
        timeout_s = settings.timeout_s
        if deadline is not None:
            timeout_s = min(timeout_s, deadline - time.monotonic())
            if timeout_s <= 0:
                raise failure or RequestTimeoutError(settings.endpoint.url, f"{settings.deadline_s:g} s in all")
        is_cut_short = timeout_s < settings.timeout_s
        try:
            return (yield Ask(call, timeout_s))
        except FerClientError as error:
            # Why the tries before failed says more than that the deadline cut this one short.
            if failure is None or not (isinstance(error, RequestTimeoutError) and is_cut_short):
                failure = error
            pause_s = pause_before(retry)
            too_late = deadline is not None and time.monotonic() + pause_s >= deadline
            if not failure.is_temporary or retry == settings.retries or too_late:
                yield from _raise(failure, settings, timeout_s)
        yield Pause(pause_s)
        retry += 1


def _raise(error: FerClientError, settings: Settings, timeout_s: float) -> Steps[None]:
    """Raise an error, after finding out what it is.

    gRPC says UNAVAILABLE of a server that has no room and of one that is gone. The former still answers what needs no
    queue.
    """
    if isinstance(error, ServerOverloadedError) and settings.endpoint.protocol == "grpc":
        try:
            is_live = yield Ask(ServerLive(), timeout_s)
        except RequestTimeoutError:
            is_live = timeout_s < settings.timeout_s  # Cut short by the deadline, silence says nothing.
        except FerClientError:
            is_live = False
        if not is_live:
            raise ServerUnreachableError(error.url, error.reason, is_temporary=True) from error
    raise error


def pause_before(retry: int) -> float:
    """Choose how long to wait before a retry, in seconds: anything up to a limit that doubles each time.

    Clients that failed together would all come back together after equal pauses. Source: "full jitter" in M. Brooker,
    Exponential Backoff and Jitter, 2015.

    Args:
        retry: 0 for the first one.
    """
    import random  # Not at the top, so that `import fer_client` stays light.

    return random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(retry, 10)))
