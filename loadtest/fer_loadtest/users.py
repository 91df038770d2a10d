"""Locust's users, and what those of one process share.

A user either waits for the answer before it asks again or, in an open load, is a stream of arrivals. Arrivals come at
random moments, however long answers take, and their latency counts from when they were meant to be sent. A user who
waits for a slow server asks less often, and whatever would have come meanwhile is missing from the percentiles.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable
from typing import Any, ClassVar, Final

import gevent
import gevent.pool
from geventhttpclient.client import HTTPClientPool
from locust import FastHttpUser, User, task
from locust.env import Environment

from fer_client import Tls
from fer_loadtest.baseline import Baseline
from fer_loadtest.checks import (
    NOT_SENT,
    OVERLOADED,
    TIMEOUT,
    UNREACHABLE,
    check_tensors,
    is_expected_refusal,
    kind_of,
)
from fer_loadtest.course import arrivals, stream_rate
from fer_loadtest.generator import watch
from fer_loadtest.options import Options
from fer_loadtest.pictures import DEFAULT_MIX, Mix, Picture
from fer_loadtest.recorder import Recorder
from fer_loadtest.transports import GrpcRequests, HttpRequests, Protocol

_PAUSE_S: Final = 0.1
"""Pause of a user who was turned away or found no server, as long as that of the client before it tries again."""


class Session:
    """What the users of one process share in a test.

    Attributes:
        options: Options of the test.
        baseline: What is known of server and pictures.
        random: Source of all choices of this process.
        mix: Draws pictures.
        recorder: Counts of this process; in a master, of all workers.
        http: Requests over HTTP; None where they are not sent.
        grpc: Requests over gRPC; None where they are not sent.
        stream_rate: Arrivals per second of each user; 0 for users who wait.
    """

    def __init__(self, options: Options, baseline: Baseline, process: str, index: int = 0) -> None:
        """Prepare a process of a test, the `index`-th of its workers."""
        self.options = options
        self.baseline = baseline
        self.recorder = Recorder(process)
        self.stream_rate = stream_rate(options.shape, options.rates)
        shares = options.mix or (None if options.pictures else DEFAULT_MIX)
        self.random = random.Random(f"{options.seed}/{index}")  # Workers do not all do the same.
        self.mix = Mix(baseline.pictures, shares, self.random)
        self.http: HttpRequests | None = None
        self.grpc: GrpcRequests | None = None
        self._in_flight = gevent.pool.Group()
        self._clock_offset_s = time.time() - time.perf_counter()

    def open(self) -> None:
        """Get ready to send."""
        for protocol, settings in self.options.connections.items():
            if protocol == "grpc":
                self.grpc = GrpcRequests(settings, self.baseline.served, self.baseline.pictures)
            else:
                self.http = HttpRequests(settings, self.baseline.served, self.baseline.pictures)
        gevent.spawn(watch, self.recorder, self.clock, self.in_flight, gevent.sleep)

    def clock(self) -> float:
        """Return seconds since 1970, without the jumps of a clock that is set meanwhile."""
        return self._clock_offset_s + time.perf_counter()

    def in_flight(self) -> int:
        """Return the number of requests of this process without an answer."""
        return len(self._in_flight)

    def spawn(self, protocol: str, picture: Picture, intended_s: float, send: Callable[[float, Picture], None]) -> None:
        """Send a request without waiting for its answer, unless too many are waited for already."""
        if len(self._in_flight) < self.options.max_in_flight:
            self._in_flight.spawn(send, intended_s, picture)
            return
        self.recorder.sent(intended_s, protocol, picture.kind, 0.0)
        message = f"more than --max-in-flight {self.options.max_in_flight} requests had no answer yet"
        self.recorder.failed(intended_s, self.clock(), protocol, picture.kind, NOT_SENT, message)

    def run(self, send: Callable[[float, Picture], None], picture: Picture) -> None:
        """Send a request and wait for its answer, even if the user's life ends meanwhile."""
        self._in_flight.spawn(send, self.clock(), picture).join()

    def wait_for_answers(self) -> None:
        """Wait until every request has an answer, or none can come any more."""
        self._in_flight.join(timeout=self.options.timeout_s + 1)

    def judge(
        self, protocol: Protocol, picture: Picture, intended_s: float, end_s: float, read: Callable[[], Any]
    ) -> tuple[float, str | None]:
        """Count an answer.

        Args:
            protocol: Protocol of the request.
            picture: Picture that was sent.
            intended_s: Moment at which it was meant to be sent, in seconds since 1970.
            end_s: Moment at which the answer was there, in seconds since 1970.
            read: Decodes the answer, or raises what came instead.

        Returns:
            Latency in ms from the intended moment, and the kind of failure or None.
        """
        expected = self.baseline.expected[picture.name]
        latency_ms = 1000 * (end_s - intended_s)
        url = self.options.connections[protocol].endpoint.url
        try:
            faces = check_tensors(read(), expected, self.baseline.served, url)
        except Exception as error:  # Anything but a FerClientError is a defect of the load test: counted, and named.
            if not is_expected_refusal(error, expected):
                kind, message = kind_of(error), f"{picture.name}: {error}"
                in_vain = kind == TIMEOUT
                self.recorder.failed(intended_s, end_s, protocol, picture.kind, kind, message, in_vain=in_vain)
                return latency_ms, kind
            faces = 0
        self.recorder.answered(intended_s, end_s, protocol, picture.kind, faces)
        return latency_ms, None


