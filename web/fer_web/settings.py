"""What the service is told when it starts."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fer_commands.messages import printable
from fer_commands.running import CommandError

MIB: Final = 1 << 20

_SHORTEST_TOKEN: Final = 16
"""Characters. A shorter token can be guessed."""


@dataclass(frozen=True)
class Limits:
    """Everything that is bounded, and checked before a picture is decoded anywhere."""

    max_request_bytes: int = 64 * MIB
    """Of one request body."""
    max_image_bytes: int = 20 * MIB
    """Of one picture. The model server has its own bound, and one for pixels, and checks both before it decodes."""
    max_images: int = 16
    """Pictures in one request."""
    max_requests: int = 64
    """Requests with pictures that are read or answered at the same time."""
    max_buffered_bytes: int = 256 * MIB
    """Of all request bodies together that are held at the same time."""
    concurrency: int = 8
    """Pictures that are with the model server at the same time."""
    wait_s: float = 10.0
    """How long a picture waits for its turn."""
    inference_timeout_s: float = 30.0
    """How long the model server may take for one picture."""
    body_timeout_s: float = 30.0
    """How long a request body may take to arrive."""
    header_timeout_s: float = 10.0
    """How long the head of a request may take to arrive."""
    send_timeout_s: float = 30.0
    """How long a client may take to accept the answer."""
    images_per_s: float | None = None
    """Pictures a second of one client, after a burst of `max_images`; None sets no limit."""


class Tokens:
    """The tokens that clients may use; only their digests are kept."""

    def __init__(self, tokens: Sequence[str]) -> None:
        """Keep the digests."""
        self._digests = [hashlib.sha256(token.encode()).digest() for token in tokens]

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """Read a file with one token a line. Empty lines and lines that begin with # are ignored.

        Raises:
            CommandError: There is no token in the file, or one is too short or holds something else than printable
                ASCII characters without spaces.
        """
        try:
            lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
        except UnicodeDecodeError as error:
            raise CommandError(f"{printable(path)}: expected a text file with one token a line") from error
        tokens = [line for line in lines if line and not line.startswith("#")]
        for number, line in enumerate(lines, 1):
            if line in tokens and (len(line) < _SHORTEST_TOKEN or not line.isascii() or " " in line):
                expected = f"at least {_SHORTEST_TOKEN} ASCII characters without spaces"
                raise CommandError(f"{printable(path)}, line {number}: expected a token of {expected}")
        if not tokens:
            raise CommandError(f"{printable(path)}: expected one token a line, and there is none")
        return cls(tokens)

    def accept(self, token: str) -> bool:
        """Return whether a token is among them, in a time that does not depend on the token."""
        digest = hashlib.sha256(token.encode()).digest()
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


@dataclass(frozen=True)
class Settings:
    """What the application needs to know. How it is reached is `server.Listener`."""

    url: str
    """The model server, as `AsyncFerClient` takes it."""
    limits: Limits = Limits()
    tokens: Tokens | None = None
    """None lets everyone in."""
    cors_origins: tuple[str, ...] = ()
    """Origins of other pages that may use the service; a browser refuses all others."""
