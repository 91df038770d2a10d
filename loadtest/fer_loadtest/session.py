"""What one process of a load test sends, and how it counts what comes back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.pool

from fer_loadtest.answers import TIMEOUT, check_tensors, is_expected_refusal, kind_of
from fer_loadtest.generator import watch
from fer_loadtest.learning import Lesson
from fer_loadtest.levels import stream_rate
from fer_loadtest.options import Options
from fer_loadtest.pictures import DEFAULT_MIX, Mix, Picture
from fer_loadtest.recorder import NOT_SENT, Recorder
from fer_loadtest.transports import GrpcRequests, HttpRequests


class Session:
    """What one process does in a test. Its parts are there once the test is prepared.

    Attributes:
        options: Of the test.
        lesson: Server and pictures.
        random: For all choices of this process.
        mix: Draws pictures.
        recorder: Counts; in a master, for all workers.
        http: Requests over HTTP, where they are sent.
        grpc: The same over gRPC.
        stream_rate: Arrivals per second of each user, 0 for users who wait.
    """

    def __init__(self, options: Options, lesson: Lesson, process: str, index: int = 0) -> None:
        """Prepare a process of a test, the `index`-th of its workers."""
        self.options = options
        self.lesson = lesson
        self.recorder = Recorder(process)
        self.stream_rate = stream_rate(options)
        shares = options.mix or (None if options.pictures else DEFAULT_MIX)
        self.random = random.Random(f"{options.seed}/{index}")  # Workers do not all do the same.
        self.mix = Mix(lesson.pictures, shares, self.random)
        self.http: HttpRequests | None = None
        self.grpc: GrpcRequests | None = None
        self._in_flight = gevent.pool.Group()
        self._clock_offset_s = time.time() - time.perf_counter()

    def open(self) -> None:
        """Get ready to send."""
        for protocol, settings in self.options.connections.items():
            if protocol == "grpc":
                self.grpc = GrpcRequests(settings, self.lesson.served, self.lesson.pictures)
            else:
                self.http = HttpRequests(settings, self.lesson.served, self.lesson.pictures)
        gevent.spawn(watch, self.recorder, self.clock, self.in_flight, gevent.sleep)

    def clock(self) -> float:
        """Seconds since 1970, without the jumps of a clock that is set meanwhile."""
        return self._clock_offset_s + time.perf_counter()

    def in_flight(self) -> int:
        """Requests of this process without an answer."""
        return len(self._in_flight)

    def spawn(self, protocol: str, picture: Picture, intended_s: float, send: Callable[[float, Picture], None]) -> None:
        """Send a request without waiting for its answer, unless far too many are waited for already."""
        if len(self._in_flight) < self.options.max_in_flight:
            self._in_flight.spawn(send, intended_s, picture)
            return
        self.recorder.sent(intended_s, protocol, picture.kind, 0.0)
        message = f"more than --max-in-flight {self.options.max_in_flight} requests had no answer yet"
        self.recorder.failed(intended_s, self.clock(), protocol, picture.kind, NOT_SENT, message)

    def run(self, send: Callable[[float, Picture], None], picture: Picture) -> None:
        """Send a request and wait for its answer. Not even the end of the user's life breaks it off."""
        self._in_flight.spawn(send, self.clock(), picture).join()

    def wait_for_answers(self) -> None:
        """Until there are none to come, or none can."""
        self._in_flight.join(timeout=self.options.timeout_s + 1)

    def judge(
        self, protocol: str, picture: Picture, intended_s: float, end_s: float, read: Callable[[], Any]
    ) -> tuple[float, str | None]:
        """Count an answer.

        Args:
            protocol: It came over.
            picture: That was sent.
            intended_s: When it was meant to be.
            end_s: When the answer was there.
            read: Decodes it, or raises what came instead.

        Returns:
            Latency in ms from when it was meant to be sent, and the kind of failure, or None.
        """
        expected = self.lesson.expected[picture.name]
        latency_ms = 1000 * (end_s - intended_s)
        url = self.options.connections["grpc" if protocol == "grpc" else "http"].endpoint.url
        try:
            faces = check_tensors(read(), expected, self.lesson.served, url)
        except Exception as error:  # What is no FerClientError is a defect of ours: counted, and named.
            if not is_expected_refusal(error, expected):
                kind, message = kind_of(error), f"{picture.name}: {error}"
                in_vain = kind == TIMEOUT
                self.recorder.failed(intended_s, end_s, protocol, picture.kind, kind, message, in_vain=in_vain)
                return latency_ms, kind
            faces = 0
        self.recorder.answered(intended_s, end_s, protocol, picture.kind, faces)
        return latency_ms, None
