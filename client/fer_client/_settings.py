"""Everything that a client is told when it is made, checked. Both clients and all transports share it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from fer_client._endpoint import Endpoint, Protocol, parse_endpoint
from fer_client._tls import Tls

Compression = Literal["gzip", "deflate"]

DEFAULT_TIMEOUT_S: Final = 30.0
"""Long enough for a large photo over a slow line, short enough to notice a server that hangs."""
DEFAULT_RETRIES: Final = 3
"""Rides out a full queue of a second or a connection that was dropped; a server that is gone is noticed soon."""
_LONGEST_TIMEOUT_S: Final = 86_400.0
"""A day. Sockets cannot wait for ever-larger numbers, and nobody wants to."""

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
"""What the protocols themselves say."""


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


def _check_duration(name: str, seconds: float) -> None:
    if not 0 < seconds <= _LONGEST_TIMEOUT_S:
        raise ValueError(f"{name} of {seconds:g} s: expected more than 0 and at most {_LONGEST_TIMEOUT_S:g} s")


def _checked_headers(headers: Mapping[str, str], token: str | None) -> dict[str, str]:
    """All headers to send, the token's among them. Messages name headers and never show a value."""
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
