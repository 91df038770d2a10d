"""Clients that are too many, that go away, or that take for ever: others are served, and nothing stays behind."""

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil
import pytest
from bad_files import photo_as_jpeg
from machine_pace import slowness
from raw_requests import (
    PATIENCE_S,
    Answer,
    ask_grpc,
    ask_http,
    grpc_message,
    infer_request,
    open_channel,
    read_http_answer,
)
from steady_load import SteadyLoad
from tritonclient.grpc import service_pb2_grpc

from fer_contract import BOXES
from fer_serve.server import EmbeddedTriton

CLIENTS = 200
DISCONNECTS = 200
SLOW_BODIES = 50
QUEUE_LIMIT_S = 10.0
"""How long fer_preprocess lets a request wait."""
GROWTH_BYTES = 16 << 20
GROWTH_DESCRIPTORS = 4


@pytest.fixture(scope="module")
def photo(astronaut) -> bytes:
    return photo_as_jpeg(astronaut)


def is_good(answer: Answer) -> bool:
    return answer.arrays is not None and answer.arrays[BOXES].shape == (1, 4)


@dataclass(frozen=True)
class Holdings:
    """What a server holds."""

    descriptors: int
    memory_bytes: int
    """Shared memory included."""


def holdings(server: EmbeddedTriton) -> Holdings:
    children = psutil.Process().children(recursive=True)
    processes = [
        p for p in children if "triton" in p.name() and str(server.ports.http) in " ".join(p.parent().cmdline())
    ]
    return Holdings(sum(p.num_fds() for p in processes), server.memory_bytes())


def assert_nothing_leaked(server: EmbeddedTriton, before: Holdings) -> None:
    """Waits a moment for the server to notice that clients have gone."""
    deadline = time.monotonic() + 10
    while (after := holdings(server)).descriptors > before.descriptors + GROWTH_DESCRIPTORS:
        assert time.monotonic() < deadline, (before, after)
        time.sleep(0.2)
    assert after.memory_bytes - before.memory_bytes < GROWTH_BYTES


def test_200_clients_at_once_are_answered_or_told_that_it_is_too_busy(server, photo):
    pace = slowness()
    request, message = infer_request(photo), grpc_message(photo)
    together = threading.Barrier(CLIENTS)
    with open_channel(server.grpc_url) as channel, ThreadPoolExecutor(CLIENTS) as pool:

        def ask(index: int) -> tuple[Answer, float]:
            together.wait()
            begun = time.monotonic()
            answer = ask_http(server.http_url, request) if index % 2 else ask_grpc(channel, message)
            return answer, time.monotonic() - begun

        answers = list(pool.map(ask, range(CLIENTS)))
        statuses = Counter(answer.status for answer, _ in answers)
        assert set(statuses) == {200, 503, "OK", "UNAVAILABLE"}, statuses
        assert all(is_good(answer) for answer, _ in answers if answer.status in (200, "OK"))
        refusals = {answer.message for answer, _ in answers if answer.arrays is None}
        assert all("Exceeds maximum queue size" in message or "timed out in queue" in message for message in refusals)
        assert max(seconds for _, seconds in answers) < (QUEUE_LIMIT_S + 2) * pace
        # And when they have gone, everything is as before.
        assert all(is_good(ask_http(server.http_url, request)) for _ in range(8))
        assert all(is_good(ask_grpc(channel, message)) for _ in range(8))


def test_200_clients_that_leave_in_the_middle_leave_nothing_behind(server, photo):
    leave(server, photo, DISCONNECTS // 2)  # warm-up
    before = holdings(server)
    with SteadyLoad(server.http_url, server.grpc_url, photo, clients=1) as load:
        load.wait_for_good(4)
        leave(server, photo, DISCONNECTS)
    assert len(load.sent) > 8
    assert all(sent.is_good for sent in load.sent)
    assert_nothing_leaked(server, before)


def leave(server: EmbeddedTriton, photo: bytes, count: int) -> None:
    """Clients that begin a request and go, in four ways in turn, and one between them that stays and is served."""
    request, message = infer_request(photo), grpc_message(photo)
    with open_channel(server.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        def cancel_call() -> None:
            call = stub.ModelInfer.future(message)
            time.sleep(0.005)
            call.cancel()

        ways: list[Callable[[], object]] = [
            lambda: send_and_go(server, request[: len(request) // 2]),
            lambda: send_and_go(server, request[: len(request) // 2], abruptly=True),
            lambda: send_and_go(server, request),
            cancel_call,
        ]
        for index in range(count):
            ways[index % len(ways)]()
            assert is_good(ask_grpc(channel, message))


def send_and_go(server: EmbeddedTriton, data: bytes, *, abruptly: bool = False) -> None:
    with socket.create_connection(("127.0.0.1", server.ports.http), PATIENCE_S) as connection:
        connection.sendall(data)
        if abruptly:  # a reset instead of an orderly end
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_50_slow_bodies_keep_nobody_waiting(server, photo):
    before = holdings(server)
    request = infer_request(photo)
    start = request.index(b"\r\n\r\n") + 100
    pace = slowness()
    slow = [socket.create_connection(("127.0.0.1", server.ports.http), PATIENCE_S) for _ in range(SLOW_BODIES)]
    try:
        with SteadyLoad(server.http_url, server.grpc_url, photo, clients=1) as load:
            for piece in (request[:start], *(request[start + i : start + i + 1] for i in range(40))):  # two seconds
                for connection in slow:
                    connection.sendall(piece)
                time.sleep(0.05)
            load.wait_for_good(4)
        for connection in slow[::2]:  # half of them come to their end
            connection.sendall(request[start + 40 :])
        answers = [read_http_answer(connection) for connection in slow[::2]]
    finally:
        for connection in slow:
            connection.close()
    assert {answer.status for answer in answers} <= {200, 503}
    assert is_good(answers[0])
    assert all(sent.is_good for sent in load.sent)
    assert max(sent.ended - sent.begun for sent in load.sent) < 2 * pace
    assert_nothing_leaked(server, before)
