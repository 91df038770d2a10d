"""Carries requests to Triton over sockets that are kept open, for clients shared by threads.

tritonclient's own HTTP client runs on gevent, which ties each client to the thread that made it and leaves two file
descriptors behind for every thread that ends (tritonclient 2.73, gevent 26.9: 200 after 100 threads). Plain
sockets know no threads: whoever needs a connection takes an idle one and gives it back.
"""

from __future__ import annotations

import contextlib
import http.client
import selectors
import socket
import ssl
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from fer_client import _forks
from fer_client._config import Settings
from fer_client._errors import (
    ContractError,
    RequestTimeoutError,
    ServerUnreachableError,
    error_of_closing,
    error_of_connection,
)
from fer_client.protocol import Call, HttpAnswer, HttpCodec, HttpRequest

if TYPE_CHECKING:
    from fer_client._many import Cancellation

_CHUNK_BYTES: Final = 65_536
"""More than any answer has."""


class HttpTransport:
    """Reaches a server over HTTP/1.1 with connections that are kept open between requests."""

    def __init__(self, settings: Settings) -> None:
        """Prepare to talk to the server; nothing is sent yet. Raises ValueError where TLS files are not good."""
        self._endpoint = settings.endpoint
        self._codec = HttpCodec(settings)
        self._tls = None if settings.tls is None else settings.tls.ssl_context()
        self._server_name = (settings.tls and settings.tls.server_name) or settings.endpoint.host
        # Taken and given back by list.pop and list.append, which are atomic. The last one in is the first one out,
        # so that after a burst the connections not needed any more stay idle at the bottom.
        self._idle: list[socket.socket] = []
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._closed = False
        _forks.register(self)

    def ask(self, call: Call, timeout_s: float, cancellation: Cancellation | None = None) -> Any:
        """Make a call.

        Raises:
            FerClientError: It failed.
            CancelledError: It was given up.
        """
        answer = self._exchange(self._codec.request(call), timeout_s, cancellation)
        try:
            return self._codec.result(call, answer)
        except ContractError:
            self._close_idle()  # Who answers one request wrongly may have more for the next one.
            raise

    def close(self) -> None:
        """Close the idle connections; one in use is closed when its answer has come."""
        self._closed = True
        self._close_idle()

    def start_anew(self) -> None:
        """Leave all connections to the parent process, those that its other threads are using among them."""
        inherited, self._open = self._open, weakref.WeakSet()
        self._idle = []
        _forks.let_go(inherited)

    def _close_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _exchange(self, request: HttpRequest, timeout_s: float, cancellation: Cancellation | None) -> HttpAnswer:
        """Send one request and read its answer, whatever its status."""
        url, end = self._endpoint.url, time.monotonic() + timeout_s
        try:
            connection = self._take_idle() or self._connect(timeout_s)
            try:
                with _abortable(connection, cancellation):
                    answer, stays_open = _send_and_read(connection, self._message(request), request.method, end)
            except BaseException:
                connection.close()
                raise
        except TimeoutError as error:
            raise RequestTimeoutError(url, f"{timeout_s:g} s") from error
        except (http.client.RemoteDisconnected, http.client.IncompleteRead) as error:
            raise error_of_closing(url, midway=isinstance(error, http.client.IncompleteRead)) from error
        except OSError as error:
            raise error_of_connection(url, error) from error
        except UnicodeError as error:  # A host such as `a..b`.
            raise ServerUnreachableError(url, str(error)) from error
        except http.client.HTTPException as error:
            raise ServerUnreachableError(url, "what answers there does not speak HTTP") from error
        self._give_back(connection, stays_open)
        return answer

    def _message(self, request: HttpRequest) -> bytes:
        """Write a request in one piece: http.client would send head and body apart, which costs both sides.

        Settings have checked what users give for it: no header holds the end of a line.
        """
        lines = [f"{request.method} {request.path} HTTP/1.1", f"host: {self._endpoint.address}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        if request.body:
            lines.append(f"content-length: {len(request.body)}")
        return "\r\n".join([*lines, "", ""]).encode("ascii") + request.body

    def _connect(self, timeout_s: float) -> socket.socket:
        """Open a connection before anything is asked: only then is a timeout known not to be the server's slowness.

        Raises:
            ServerUnreachableError: Nothing takes the connection in time.
            TlsError: It cannot be encrypted.
            OSError: It is refused, or the host is unknown.
        """
        try:
            connection = socket.create_connection((self._endpoint.host, self._endpoint.port), timeout_s)
            self._open.add(connection)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection if self._tls is None else self._encrypted(connection, self._tls)
        except TimeoutError as error:
            reason = f"no connection within {timeout_s:g} s"
            raise ServerUnreachableError(self._endpoint.url, reason) from error

    def _encrypted(self, connection: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
        encrypted: socket.socket = connection
        try:
            encrypted = context.wrap_socket(
                connection, server_hostname=self._server_name, do_handshake_on_connect=False
            )
            self._open.add(encrypted)
            encrypted.do_handshake()
            return encrypted
        except BaseException as error:
            encrypted.close()
            if isinstance(error, OSError) and not isinstance(error, TimeoutError):
                raise error_of_connection(self._endpoint.url, error, in_handshake=True) from error
            raise

    def _take_idle(self) -> socket.socket | None:
        """Take an idle connection that the server has not closed meanwhile, or return None."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if not _is_readable(connection):
                return connection
            connection.close()

    def _give_back(self, connection: socket.socket, stays_open: bool) -> None:
        if not stays_open:
            connection.close()
            return
        self._idle.append(connection)
        if self._closed:
            self._close_idle()


def _abortable(connection: socket.socket, cancellation: Cancellation | None) -> contextlib.AbstractContextManager[None]:
    if cancellation is None:
        return contextlib.nullcontext()

    def hang_up() -> None:
        """Wake whoever waits for this connection, which closing it would not do."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # Not TLS's own, which would take the socket apart.

    return cancellation.watching(hang_up)


def _send_and_read(connection: socket.socket, message: bytes, method: str, end: float) -> tuple[HttpAnswer, bool]:
    """Send a message, and return the answer and whether the server keeps the connection open.

    Raises:
        TimeoutError: It is not complete at the time `end`.
        HTTPException: It ends early, or is no HTTP.
        OSError: The connection is lost.
    """
    _allow_until(end, connection)
    connection.sendall(message)
    with http.client.HTTPResponse(connection, method=method) as response:
        _allow_until(end, connection)
        response.begin()
        parts = []
        while part := response.read1(_CHUNK_BYTES):
            parts.append(part)
            _allow_until(end, connection)
        body = b"".join(parts)
        if response.length:
            raise http.client.IncompleteRead(body, response.length)
        headers = {name.lower(): value for name, value in response.getheaders()}
        return HttpAnswer(response.status, headers, body), not response.will_close


def _allow_until(end: float, connection: socket.socket) -> None:
    """Let the next wait last until the time `end` at most. Raises TimeoutError where that is over."""
    left_s = end - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    connection.settimeout(left_s)


def _is_readable(connection: socket.socket) -> bool:
    """Tell whether something waits to be read. Between two exchanges that means that the server has closed it."""
    if isinstance(connection, ssl.SSLSocket) and connection.pending():
        return True
    with selectors.DefaultSelector() as selector:  # select.select fails on descriptors from 1024 on.
        selector.register(connection, selectors.EVENT_READ)
        return bool(selector.select(timeout=0))
