"""Runs the application with uvicorn, and bounds what a connection may do before it is a request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from fer_commands.exit_codes import ExitCode
from fer_commands.running import CommandError
from fer_web.guards import MOST_HEAD_BYTES
from fer_web.settings import Limits

_MOST_CONNECTIONS: Final = 1024
_GRACE_S: Final = 15
"""How long requests may go on that are under way when the service is stopped."""


@dataclass(frozen=True)
class Listener:
    """How the service is reached."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes a free one."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    proxies: tuple[str, ...] = ()
    """Addresses of the proxies whose word on the client's address (X-Forwarded-For) is taken."""


def run(app: ASGIApp, listener: Listener, limits: Limits) -> None:
    """Serve until SIGINT or SIGTERM, and say where.

    Raises:
        CommandError: The address cannot be taken, or the TLS files are not good.
        KeyboardInterrupt: Told to stop; what was under way is answered.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("fer_web").setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = configure(app, listener, limits)
    with open_socket(listener) as opened:
        host, port = opened.getsockname()[:2]
        scheme = "http" if listener.tls_cert is None else "https"
        host = f"[{host}]" if ":" in host else host
        sys.stderr.write(f"fer-web: {scheme}://{host}:{port}/ is ready. Press Ctrl-C to stop.\n")
        uvicorn.Server(config).run(sockets=[opened])


def configure(app: ASGIApp, listener: Listener, limits: Limits) -> uvicorn.Config:
    """Return uvicorn's configuration, loaded.

    Raises:
        CommandError: The TLS files are not good.
    """
    config = uvicorn.Config(
        app,
        http=type("Connection", (BoundedConnection,), {"limits": limits}),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(listener.proxies),
        forwarded_allow_ips=list(listener.proxies),
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_S,
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
        ssl_certfile=listener.tls_cert,
        ssl_keyfile=listener.tls_key,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one.
        expected = f"expected a certificate and its key in PEM, found {listener.tls_cert} and {listener.tls_key}"
        raise CommandError(f"TLS: {expected} ({error.strerror or error})") from error
    return config


def open_socket(listener: Listener) -> socket.socket:
    """Listen. Raises CommandError where the address cannot be taken."""
    try:
        family = socket.getaddrinfo(listener.host, listener.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((listener.host, listener.port), family=family, backlog=1024)
    except OSError as error:
        message = f"cannot listen on {listener.host} port {listener.port}: {error.strerror or error}"
        raise CommandError(f"{message}; choose another one with --host and --port", ExitCode.FAILED) from error


class BoundedConnection(H11Protocol):
    """A connection that is closed where the head of a request, or taking an answer, takes too long.

    uvicorn 0.54 waits for both for ever.
    """

    limits = Limits()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Wait for no head yet."""
        super().__init__(*arguments, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Wait for the first head."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Wait for a head where one has begun, and no longer where it is there."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._await_head()
        else:
            self._stop_waiting()

    def pause_writing(self) -> None:
        """Wait for the client to take what it was sent."""
        super().pause_writing()
        self._answer_timer = self.loop.call_later(self.limits.send_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Wait no longer."""
        if self._answer_timer is not None:
            self._answer_timer.cancel()
        super().resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        if self._answer_timer is not None:
            self._answer_timer.cancel()
        super().connection_lost(error)

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.header_timeout_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        with contextlib.suppress(h11.LocalProtocolError):
            self.send_400_response("The head of the request did not arrive in time.")
        self.transport.close()
