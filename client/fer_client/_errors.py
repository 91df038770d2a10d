"""Everything that `fer_client` raises about a server or an image: one class for each thing to do about it.

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

Each class has its exit code, its name for programs, and the HTTP statuses and gRPC codes that mean it. The functions
below the classes make an error of what a server answered or the system said.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar, Final

from fer_commands.exit_codes import ExitCode


class FerClientError(Exception):
    """Base class: a request to `url` had no result, because of `reason`.

    Attributes:
        url: The server asked, as `http://host:port` and the like; empty where none was asked.
        reason: What happened, in the server's own words where it answered.
        is_temporary: Whether the same request may well succeed a moment later. The client has then tried it as often
            as `retries` and `deadline_s` allow.
        kind: One word for programs, the same for all errors of a class: `refused`, `timeout`.
        exit_code: Exit code of a command that ends with this error.
    """

    kind: ClassVar[str] = "failed"
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED
    _codes: ClassVar[tuple[int | str, ...]] = ()
    """HTTP statuses and names of gRPC codes with which a server or a proxy says this."""
    _sentence: ClassVar[str] = "{url}: {reason}"

    def __init__(self, url: str, reason: str, *, is_temporary: bool = False) -> None:
        """Keep both as `args` too, so that the error can be pickled."""
        super().__init__(url, reason)
        self.url = url
        self.reason = reason
        self.is_temporary = is_temporary

    def __str__(self) -> str:
        """Return one line that says what happened and what to do."""
        return self._sentence.format(url=self.url, reason=_gist(self.reason))


class ServerUnreachableError(FerClientError):
    """Nothing that speaks the protocol answers at the URL."""

    kind = "unreachable"
    exit_code = ExitCode.UNREACHABLE
    _codes = (HTTPStatus.BAD_GATEWAY,)
    _sentence = "no server answers at {url}: start one with `fer-serve`, or correct the URL ({reason})"


class TlsError(ServerUnreachableError):
    """Something listens there, but no encrypted connection that both sides trust comes about."""

    kind = "tls"
    _sentence = "no trusted connection to {url}: {reason}"


class AuthenticationError(FerClientError):
    """The server does not let this client in (HTTP 401 or 403, gRPC UNAUTHENTICATED or PERMISSION_DENIED)."""

    kind = "forbidden"
    exit_code = ExitCode.FORBIDDEN
    _codes = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, "UNAUTHENTICATED", "PERMISSION_DENIED")
    _sentence = "{url} does not let this client in: {reason}; give the token or the header that it asks for"


class RequestTimeoutError(FerClientError):
    """The server took longer than the client was told to wait."""

    kind = "timeout"
    _codes = (HTTPStatus.GATEWAY_TIMEOUT,)
    _sentence = "no answer from {url} within {reason}: the server is busy or far away; try again, or allow more time"


class ServerOverloadedError(FerClientError):
    """The server is there and has no room for the request now (HTTP 503, gRPC UNAVAILABLE)."""

    kind = "overloaded"
    _codes = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    _sentence = "{url} cannot take the request now: try again a little later ({reason})"


class ImageRefusedError(FerClientError):
    """The server read the request and does not accept this image (HTTP 400, gRPC INVALID_ARGUMENT)."""

    kind = "refused"
    exit_code = ExitCode.REFUSED
    _codes = (
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "INVALID_ARGUMENT",
        "RESOURCE_EXHAUSTED",  # gRPC's own limit on the size of a message.
    )
    _sentence = "{url} refused the image: {reason}"


class ImageUnreadableError(FerClientError, OSError):
    """The image cannot be read on this side, and no server was asked.

    Attributes:
        image: The file's name, or what the image is where it has none.
    """

    kind = "unreadable"
    exit_code = ExitCode.USAGE

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
        """Return what pickle makes it of anew: OSError's own way mixes the arguments up."""
        return type(self), (self.image, self.reason, self.errno)

    def __str__(self) -> str:
        """Return one line that says what cannot be read and why."""
        name = os.fsencode(self.image).decode(errors="replace")  # A file's name need not be text.
        return f"cannot read {name}: {self.reason}"


class ContractError(FerClientError):
    """Something answers at the URL, but not the model that this client talks to, or another version of it."""

    kind = "contract"
    _codes = (HTTPStatus.NOT_FOUND, "NOT_FOUND", "UNIMPLEMENTED")  # UNIMPLEMENTED: something else than Triton answers.
    _sentence = "{url} does not serve what this client expects: {reason}; use a server started by `fer-serve`"


class ServerError(FerClientError):
    """The server failed at a request that was good. Statuses and codes that no other class names mean this too."""

    _sentence = "{url} failed: {reason}; its log says more"


