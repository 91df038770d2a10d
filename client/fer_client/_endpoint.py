"""Where a server is and how to talk to it: reading the URL that a user gives."""

import re
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args
from urllib.parse import urlsplit

Protocol = Literal["http", "grpc"]
PROTOCOLS: Final[tuple[Protocol, ...]] = get_args(Protocol)

DEFAULT_PORTS: Final[dict[Protocol, int]] = {"http": 8000, "grpc": 8001}
"""Triton's own."""

_ACCEPTED: Final = "expected host:port, http://host:port or grpc://host:port"


@dataclass(frozen=True)
class Endpoint:
    """One server, reached over one protocol.

    Attributes:
        protocol: `http` or `grpc`.
        host: Name or address; an IPv6 address without its brackets.
        port: TCP port.
    """

    protocol: Protocol
    host: str
    port: int

    @property
    def address(self) -> str:
        """`host:port`, as gRPC takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """`protocol://host:port`, as messages name it."""
        return f"{self.protocol}://{self.address}"


def parse_endpoint(url: str, protocol: Protocol | None = None) -> Endpoint:
    """Read a server's URL.

    Args:
        url: `host`, `host:port` or `protocol://host:port`. Without a port, Triton's port of the protocol.
        protocol: None takes the URL's scheme, or HTTP where it has none.

    Raises:
        ValueError: It is no such URL, or its scheme and `protocol` contradict each other.
    """
    if protocol not in (None, *PROTOCOLS):
        raise ValueError(f"protocol {protocol!r}: expected one of {', '.join(PROTOCOLS)}")
    scheme, separator, rest = url.rpartition("://")
    if separator and scheme not in PROTOCOLS:
        raise ValueError(f"URL {url!r} has the scheme {scheme!r}: {_ACCEPTED}")
    if separator and protocol and scheme != protocol:
        raise ValueError(f"URL {url!r} contradicts the protocol {protocol!r}: give one of the two, or make them agree")
    chosen = cast(Protocol, scheme) if separator else protocol or "http"
    host, port = _split_address(url, rest)
    return Endpoint(chosen, host, DEFAULT_PORTS[chosen] if port is None else port)


def _split_address(url: str, address: str) -> tuple[str, int | None]:
    """Split `host[:port][/]`. `url` is what the message of a ValueError names."""
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"URL {url!r}: {error}; {_ACCEPTED}") from error
    if not host or not re.fullmatch(r"[\w.:-]+", host):
        raise ValueError(f"URL {url!r} names no host: {_ACCEPTED}")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"URL {url!r} holds more than a host and a port: {_ACCEPTED}")
    if port == 0:
        raise ValueError(f"URL {url!r} has port 0: {_ACCEPTED}")
    return host, port
