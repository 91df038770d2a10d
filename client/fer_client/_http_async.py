"""Carries requests to Triton over aiohttp for clients of one event loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
import weakref
from types import SimpleNamespace
from typing import Any, Final

import aiohttp

from fer_client import _forks
from fer_client._config import Settings
from fer_client._errors import (
    ContractError,
    FerClientError,
    RequestTimeoutError,
    ServerUnreachableError,
    error_of_closing,
    error_of_connection,
)
from fer_client.protocol import Call, HttpAnswer, HttpCodec, HttpRequest, Infer

_TLS_FAREWELL_S: Final = 0.1
"""asyncio takes encrypted connections down after they were closed, and complains of them if its loop ends before.
Source: aiohttp's documentation, "Graceful Shutdown"."""


class AsyncHttpTransport:
    """Reaches a server over HTTP/1.1 with connections that are kept open between requests."""

    def __init__(self, settings: Settings) -> None:
        """Prepare to talk to the server; nothing is sent yet. Raises ValueError where TLS files are not good."""
        self._endpoint = settings.endpoint
        self._codec = HttpCodec(settings)
        self._tls = None if settings.tls is None else settings.tls.ssl_context()
        self._server_name = settings.tls and settings.tls.server_name
        self._session: aiohttp.ClientSession | None = None
        self._connector: _Connector | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        _forks.register(self)

    async def ask(self, call: Call, timeout_s: float) -> Any:
        """Make a call. Raises FerClientError when it fails."""
        answer = await self._exchange(self._codec.request(call), timeout_s)
        try:
            return self._codec.result(call, answer)
        except ContractError:
            if isinstance(call, Infer):  # Who answers one request wrongly may have more for the next one.
                await self.close()
            raise

    async def close(self) -> None:
        """Close all connections; what is still in flight is given up."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
            await asyncio.sleep(0 if self._tls is None else _TLS_FAREWELL_S)

    def start_anew(self) -> None:
        """Leave all connections to the parent process."""
        if self._session is not None and self._connector is not None:
            self._session.detach()
            self._connector.abandon()
        self._session = self._connector = self._loop = None

    async def _exchange(self, request: HttpRequest, timeout_s: float) -> HttpAnswer:
        progress = SimpleNamespace(is_connecting=False)
        try:
            async with self._open_session().request(
                request.method,
                self._endpoint.url + request.path,
                data=request.body or None,
                headers=request.headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                allow_redirects=False,  # Nothing is sent anywhere but to the server named.
                server_hostname=self._server_name,
                trace_request_ctx=progress,
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                return HttpAnswer(response.status, headers, await response.read())
        except asyncio.TimeoutError as error:
            if progress.is_connecting:
                raise ServerUnreachableError(self._endpoint.url, f"no connection within {timeout_s:g} s") from error
            raise RequestTimeoutError(self._endpoint.url, f"{timeout_s:g} s") from error
        except UnicodeError as error:  # A host such as `a..b`.
            raise ServerUnreachableError(self._endpoint.url, str(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._failed(error, progress.is_connecting) from error

    def _failed(self, error: Exception, is_connecting: bool) -> FerClientError:
        """Make the error of what aiohttp raised."""
        url = self._endpoint.url
        if isinstance(error, aiohttp.ClientResponseError):
            return ServerUnreachableError(url, "what answers there does not speak HTTP")
        if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
            return error_of_closing(url, midway=isinstance(error, aiohttp.ClientPayloadError))
        cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
        if isinstance(cause, OSError):
            in_handshake = is_connecting and self._tls is not None
            return error_of_connection(url, cause, in_handshake=in_handshake)
        return ServerUnreachableError(url, str(cause))

    def _open_session(self) -> aiohttp.ClientSession:
        """Return the session, made when it is first needed: it belongs to the event loop that runs then.

        Raises:
            RuntimeError: It belongs to another event loop, which is not closed yet.
        """
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            if self._loop is not None and not self._loop.is_closed():
                raise RuntimeError(
                    "this client is used in another event loop already: make a client for each, or close that loop"
                )
            self.start_anew()
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_connection_create_start.append(_connecting)
            trace.on_connection_create_end.append(_connected)
            self._loop = loop
            self._connector = _Connector(self._tls)
            self._session = aiohttp.ClientSession(
                connector=self._connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # The codec does it.
                trace_configs=[trace],
            )
        return self._session


class _Connector(aiohttp.TCPConnector):
    """Knows its sockets, so that it can part with them."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._is_abandoned = False
        super().__init__(limit=0, ssl=tls or True, socket_factory=self._make_socket)  # Callers limit themselves.

    def abandon(self) -> None:
        """Part with all connections, and never close one: that would be done in the event loop they belong to."""
        self._is_abandoned = True
        _forks.let_go(self._sockets)

    def __del__(self, *arguments: Any) -> None:
        if not self._is_abandoned:
            super().__del__(*arguments)

    def _make_socket(self, address: tuple[Any, ...]) -> socket.socket:
        made = socket.socket(*address[:3])
        self._sockets.add(made)
        return made


async def _connecting(_session: object, progress: SimpleNamespace, _event: object) -> None:
    progress.trace_request_ctx.is_connecting = True


async def _connected(_session: object, progress: SimpleNamespace, _event: object) -> None:
    progress.trace_request_ctx.is_connecting = False
