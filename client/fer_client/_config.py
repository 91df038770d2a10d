"""Where a server is and how to talk to it: everything that a client is told when it is made, read and checked.

`read_settings` makes `Settings` of the arguments of `FerClient`: an `Endpoint` of the URL, `Tls`, headers and patience.
Both clients and all transports share them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NoReturn, cast, get_args

if TYPE_CHECKING:
    import ssl

Compression = Literal["gzip", "deflate"]
Protocol = Literal["http", "grpc"]
PROTOCOLS: Final[tuple[Protocol, ...]] = get_args(Protocol)

DEFAULT_PORTS: Final[dict[str, int]] = {"http": 8000, "grpc": 8001, "https": 443, "grpcs": 443}
"""Port by scheme: Triton's own without TLS, the usual port of proxies with it."""

_ACCEPTED: Final = "expected HOST[:PORT], optionally prefixed with http://, https://, grpc:// or grpcs://"

DEFAULT_TIMEOUT_S: Final = 30.0
"""Long enough for a large photo over a slow line, short enough to notice a server that hangs."""
DEFAULT_RETRIES: Final = 3
"""Rides out a full queue of a second or a connection that was dropped; a server that is gone is noticed soon."""
_LONGEST_TIMEOUT_S: Final = 86_400.0
"""A day: sockets take no arbitrarily large timeouts."""

_OWN_HEADERS: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "inference-header-content-length",
        "te",
        "transfer-encoding",
        "user-agent",
    }
)
"""Headers that the protocols set themselves."""


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


@dataclass(frozen=True)
class Tls:
    """What an encrypted connection needs beyond the defaults. The server's certificate and name are always verified.

    Attributes:
        ca_file: PEM file of the authorities that sign the server's certificate; None trusts the system's over HTTP, and
            the list that gRPC brings over gRPC.
        certificate_file: PEM file of this client's own certificate and its chain, where the server asks for one.
        key_file: PEM file of its private key, without a passphrase; None takes it from `certificate_file`.
        server_name: Name that the server's certificate must bear, where that is not the host of the URL.
    """

    ca_file: str | os.PathLike[str] | None = None
    certificate_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None
    server_name: str | None = None

    def ssl_context(self) -> ssl.SSLContext:
        """Read and check the files, and return them as the standard library wants them.

        Raises:
            ValueError: A file cannot be read, is not what it should be, or key and certificate do not belong together.
        """
        import ssl  # Not at the top, so that `import fer_client` stays light.

        authorities, certificate, _ = self.pem_files()
        try:
            context = ssl.create_default_context(cadata=None if authorities is None else authorities.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise ValueError(f"TLS: {self.ca_file} holds no PEM certificates ({error})") from error
        if certificate is not None and self.certificate_file is not None:
            try:
                context.load_cert_chain(self.certificate_file, self.key_file, password=_no_passphrase)
            except ssl.SSLError as error:
                files = " and ".join(str(name) for name in (self.certificate_file, self.key_file) if name is not None)
                raise ValueError(
                    f"TLS: {files} are no PEM certificate and its own private key ({error.reason or error})"
                ) from error
        return context

    def pem_files(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Read the files of authorities, own certificate and own key; None for one that is not given.

        Raises:
            ValueError: A file cannot be read, or there is a key without a certificate.
        """
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError(f"TLS: the key {os.fspath(self.key_file)} comes without its certificate: give both")
        authorities, certificate, key = map(_content, (self.ca_file, self.certificate_file, self.key_file))
        return authorities, certificate, key or certificate


@dataclass(frozen=True)
class Settings:
    """How to reach a server, and how patiently.

    Attributes:
        endpoint: Where the server is.
        timeout_s: How long one try may take, in seconds.
        deadline_s: How long all tries of one call may take together, in seconds; None sets no limit.
        retries: How often a call is tried again after a failure that may pass.
        tls: How the connection is encrypted; None where it is not.
        headers: Sent with each request, names in lower case. They hold secrets, so nothing prints them.
        compression: Of what is sent, and asked for of the answer.
    """

    endpoint: Endpoint
    timeout_s: float = DEFAULT_TIMEOUT_S
    deadline_s: float | None = None
    retries: int = DEFAULT_RETRIES
    tls: Tls | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    compression: Compression | None = None


def read_settings(
    url: str,
    protocol: Protocol | None,
    timeout_s: float,
    deadline_s: float | None,
    retries: int,
    tls: Tls | None,
    headers: Mapping[str, str] | None,
    token: str | None,
    compression: Compression | None,
) -> Settings:
    """Check what a user gives. The arguments are those of `FerClient`.

    Raises:
        ValueError: One of them makes no sense; the message says what is expected, and no secret.
    """
    endpoint = parse_endpoint(url, protocol, None if tls is None else True)
    _check_duration("timeout", timeout_s)
    if deadline_s is not None:
        _check_duration("deadline", deadline_s)
    if retries < 0:
        raise ValueError(f"{retries} retries: expected 0 or more")
    if compression not in (None, *get_args(Compression)):
        raise ValueError(f"compression {compression!r}: expected one of {', '.join(get_args(Compression))}")
    return Settings(
        endpoint=endpoint,
        timeout_s=timeout_s,
        deadline_s=deadline_s,
        retries=retries,
        tls=tls or (Tls() if endpoint.tls else None),
        headers=_checked_headers(headers or {}, token),
        compression=compression,
    )


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


def _content(file: str | os.PathLike[str] | None) -> bytes | None:
    try:
        return None if file is None else Path(file).read_bytes()
    except OSError as error:
        raise ValueError(f"TLS: cannot read {os.fspath(file or '')}: {error.strerror}") from error


def _no_passphrase() -> NoReturn:
    """Refuse to ask on the terminal, as OpenSSL would: a service would wait there for ever."""
    raise ValueError("TLS: the private key asks for a passphrase: give one without, readable by this user alone")


def _check_duration(name: str, seconds: float) -> None:
    if not 0 < seconds <= _LONGEST_TIMEOUT_S:
        raise ValueError(f"{name} of {seconds:g} s: expected more than 0 and at most {_LONGEST_TIMEOUT_S:g} s")


def _checked_headers(headers: Mapping[str, str], token: str | None) -> dict[str, str]:
    """Check all headers to send, the token's among them. Messages name headers and never show a value."""
    checked: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        if not re.fullmatch(r"[a-z0-9!#$%&'*+.^_`|~-]+", lower):  # Source: RFC 9110, 5.6.2, token.
            raise ValueError(f"header {name!r}: expected a name of letters, digits and hyphens")
        if lower in _OWN_HEADERS or lower.startswith("grpc-"):
            raise ValueError(f"header {name!r} is set by the client itself: leave it out")
        if lower in checked:
            raise ValueError(f"header {name!r} is given twice: names differ by more than upper and lower case")
        checked[lower] = _checked_value(f"value of header {name!r}", value)
    if token is not None:
        if "authorization" in checked:
            raise ValueError("there is a token and a header 'Authorization' as well: give one of the two")
        if not token or " " in token:
            raise ValueError("token: expected the bare token, without 'Bearer' and without spaces")
        checked["authorization"] = _checked_value("token", f"Bearer {token}")
    return checked


def _checked_value(name: str, value: str) -> str:
    if not re.fullmatch(r"[\x20-\x7e]*", value):
        raise ValueError(f"{name}: expected printable ASCII characters on one line")
    return value.strip()
