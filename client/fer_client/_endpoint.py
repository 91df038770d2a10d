"""Where a server is and how to talk to it: reading the URL that a user gives."""

import re
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

Protocol = Literal["http", "grpc"]
PROTOCOLS: Final[tuple[Protocol, ...]] = get_args(Protocol)

DEFAULT_PORTS: Final[dict[str, int]] = {"http": 8000, "grpc": 8001, "https": 443, "grpcs": 443}
"""By scheme. Triton's own without TLS; with it, that of the proxies which bring it."""

_ACCEPTED: Final = "expected host:port, or that after http://, https://, grpc:// or grpcs://"


@dataclass(frozen=True)
class Endpoint:
    """One server, reached over one protocol.

    Attributes:
        protocol: `http` or `grpc`.
        host: Name or address; an IPv6 address without its brackets.
        port: TCP port.
        tls: Whether the connection is encrypted.
    """

    protocol: Protocol
    host: str
    port: int
    tls: bool = False

    @property
    def address(self) -> str:
        """`host:port`, as gRPC takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """`scheme://host:port`, as messages name it."""
        return f"{_scheme(self.protocol, self.tls)}://{self.address}"


def parse_endpoint(url: str, protocol: Protocol | None = None, tls: bool | None = None) -> Endpoint:
    """Read a server's URL.

    Args:
        url: `host`, `host:port` or `scheme://host:port`; the schemes are http, https, grpc and grpcs. Without a port,
            DEFAULT_PORTS.
        protocol: None takes the URL's, or HTTP where it has no scheme.
        tls: Whether to encrypt; None takes the URL's, or does not where it has no scheme.

    Raises:
        ValueError: It is no such URL, or its scheme contradicts `protocol` or `tls`. The message shows no password.
    """
    if protocol not in (None, *PROTOCOLS):
        raise ValueError(f"protocol {protocol!r}: expected one of {', '.join(PROTOCOLS)}")
    scheme, separator, rest = url.rpartition("://")
    url = re.sub(r"[^/]*@", "***@", url)  # For messages only, from here on.
    if separator and scheme not in DEFAULT_PORTS:
        raise ValueError(f"URL {url!r} has the scheme {scheme!r}: {_ACCEPTED}")
    if not separator:
        scheme = _scheme(protocol or "http", bool(tls))
    chosen, encrypted = cast(Protocol, scheme[:4]), scheme.endswith("s")
    if protocol not in (None, chosen):
        raise ValueError(f"URL {url!r} contradicts the protocol {protocol!r}: give one of the two, or make them agree")
    if tls not in (None, encrypted):
        raise ValueError(
            f"URL {url!r} is not encrypted, but TLS is set up for it: write {chosen}s://, or leave one out"
        )
    host, port = _split_address(url, rest)
    return Endpoint(chosen, host, DEFAULT_PORTS[scheme] if port is None else port, encrypted)


def _scheme(protocol: str, tls: bool) -> str:
    return protocol + "s" * tls


def _split_address(url: str, address: str) -> tuple[str, int | None]:
    """Split `host[:port][/]`. `url` is what the message of a ValueError names."""
    from urllib.parse import urlsplit  # Not at the top, so that `import fer_client` stays light.

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
