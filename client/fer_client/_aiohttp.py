"""Carries requests to Triton over aiohttp for clients of one event loop."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, Final

import aiohttp

from fer_client._calls import Call
from fer_client._errors import FerClientError, RequestTimeoutError, ServerUnreachableError
from fer_client._failures import of_closed_connection, of_connection
from fer_client._http_codec import HttpAnswer, HttpCodec, HttpRequest
from fer_client._settings import Settings

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

    async def ask(self, call: Call, timeout_s: float) -> Any:
        """Make a call. Raises FerClientError when it fails."""
        return self._codec.result(call, await self._exchange(self._codec.request(call), timeout_s))

    async def close(self) -> None:
        """Close all connections; what is still in flight is given up."""
        if self._session is not None and not self._session.closed:
            await self._session.close()
            await asyncio.sleep(0 if self._tls is None else _TLS_FAREWELL_S)

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
        """Aiohttp's errors as the standard library's."""
        url = self._endpoint.url
        if isinstance(error, aiohttp.ClientResponseError):
            return ServerUnreachableError(url, "what answers there does not speak HTTP")
        if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
            return of_closed_connection(url, midway=isinstance(error, aiohttp.ClientPayloadError))
        cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
        if isinstance(cause, OSError):
            in_handshake = is_connecting and self._tls is not None
            return of_connection(url, cause, in_handshake=in_handshake)
        return ServerUnreachableError(url, str(cause))

    def _open_session(self) -> aiohttp.ClientSession:
        """The session, made when it is first needed: it belongs to the event loop that runs then."""
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_connection_create_start.append(_connecting)
            trace.on_connection_create_end.append(_connected)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self._tls or True),  # Callers limit themselves.
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # The codec does it.
                trace_configs=[trace],
            )
        return self._session


async def _connecting(_session: object, progress: SimpleNamespace, _event: object) -> None:
    progress.trace_request_ctx.is_connecting = True


async def _connected(_session: object, progress: SimpleNamespace, _event: object) -> None:
    progress.trace_request_ctx.is_connecting = False
