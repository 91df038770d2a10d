"""Triton's HTTP protocol: tritonclient writes and reads the bodies, the standard library's connections carry them.

tritonclient's own HTTP client runs on gevent, which ties each client to the thread that made it and leaves two file
descriptors behind for every thread that ends (tritonclient 2.73, gevent 26.9: 200 after 100 threads). Plain
connections know no threads: whoever needs one takes an idle one and gives it back.
"""

from __future__ import annotations

import http.client
import json
import selectors
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import tritonclient.http

from fer_client._endpoint import Endpoint
from fer_client._errors import (
    ContractError,
    FerClientError,
    ImageRefusedError,
    RequestTimeoutError,
    ServerError,
    ServerOverloadedError,
    ServerUnreachableError,
)
from fer_client._transport import Transport

_HEADER_LENGTH: Final = "Inference-Header-Content-Length"
"""Where the JSON of a body ends and the tensors begin, in bytes."""

_ERRORS: Final[Mapping[int, type[FerClientError]]] = {
    HTTPStatus.BAD_REQUEST: ImageRefusedError,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ImageRefusedError,
    HTTPStatus.NOT_FOUND: ContractError,
    HTTPStatus.TOO_MANY_REQUESTS: ServerOverloadedError,
    HTTPStatus.SERVICE_UNAVAILABLE: ServerOverloadedError,
}


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    header_length: str | None
    """As the server wrote it: what answers may be anything."""

    @property
    def error_message(self) -> str:
        """Triton's sentence, or the status where something else than Triton answered."""
        try:
            return str(json.loads(self.body)["error"])
        except (ValueError, KeyError, TypeError):
            return f"HTTP status {self.status}"


class HttpTransport(Transport):
    """Reaches a server over HTTP/1.1 with connections that are kept open between requests."""

    _triton = tritonclient.http

    def __init__(self, endpoint: Endpoint, timeout_s: float) -> None:
        """Prepare to talk to the server; nothing is sent yet."""
        super().__init__(endpoint, timeout_s)
        # Taken and given back by list.pop and list.append, which are atomic. The last one in is the first one out,
        # so that after a burst the connections not needed any more stay idle at the bottom.
        self._idle: list[http.client.HTTPConnection] = []
        self._closed = False

    def _infer(self, model: str, inputs: list[Any], outputs: list[Any]) -> Any:
        client = tritonclient.http.InferenceServerClient
        body, header_length = client.generate_request_body(inputs, outputs=outputs)
        answer = self._ask("POST", f"/v2/models/{model}/infer", body, {_HEADER_LENGTH: str(header_length)})
        with self._reading():
            json_length = None if answer.header_length is None else int(answer.header_length)
            return client.parse_response_body(answer.body, header_length=json_length)

    def model_config(self, model: str) -> Mapping[str, Any]:
        """See Transport."""
        answer = self._ask("GET", f"/v2/models/{model}/config")
        try:
            config = json.loads(answer.body)
        except ValueError:
            config = None
        if not isinstance(config, dict):
            raise ContractError(self.endpoint.url, "its answer is no model configuration, so it is no Triton server")
        return config

    def is_ready(self, model: str) -> bool:
        """See Transport."""
        paths = ("/v2/health/ready", f"/v2/models/{model}/ready")
        return all(self._exchange("GET", path).status == HTTPStatus.OK for path in paths)

    def close(self) -> None:
        """Close the idle connections; one in use is closed when its answer has come."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> _Answer:
        """Exchange one request for a good answer, or raise what the answer says instead."""
        answer = self._exchange(method, path, body, headers)
        if answer.status != HTTPStatus.OK:
            raise _ERRORS.get(answer.status, ServerError)(self.endpoint.url, answer.error_message)
        return answer

    def _exchange(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> _Answer:
        """Send one request and read its answer, whatever its status."""
        url = self.endpoint.url
        try:
            with self._connection() as connection:
                connection.request(method, path, body, dict(headers or {}))
                response = connection.getresponse()
                return _Answer(response.status, response.read(), response.getheader(_HEADER_LENGTH))
        except TimeoutError as error:
            raise RequestTimeoutError(url, f"{self.timeout_s:g} s") from error
        except (OSError, http.client.IncompleteRead, UnicodeError) as error:  # UnicodeError: a host such as `a..b`.
            raise ServerUnreachableError(url, str(error)) from error
        except http.client.HTTPException as error:
            raise ServerUnreachableError(url, "what answers there does not speak HTTP") from error

    @contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        """A connection for one exchange, kept open for the next one unless something goes wrong."""
        connection = self._take_idle() or self._connect()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        if self._closed:
            self.close()

    def _connect(self) -> http.client.HTTPConnection:
        """A new connection, opened before anything is asked: only then is a timeout known to be no server's slowness.

        Raises:
            ServerUnreachableError: Nothing takes the connection in time.
            OSError: It is refused, or the host is unknown.
        """
        connection = http.client.HTTPConnection(self.endpoint.host, self.endpoint.port, timeout=self.timeout_s)
        try:
            connection.connect()
        except TimeoutError as error:
            reason = f"no connection within {self.timeout_s:g} s"
            raise ServerUnreachableError(self.endpoint.url, reason) from error
        return connection

    def _take_idle(self) -> http.client.HTTPConnection | None:
        """An idle connection that the server has not closed meanwhile, or None."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.sock is not None and not _is_readable(connection.sock):
                return connection
            connection.close()


def _is_readable(sock: socket.socket) -> bool:
    """Whether something waits to be read. Between two exchanges that is the end of the stream: the server closed it."""
    with selectors.DefaultSelector() as selector:  # select.select fails on descriptors from 1024 on.
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(timeout=0))