class MissingExtraError(ImportError):
    """A library is not installed that this use of the client needs. The message has the command that installs it.

    Attributes:
        exit_code: Exit code of a command that ends with this error.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


_CLASSES: Final[Mapping[int | str, type[FerClientError]]] = {
    code: error_class
    for error_class in (
        ServerUnreachableError,
        AuthenticationError,
        RequestTimeoutError,
        ServerOverloadedError,
        ImageRefusedError,
        ContractError,
    )
    for code in error_class._codes
}
_TEMPORARY: Final = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE)
"""A proxy answers 502 where it finds no server, such as one that restarts."""

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

_EXTRAS: Final = {
    "grpc": (("tritonclient", "grpc"), "gRPC needs tritonclient and grpcio", "or ask the server over HTTP"),
    "async": (("aiohttp",), "AsyncFerClient needs aiohttp for HTTP", "or use FerClient"),
}
"""Extra of the distribution -> the modules that it brings, what needs them, and what to do instead."""


def class_of_code(code: int | str, *, asks_about_image: bool) -> type[FerClientError]:
    """Look up what a server or a proxy means by an HTTP status or a gRPC code.

    Args:
        code: HTTP status, or name of the gRPC code.
        asks_about_image: Whether the request had an image, which alone can be refused.
    """
    error_class = _CLASSES.get(code, ServerError)
    if error_class is ImageRefusedError and not asks_about_image:
        return ContractError  # "Request for unknown model"
    return error_class


def error_of_status(
    url: str, status: int, words: str | None, *, asks_about_image: bool, from_triton: bool, tls: bool
) -> FerClientError:
    """Make the error that an answer with another HTTP status than 200 means. Proxies answer gRPC with them too.

    Args:
        url: The server's.
        status: HTTP status.
        words: What the answer says beside its status.
        asks_about_image: Whether the request had an image.
        from_triton: Whether the words are Triton's own; a proxy's otherwise.
        tls: Whether the connection is encrypted.
    """
    reason = words or f"HTTP status {status}"
    if status == HTTPStatus.BAD_REQUEST and not from_triton:  # About the connection: nginx says so after the handshake.
        if tls_reason := explain_tls(reason):
            return TlsError(url, f"{tls_reason} ({reason})")
        if tls and "http2 header" in reason:  # Over gRPC nginx says no more than this, and nothing else that way.
            return TlsError(url, f"a proxy refuses it, most likely for want of a client certificate ({reason})")
        return ServerError(url, reason)
    if status == HTTPStatus.GATEWAY_TIMEOUT:
        reason = f"the time that a proxy allows ({reason})"
    error_class = class_of_code(status, asks_about_image=asks_about_image)
    return error_class(url, reason, is_temporary=status in _TEMPORARY)


def error_of_connection(url: str, error: OSError, *, in_handshake: bool = False) -> FerClientError:
    """Make the error of a connection that did not come about or was dropped. Time that ran out is something else.

    Args:
        url: The server's.
        error: What the system said.
        in_handshake: Whether the connection was just being encrypted.
    """
    import ssl  # Not at the top, so that `import fer_client` stays light.

    text = str(error)
    if in_handshake and isinstance(error, ssl.SSLEOFError | ConnectionResetError | ConnectionAbortedError):
        text = f"closed during the handshake {text}".strip()
    elif isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or not isinstance(error, ssl.SSLError):
        name_is_unknown = type(error).__name__ == "gaierror"  # By name: importing socket for it would cost time.
        return ServerUnreachableError(url, text, is_temporary=not name_is_unknown)
    return TlsError(url, f"{explain_tls(text) or 'TLS failed'} ({text})")


def error_of_closing(url: str, *, midway: bool) -> ServerUnreachableError:
    """Make the error of a server that closed the connection, in the middle of its answer or before."""
    when = "in the middle of its answer" if midway else "without an answer"
    return ServerUnreachableError(url, f"it closed the connection {when}", is_temporary=True)


def explain_tls(text: str) -> str | None:
    """Say what went wrong with TLS and what to do, or return None where the text is about something else."""
    return next((words for pattern, words in _TLS_REASONS if re.search(pattern, text, re.IGNORECASE)), None)


def is_installed(extra: str) -> bool:
    """Tell whether the libraries of an extra, `grpc` or `async`, are there. They are not loaded."""
    from importlib.util import find_spec  # Not at the top, so that `import fer_client` stays light.

    return all(find_spec(module) for module in _EXTRAS[extra][0])


def require_extra(extra: str) -> None:
    """Raise MissingExtraError if the libraries of an extra, `grpc` or `async`, are not installed."""
    if not is_installed(extra):
        _, need, instead = _EXTRAS[extra]
        raise MissingExtraError(f"{need}: pip install 'fer-triton[{extra}]', {instead}")


def _gist(reason: str) -> str:
    """Return the first line that says something, without what Triton puts before its models' own words."""
    first_line = next((line.strip() for line in reason.splitlines() if line.strip()), "no reason given")
    return re.sub(r"^(\[request id: [^\]]*\] |in ensemble '[^']*', )+", "", first_line)
