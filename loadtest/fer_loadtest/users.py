"""Locust's users. Each waits for its answer before it asks again or, in an open load, is a stream of arrivals.

Arrivals of a stream come at random, however long answers take (a Poisson process), and their latency counts from when
they were meant to be sent. A user that waits for a slow server asks less often, and all that would have come meanwhile
is missing from its percentiles; arrivals are not missing.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, ClassVar, Final

from geventhttpclient.client import HTTPClientPool
from locust import FastHttpUser, User, task
from locust.env import Environment

from fer_client import Tls
from fer_loadtest.answers import OVERLOADED, UNREACHABLE
from fer_loadtest.options import Options
from fer_loadtest.pictures import Picture

if TYPE_CHECKING:
    from fer_loadtest.session import Session

_PAUSE_S: Final = 0.1
"""Of a user who was turned away or found nobody: as the client pauses before it tries again."""


class LoadUser(User):
    """What users of both protocols have in common."""

    abstract = True
    session: ClassVar[Session]
    protocol: ClassVar[str]

    def __init__(self, environment: Environment) -> None:
        """Begin with an arrival at a random moment, or at once."""
        super().__init__(environment)
        self._random = self.session.random
        self._rate = self.session.stream_rate
        self._due_s = self.session.clock() + (self._random.expovariate(self._rate) if self._rate else 0.0)
        self._pause_s = 0.0

    @task
    def load(self) -> None:
        """Send what is due."""
        if not self._rate:
            self._pause_s = self.session.options.think_s
            self.session.run(self._send, self.session.mix.draw())
            return
        while self._due_s <= self.session.clock():
            self.session.spawn(self.protocol, self.session.mix.draw(), self._due_s, self._send)
            self._due_s += self._random.expovariate(self._rate)

    def wait_time(self) -> float:
        """Seconds until there is something to do. Locust may end a user's life while it waits."""
        return max(0.0, self._due_s - self.session.clock()) if self._rate else self._pause_s

    def exchange(self, picture: Picture, intended_s: float) -> None:
        """Send a picture, wait for the answer, and tell session and Locust what came of it."""
        raise NotImplementedError

    def _send(self, intended_s: float, picture: Picture) -> None:
        late_ms = 1000 * (self.session.clock() - intended_s)
        self.session.recorder.sent(intended_s, self.protocol, picture.kind, late_ms)
        self.exchange(picture, intended_s)

    def _back_off(self, failure: str | None) -> None:
        if failure in (OVERLOADED, UNREACHABLE):
            self._pause_s = max(self._pause_s, _PAUSE_S)


class HttpLoadUser(LoadUser, FastHttpUser):
    """Sends over HTTP. All users of a process share a pool of connections, one for each request in flight."""

    protocol = "http"

    def exchange(self, picture: Picture, intended_s: float) -> None:
        """See `LoadUser`."""
        http = self.session.http
        assert http is not None  # noqa: S101 - users of a protocol live only where it is open
        request = http.request(picture)
        with self.client.post(
            request.path,
            data=request.body,  # type: ignore[arg-type]  # bytes are what it sends
            headers=request.headers,
            name=picture.kind,
            catch_response=True,
        ) as response:
            latency_ms, failure = self.session.judge(
                self.protocol, picture, intended_s, self.session.clock(), lambda: http.read(picture, response)
            )
            response.request_meta["response_time"] = latency_ms
            if failure is None:
                response.success()
            else:
                response.failure(failure)
        self._back_off(failure)


class GrpcLoadUser(LoadUser):
    """Sends over gRPC, all users of a process through one channel."""

    protocol = "grpc"

    def exchange(self, picture: Picture, intended_s: float) -> None:
        """See `LoadUser`."""
        grpc = self.session.grpc
        assert grpc is not None  # noqa: S101 - users of a protocol live only where it is open
        answer: Any = None
        problem: Exception | None = None
        try:
            answer = grpc.send(picture)
        except Exception as error:
            problem = error
        end_s = self.session.clock()

        def read() -> Any:
            if problem is not None:
                raise problem
            return grpc.read(picture, answer)

        latency_ms, failure = self.session.judge(self.protocol, picture, intended_s, end_s, read)
        self.environment.events.request.fire(
            request_type="gRPC",
            name=picture.kind,
            response_time=latency_ms,
            response_length=0 if answer is None else answer.ByteSize(),
            exception=None if failure is None else RuntimeError(failure),
            context={},
        )
        self._back_off(failure)


def classes_of(options: Options) -> list[type[User]]:
    """The kinds of users that the protocols ask for."""
    classes: dict[str, type[User]] = {"http": HttpLoadUser, "grpc": GrpcLoadUser}
    return [classes[protocol] for protocol in options.protocols]


def attach(session: Session) -> None:
    """Let all users of this process work for a session."""
    options = session.options
    LoadUser.session = session
    HttpLoadUser.host = options.url or "http://not-used"
    HttpLoadUser.network_timeout = HttpLoadUser.connection_timeout = options.timeout_s
    HttpLoadUser.insecure = False
    if "http" in options.connections:
        tls = options.connections["http"].tls

        def make_context(cafile: str | None = None) -> ssl.SSLContext:  # noqa: ARG001 - the pool's own idea of whom to trust
            return (tls or Tls()).ssl_context()

        HttpLoadUser.client_pool = HTTPClientPool(
            concurrency=options.max_in_flight,
            connection_timeout=options.timeout_s,
            network_timeout=options.timeout_s,
            ssl_context_factory=make_context,
        )
