"""What each request passes before its route, and what each answer carries.

A request gets an id, has to come from a page of this service or of an origin that is named, and has to show a token
where tokens are asked for. A line of the log says what came of it: no address, no name of a file, no token.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
import uuid
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import anyio
import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fer_web.metrics import Metrics
from fer_web.problems import MEDIA_TYPE, Problem
from fer_web.rates import network_of
from fer_web.settings import Settings

_LOG: Final = logging.getLogger("fer_web")
_SECURED: Final = ("/v1/", "/metrics")
"""Beginnings of the paths that need a token, where tokens are asked for."""
MOST_HEAD_BYTES: Final = 16 << 10
_MOST_HEADERS: Final = 100
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLIENT_LEFT: Final = 499
"""For log and metrics only: nobody is there to be answered. Source: nginx."""
_LINGER_S: Final = 2.0
_LINGER_BYTES: Final = 16 << 20
"""What is still read of a body that was refused: a client that is closed upon while it sends may not see the answer."""

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """The outermost application."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        """Stand before an application."""
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._settings)
        try:
            await self._serve(exchange)
        except ClientDisconnect:
            exchange.status = _CLIENT_LEFT
        except Exception:
            _LOG.exception("request %s failed", exchange.id)
            if not exchange.is_answered:
                await exchange.refuse(Problem("internal-error", "The service has a defect: see its log."))
        finally:
            self._note(exchange)

    async def _serve(self, exchange: _Exchange) -> None:
        try:
            exchange.check_size()
            exchange.check_origin()
            exchange.check_token()
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except Problem as problem:
            await exchange.refuse(problem)
        except HTTPException as error:
            await exchange.refuse(_problem_of_router(error))

    def _note(self, exchange: _Exchange) -> None:
        """Log and count a request."""
        route = getattr(exchange.scope.get("route"), "path", "other")
        seconds = time.perf_counter() - exchange.started
        self._metrics.requests.labels(route, exchange.status).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        method = exchange.scope["method"]
        method = method if method.isalpha() and len(method) < 10 else "?"
        _LOG.info("%s %s %d %.0f ms %s", method, route, exchange.status, 1e3 * seconds, exchange.id)


def _problem_of_router(error: HTTPException) -> Problem:
    """Return what the router says of a path or a method, as a problem."""
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        return Problem("method-not-allowed", f"Expected one of {allowed}.", headers={"Allow": allowed})
    return Problem("not-found", "There is nothing at this path: see /docs.")


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: Settings) -> None:
        self.scope = scope
        self.started = time.perf_counter()
        self.status = _CLIENT_LEFT
        self.is_answered = False
        self._receive, self._send, self._settings = receive, send, settings
        self._headers = Headers(scope=scope)
        has_body = self._headers.get("content-length", "0") != "0" or "transfer-encoding" in self._headers
        self._body_is_read = not has_body
        given_id = self._headers.get("x-request-id", "")
        self.id = given_id if _REQUEST_ID.fullmatch(given_id) else uuid.uuid4().hex
        scope["app"] = self  # Without an application the router answers in plain text where it finds no route.
        scope.setdefault("state", {}).update(id=self.id, started=self.started, client=self._client())

    def _client(self) -> str:
        """Return a word for who asks: a digest of the token, or the address; of IPv6 the network of 64 bits."""
        if self._settings.tokens and self._token():
            return hashlib.sha256(self._token().encode()).hexdigest()
        return network_of(str((self.scope.get("client") or ("unknown", 0))[0]))

    def _token(self) -> str:
        scheme, _, token = self._headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    def check_size(self) -> None:
        """Refuse too long a head. Raises Problem. h11 has bounded only those that arrive in several pieces."""
        size = sum(len(name) + len(value) for name, value in self._headers.raw) + len(self.scope["query_string"])
        if size > MOST_HEAD_BYTES or len(self._headers) > _MOST_HEADERS:
            expected = f"at most {_MOST_HEADERS} headers, and {MOST_HEAD_BYTES >> 10} KiB of headers and query"
            raise Problem("head-too-large", f"Expected {expected}.")

    def check_origin(self) -> None:
        """Refuse what a page of an origin that is not named had a browser send. Raises Problem."""
        origin = self._headers.get("origin")
        if origin is None or origin in self._settings.cors_origins:
            return
        if urlsplit(origin).netloc.lower() != self._headers.get("host", "").lower():
            raise Problem("foreign-origin", "The request comes from a page of another origin, which is not named here.")

    def check_token(self) -> None:
        """Refuse what has no token where one is needed. Raises Problem."""
        tokens = self._settings.tokens
        is_preflight = self.scope["method"] == "OPTIONS" and "access-control-request-method" in self._headers
        if tokens is None or is_preflight or not self.scope["path"].startswith(_SECURED):
            return
        if not tokens.accept(self._token()):
            raise Problem("unauthorized", "Expected the header `Authorization: Bearer TOKEN` with a known token.")

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._body_is_read = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.is_answered = True
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers["X-Request-ID"] = self.id
            if not self._settings.cors_origins:
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
            if self.scope["scheme"] == "https":
                headers["Strict-Transport-Security"] = "max-age=31536000"
        await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem. A body that was not read is not waited for, and the connection closed."""
        body = msgspec.json.encode(problem.to_dict(self.id))
        response = Response(body, problem.status, problem.headers, MEDIA_TYPE)
        if self._body_is_read:
            await response(self.scope, self.receive, self.send)
            return
        headers = [*response.raw_headers, (b"connection", b"close")]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": True})
        await self._linger()
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _linger(self) -> None:
        """Read on for a little, and forget what comes."""
        read_bytes = 0
        with anyio.move_on_after(_LINGER_S):
            while not self._body_is_read and read_bytes < _LINGER_BYTES:
                read_bytes += len((await self.receive()).get("body", b""))