class LoadUser(User):
    """What users of both protocols have in common."""

    abstract = True
    session: ClassVar[Session]
    protocol: ClassVar[Protocol]

    def __init__(self, environment: Environment) -> None:
        """Begin a stream of arrivals, or ask at once."""
        super().__init__(environment)
        session, rate = self.session, self.session.stream_rate
        self._arrivals = arrivals(rate, session.clock(), session.random) if rate else None
        self._due_s = next(self._arrivals) if self._arrivals else 0.0
        self._pause_s = 0.0

    @task
    def load(self) -> None:
        """Send what is due."""
        if self._arrivals is None:
            self._pause_s = self.session.options.think_s
            self.session.run(self._send, self.session.mix.draw())
            return
        while self._due_s <= self.session.clock():
            self.session.spawn(self.protocol, self.session.mix.draw(), self._due_s, self._send)
            self._due_s = next(self._arrivals)

    def wait_time(self) -> float:
        """Return the seconds until there is something to do. Locust may end a user's life while it waits."""
        return self._pause_s if self._arrivals is None else max(0.0, self._due_s - self.session.clock())

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
    """A user over HTTP. All users of a process share a pool of connections, one for each request in flight."""

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
    """A user over gRPC. All users of a process share one channel."""

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
    """Return the classes of users that the protocols ask for."""
    classes: dict[str, type[User]] = {"http": HttpLoadUser, "grpc": GrpcLoadUser}
    return [classes[protocol] for protocol in options.protocols]


def attach_users(session: Session) -> None:
    """Let all users of this process work for a session."""
    options = session.options
    LoadUser.session = session
    HttpLoadUser.host = options.url or "http://not-used"
    HttpLoadUser.network_timeout = HttpLoadUser.connection_timeout = options.timeout_s
    HttpLoadUser.insecure = False
    if "http" in options.connections:
        tls = options.connections["http"].tls

        def make_context(cafile: str | None = None) -> ssl.SSLContext:  # noqa: ARG001 - the pool's own authorities
            return (tls or Tls()).ssl_context()

        HttpLoadUser.client_pool = HTTPClientPool(
            concurrency=options.max_in_flight,
            connection_timeout=options.timeout_s,
            network_timeout=options.timeout_s,
            ssl_context_factory=make_context,
        )
