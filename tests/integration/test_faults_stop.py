"""SIGTERM under load: what was accepted is answered, nothing hangs, and clients' open connections do not delay it."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from bad_files import photo_as_jpeg
from machine_pace import slowness
from raw_requests import CLOSED, PATIENCE_S, Answer, http_request, infer_request, read_http_answer
from running_serve import serving
from steady_load import REFUSED, KeptConnection, SteadyLoad

EXIT_TIMEOUT_S = 10
SOON_S = 5.0
"""A stop that nothing delays takes two to three seconds on a quiet machine: Triton looks once a second."""


@dataclass(frozen=True)
class Stop:
    """What happened when a loaded `fer-serve` was told to stop."""

    status: int
    told: float
    ended: float
    pace: float
    load: SteadyLoad
    upload: Answer


@pytest.fixture(scope="module")
def stop(repository, astronaut) -> Iterator[Stop]:
    photo = photo_as_jpeg(astronaut)
    pace = slowness()
    idle = []
    with serving(repository, exit_timeout_s=EXIT_TIMEOUT_S) as serve:
        for _ in range(5):
            idle.append(KeptConnection(serve.http_url))
            idle[-1].ask(http_request(b"", "/v2/health/ready", "GET"))
        with SteadyLoad(serve.http_url, serve.grpc_url, photo, clients=4) as load:
            load.wait_for_good(20)
            upload = SlowUpload(serve.http_url, infer_request(photo), seconds=1.0)
            time.sleep(0.3)
            told = time.monotonic()
            status = serve.stop(signal.SIGTERM)
            ended = time.monotonic()
        answer = upload.answer()
    for connection in idle:
        connection.close()
    return Stop(status, told, ended, max(pace, slowness()), load, answer)


class SlowUpload:
    """A request that takes its time to arrive."""

    _PIECES = 20

    def __init__(self, url: str, request: bytes, seconds: float) -> None:
        host, _, port = url.partition(":")
        self._socket = socket.create_connection((host, int(port)), PATIENCE_S)
        size = -(-len(request) // self._PIECES)
        self._pieces = [request[start : start + size] for start in range(0, len(request), size)]
        self._pause_s = seconds / self._PIECES
        self._answer = Answer("none")
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        with self._socket:
            for piece in self._pieces:
                self._socket.sendall(piece)
                time.sleep(self._pause_s)
            self._answer = read_http_answer(self._socket)

    def answer(self) -> Answer:
        self._thread.join()
        return self._answer


def test_it_ends_well_within_its_time(stop):
    assert stop.status == 0
    assert stop.ended - stop.told < EXIT_TIMEOUT_S


def test_open_connections_do_not_stretch_it_to_its_full_time(stop):
    """Idle ones and busy ones: Triton by itself would wait for the clients to close them."""
    assert stop.ended - stop.told < SOON_S * stop.pace


def test_every_request_that_was_under_way_is_answered(stop):
    under_way = [sent for sent in stop.load.sent if sent.begun < stop.told < sent.ended]
    assert len(under_way) >= 6  # of eight clients
    assert all(sent.is_good for sent in under_way)


def test_later_requests_are_answered_or_told_to_go_elsewhere(stop):
    """Over gRPC Triton denies for a moment to know its models, while it unloads them."""
    fitting = {"http": {REFUSED, CLOSED}, "grpc": {"UNAVAILABLE", "NOT_FOUND"}}
    later = [sent for sent in stop.load.sent if sent.begun >= stop.told and not sent.is_good]
    assert later
    assert all(sent.answer.status in fitting[sent.protocol] for sent in later)


def test_no_request_hangs(stop):
    assert max(sent.ended - sent.begun for sent in stop.load.sent) < EXIT_TIMEOUT_S


def test_an_upload_that_goes_on_is_waited_for(stop):
    assert stop.upload.status == 200


def test_readiness_ends_at_once(stop):
    """On kept connections too, on which Triton by itself would go on answering 200."""
    last = max(asked for asked, _, status in stop.load.readiness if status == 200)
    assert last - stop.told < 0.5 * stop.pace
