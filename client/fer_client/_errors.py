"""Everything that `fer_client` raises about a server or an image. One class for each thing to do about it.

    FerClientError
    ├── ServerUnreachableError   start a server, or correct the URL
    ├── RequestTimeoutError      try again later, or allow more time
    ├── ServerOverloadedError    try again a little later
    ├── ImageRefusedError        send another image: the reason says what is accepted
    ├── ContractError            use a server that serves this model: the reason lists what differs
    └── ServerError              read the server's log

A wrong argument is a `ValueError` or a `TypeError`, a file that cannot be read an `OSError`, as everywhere in Python.
No face in a picture is a result and raises nothing.
"""

import re
from typing import ClassVar


class FerClientError(Exception):
    """Base class: a request to `url` had no result, because of `reason`.

    Attributes:
        url: The server asked, as `http://host:port` or `grpc://host:port`.
        reason: What happened, in the server's own words where it answered.
    """

    _sentence: ClassVar[str] = "{url}: {reason}"

    def __init__(self, url: str, reason: str) -> None:
        """Keep both as `args` too, so that the error can be pickled."""
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        """One line that says what happened and what to do."""
        return self._sentence.format(url=self.url, reason=_gist(self.reason))


class ServerUnreachableError(FerClientError):
    """Nothing that speaks the protocol answers at the URL."""

    _sentence = "no server answers at {url}: start one with `fer-serve`, or correct the URL ({reason})"


class RequestTimeoutError(FerClientError):
    """The server took longer than the client was told to wait."""

    _sentence = "no answer from {url} within {reason}: the server is busy or far away; try again, or allow more time"


class ServerOverloadedError(FerClientError):
    """The server is there and has no room for the request now (HTTP 503, gRPC UNAVAILABLE)."""

    _sentence = "{url} cannot take the request now: try again a little later ({reason})"


class ImageRefusedError(FerClientError):
    """The server read the request and does not accept this image (HTTP 400, gRPC INVALID_ARGUMENT)."""

    _sentence = "{url} refused the image: {reason}"


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
