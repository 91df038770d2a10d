"""What failures mean, whatever the protocol: HTTP statuses, which proxies answer gRPC with too, and connections."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from fer_client._calls import Call, Infer
from fer_client._errors import (
    AuthenticationError,
    ContractError,
    FerClientError,
    ImageRefusedError,
    RequestTimeoutError,
    ServerError,
    ServerOverloadedError,
    ServerUnreachableError,
    TlsError,
)

_ERRORS: Final[Mapping[int, type[FerClientError]]] = {
    HTTPStatus.BAD_REQUEST: ImageRefusedError,
    HTTPStatus.UNAUTHORIZED: AuthenticationError,
    HTTPStatus.FORBIDDEN: AuthenticationError,
    HTTPStatus.NOT_FOUND: ContractError,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ImageRefusedError,
    HTTPStatus.TOO_MANY_REQUESTS: ServerOverloadedError,
    HTTPStatus.BAD_GATEWAY: ServerUnreachableError,
    HTTPStatus.SERVICE_UNAVAILABLE: ServerOverloadedError,
    HTTPStatus.GATEWAY_TIMEOUT: RequestTimeoutError,
}
_TEMPORARY: Final = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE)
"""A proxy says 502 where it finds no server, such as one that restarts."""

_TLS_REASONS: Final = (
    (r"plain http request was sent to https port", "what listens there speaks TLS: add an s to the URL's scheme"),
    (
        r"hostname mismatch|ip address mismatch|hostname verification",
        "its certificate is for another name than the URL's: correct the URL, or give the name as TLS server name",
    ),
    (r"certificate has expired", "its certificate has expired: renew it"),
    (r"not yet valid", "its certificate is not valid yet: check the clocks of both sides"),
    (
        r"certificate.verify.failed|self.signed|local issuer|certificate_unknown|unknown.ca",
        "its certificate is signed by nobody trusted: give the CA file of who signed it, or correct the URL",
    ),
    (
        r"certificate.required|no required ssl certificate|the ssl certificate error|bad.certificate",
        "it asks for a client certificate: give one that it accepts, with its key",
    ),
    (
        r"wrong.version|http.request|packet.length|record.layer|unexpected.eof|closed during the handshake",
        "what listens there does not speak TLS: leave the s of the scheme out, or correct the URL",
    ),
)
"""What OpenSSL, BoringSSL (in gRPC) and nginx write, and what it means."""


def check_request_id(url: str, call: Infer, answered_id: str) -> None:
    """Make sure that an answer is the answer to this request. Empty where the server repeats no ids.

    Raises:
        ContractError: It is the answer to another request, so about another image.
    """
    if answered_id not in ("", call.request_id):
        raise ContractError(url, f"it answers another request (id {answered_id!r}, expected {call.request_id!r})")


def of_closed_connection(url: str, *, midway: bool) -> ServerUnreachableError:
    """What it means that the server closed the connection, in the middle of its answer or before."""
    when = "in the middle of its answer" if midway else "without an answer"
    return ServerUnreachableError(url, f"it closed the connection {when}", is_temporary=True)


def of_status(url: str, call: Call, status: int, words: str | None, *, from_triton: bool, tls: bool) -> FerClientError:
    """What an answer with another HTTP status than 200 means.

    Args:
        url: The server's.
        call: What was asked.
        status: HTTP status.
        words: What the answer says beside its status.
        from_triton: Whether the words are Triton's own; a proxy's otherwise.
        tls: Whether the connection is encrypted.
    """
    reason = words or f"HTTP status {status}"
    error_class = _ERRORS.get(status, ServerError)
    if status == HTTPStatus.BAD_REQUEST and not from_triton:  # About the connection: nginx says so after the handshake.
        if tls_reason := in_words(reason):
            return TlsError(url, f"{tls_reason} ({reason})")
        if tls and "http2 header" in reason:  # Over gRPC nginx says no more than this, and nothing else that way.
            return TlsError(url, f"a proxy refuses it, most likely for want of a client certificate ({reason})")
        return ServerError(url, reason)
    if status == HTTPStatus.GATEWAY_TIMEOUT:
        reason = f"the time that a proxy allows ({reason})"
    if error_class is ImageRefusedError and not isinstance(call, Infer):
        error_class = ContractError  # "Request for unknown model"
    return error_class(url, reason, is_temporary=status in _TEMPORARY)


def of_connection(url: str, error: OSError, *, in_handshake: bool = False) -> FerClientError:
    """What it means that no connection came about, or that one was dropped. Time that ran out is something else.

    Args:
        url: The server's.
        error: What the system said.
        in_handshake: Whether the connection was just being encrypted.
    """
    text = str(error)
    if in_handshake and isinstance(error, ssl.SSLEOFError | ConnectionResetError | ConnectionAbortedError):
        text = f"closed during the handshake {text}".strip()
    elif isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or not isinstance(error, ssl.SSLError):
        name_is_unknown = type(error).__name__ == "gaierror"  # By name: importing socket for it would cost time.
        return ServerUnreachableError(url, text, is_temporary=not name_is_unknown)
    return TlsError(url, f"{in_words(text) or 'TLS failed'} ({text})")


def in_words(text: str) -> str | None:
    """What went wrong with TLS, and what to do. None where the text is about something else."""
    return next((words for pattern, words in _TLS_REASONS if re.search(pattern, text, re.IGNORECASE)), None)
