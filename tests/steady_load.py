"""Clients that send a good request after the other over both protocols, and someone who keeps asking for readiness."""

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from raw_requests import (
    CLOSED,
    PATIENCE_S,
    Answer,
    ask_grpc,
    grpc_message,
    http_request,
    infer_request,
    open_channel,
    read_http_answer,
)

from fer_contract import BOXES

_PAUSE_S = 0.02
REFUSED = "refused"
"""The status of a request that found nobody to connect to."""


@dataclass(frozen=True)
class Sent:
    """One request: when it was begun and ended (`time.monotonic`), and what it got."""

    protocol: str
    begun: float
    ended: float
    answer: Answer

    @property
    def is_good(self) -> bool:
        """Whether it was answered with one face, as it should be."""
        return self.answer.arrays is not None and self.answer.arrays[BOXES].shape == (1, 4)


class SteadyLoad:
    """`clients` of each protocol, each with one connection that it keeps, for as long as a `with` block lasts."""

    def __init__(self, http_url: str, grpc_url: str, image: bytes, clients: int = 3) -> None:
        self.sent: list[Sent] = []
        self.readiness: list[tuple[float, str, int | str]] = []
        """When, on a new or a kept connection, and the status that /v2/health/ready had."""
        self._done = threading.Event()
        self._channel = open_channel(grpc_url)
        message, request = grpc_message(image), infer_request(image)
        ready = http_request(b"", "/v2/health/ready", "GET")
        self._kept = [KeptConnection(http_url) for _ in range(clients + 1)]
        watcher, *others = self._kept
        tasks: list[Callable[[], None]] = [
            lambda: self._look("kept", lambda: watcher.ask(ready)),
            lambda: self._look("new", lambda: ask_once(http_url, ready)),
            *(lambda other=other: self._send("http", lambda: other.ask(request)) for other in others),
            *[lambda: self._send("grpc", lambda: ask_grpc(self._channel, message))] * clients,
        ]
        self._threads = [threading.Thread(target=self._repeat, args=[task]) for task in tasks]

    def __enter__(self) -> "SteadyLoad":
        """Begins."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Waits for the last answers."""
        self._done.set()
        for thread in self._threads:
            thread.join()
        self._channel.close()
        for connection in self._kept:
            connection.close()

    def wait_for_good(self, count: int) -> None:
        """Until so many more requests have been begun and answered well."""
        since = time.monotonic()
        while sum(sent.is_good and sent.begun > since for sent in list(self.sent)) < count:
            assert time.monotonic() - since < PATIENCE_S * 2, "no good answers"
            time.sleep(_PAUSE_S)

    def _send(self, protocol: str, ask: Callable[[], Answer]) -> None:
        begun = time.monotonic()
        answer = ask()
        self.sent.append(Sent(protocol, begun, time.monotonic(), answer))
        if answer.arrays is None:
            time.sleep(_PAUSE_S)

    def _look(self, connection: str, ask: Callable[[], Answer]) -> None:
        asked = time.monotonic()
        self.readiness.append((asked, connection, ask().status))
        time.sleep(_PAUSE_S)

    def _repeat(self, task: Callable[[], None]) -> None:
        while not self._done.is_set():
            task()


class KeptConnection:
    """An HTTP connection that is opened when it is needed, and kept for as long as the server keeps it."""

    def __init__(self, url: str) -> None:
        host, _, port = url.partition(":")
        self._address = (host, int(port))
        self._socket: socket.socket | None = None

    def ask(self, request: bytes) -> Answer:
        """Sends a request and reads the answer."""
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._address, PATIENCE_S)
            self._socket.sendall(request)
        except ConnectionRefusedError:
            return Answer(REFUSED)
        except OSError:
            self.close()
            return Answer(CLOSED)
        answer = read_http_answer(self._socket)
        if answer.status == CLOSED:
            self.close()
        return answer

    def close(self) -> None:
        """Does nothing if it is closed."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def ask_once(url: str, request: bytes) -> Answer:
    """Like `KeptConnection.ask`, on a connection for this request alone."""
    connection = KeptConnection(url)
    try:
        return connection.ask(request)
    finally:
        connection.close()
