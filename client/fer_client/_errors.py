"""Everything that `fer_client` raises about a server or an image. One class for each thing to do about it.

    FerClientError
    ├── ServerUnreachableError      start a server, or correct the URL
    │   └── TlsError                correct certificates, server name or `https://`: the reason says which
    ├── AuthenticationError         give the token or header that the server asks for
    ├── RequestTimeoutError         try again later, or allow more time
    ├── ServerOverloadedError       try again a little later
    ├── ImageRefusedError           send another image: the reason says what is accepted
    ├── ImageUnreadableError        name a file that can be read; an OSError as well
    ├── ContractError               use a server that serves this model: the reason lists what differs
    └── ServerError                 read the server's log

A wrong argument is a `ValueError` or a `TypeError`, as everywhere in Python. No face in a picture is a result and
raises nothing.
"""

from __future__ import annotations

import os
import re
from typing import ClassVar


class FerClientError(Exception):
    """Base class: a request to `url` had no result, because of `reason`.

    Attributes:
        url: The server asked, as `http://host:port` and the like; empty where none was asked.
        reason: What happened, in the server's own words where it answered.
        is_temporary: Whether the same request may well succeed a moment later. The client has then tried it as often
            as `retries` and `deadline_s` allow.
    """

    _sentence: ClassVar[str] = "{url}: {reason}"

    def __init__(self, url: str, reason: str, *, is_temporary: bool = False) -> None:
        """Keep both as `args` too, so that the error can be pickled."""
        super().__init__(url, reason)
        self.url = url
        self.reason = reason
        self.is_temporary = is_temporary

    def __str__(self) -> str:
        """One line that says what happened and what to do."""
        return self._sentence.format(url=self.url, reason=_gist(self.reason))


class ServerUnreachableError(FerClientError):
    """Nothing that speaks the protocol answers at the URL."""

    _sentence = "no server answers at {url}: start one with `fer-serve`, or correct the URL ({reason})"


class TlsError(ServerUnreachableError):
    """Something listens there, but no encrypted connection that both sides trust comes about."""

    _sentence = "no trusted connection to {url}: {reason}"


class AuthenticationError(FerClientError):
    """The server does not let this client in (HTTP 401 or 403, gRPC UNAUTHENTICATED or PERMISSION_DENIED)."""

    _sentence = "{url} does not let this client in: {reason}; give the token or the header that it asks for"


class RequestTimeoutError(FerClientError):
    """The server took longer than the client was told to wait."""

    _sentence = "no answer from {url} within {reason}: the server is busy or far away; try again, or allow more time"


class ServerOverloadedError(FerClientError):
    """The server is there and has no room for the request now (HTTP 503, gRPC UNAVAILABLE)."""

    _sentence = "{url} cannot take the request now: try again a little later ({reason})"


class ImageRefusedError(FerClientError):
    """The server read the request and does not accept this image (HTTP 400, gRPC INVALID_ARGUMENT)."""

    _sentence = "{url} refused the image: {reason}"


class ImageUnreadableError(FerClientError, OSError):
    """The image cannot be read on this side, and no server was asked.

    Attributes:
        image: The file's name, or what the image is where it has none.
    """

    def __init__(self, image: str, reason: str, errno: int | None = None) -> None:
        """Say what every OSError says too.

        Args:
            image: The file's name, or what the image is where it has none.
            reason: What happened, in the system's words.
            errno: The system's number of the error, as every OSError has it; None where the system saw none.
        """
        super().__init__("", reason)
        self.image = image
        self.errno, self.strerror, self.filename = errno, reason, image

    def __reduce__(self) -> tuple[type[ImageUnreadableError], tuple[str, str, int | None]]:
        """What pickle makes it of anew: OSError's own way mixes the arguments up."""
        return type(self), (self.image, self.reason, self.errno)

    def __str__(self) -> str:
        """One line that says what cannot be read and why."""
        name = os.fsencode(self.image).decode(errors="replace")  # A file's name need not be text.
        return f"cannot read {name}: {self.reason}"


class ContractError(FerClientError):
    """Something answers at the URL, but not the model that this client talks to, or another version of it."""

    _sentence = "{url} does not serve what this client expects: {reason}; use a server started by `fer-serve`"


class ServerError(FerClientError):
    """The server failed at a request that was good."""

    _sentence = "{url} failed: {reason}; its log says more"


def _gist(reason: str) -> str:
    """The first line that says something, without what Triton puts before its models' own words."""
    first_line = next((line.strip() for line in reason.splitlines() if line.strip()), "no reason given")
    return re.sub(r"^(\[request id: [^\]]*\] |in ensemble '[^']*', )+", "", first_line)
