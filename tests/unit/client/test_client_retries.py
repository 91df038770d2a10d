"""What is tried again, when, and for how long: real sockets, both clients, both protocols."""

import itertools
import socket
import statistics
import threading
import time

import pytest

from fer_client import (
    AuthenticationError,
    ContractError,
    FerClient,
    ImageRefusedError,
    RequestTimeoutError,
    ServerError,
    ServerOverloadedError,
    ServerUnreachableError,
)
from fer_client._base_client import Core
from fer_client._config import Settings, parse_endpoint
from fer_client._retries import pause_before
from fer_client.protocol import ServerLive


def test_a_server_that_is_overloaded_twice_is_asked_a_third_time(connect, fake_triton, url):
    fake_triton.hiccups = ["overloaded", "overloaded"]
    with connect(url) as client:
        assert len(client.predict(b"photo").faces) == 1
    assert fake_triton.asked["infer"] == 3


def test_retries_are_as_many_as_told_and_then_the_error_comes(connect, fake_triton, url):
    fake_triton.refusals["infer"] = ("overloaded", "Exceeds maximum queue size")
    with connect(url, retries=2) as client, pytest.raises(ServerOverloadedError, match="maximum queue size") as caught:
        client.predict(b"photo")
    assert fake_triton.asked["infer"] == 3
    assert caught.value.is_temporary


def test_no_retries_is_one_try(connect, fake_triton, url):
    fake_triton.refusals["infer"] = ("overloaded", "full")
    with connect(url, retries=0) as client, pytest.raises(ServerOverloadedError):
        client.predict(b"photo")
    assert fake_triton.asked["infer"] == 1


@pytest.mark.parametrize(
    ("kind", "error_class"),
    [
        ("invalid", ImageRefusedError),
        ("unauthenticated", AuthenticationError),
        ("forbidden", AuthenticationError),
        ("missing", ContractError),
        ("throttled", (ServerOverloadedError, ImageRefusedError)),  # HTTP 429; gRPC's twin of it speaks of sizes.
        ("failed", ServerError),
    ],
)
def test_what_would_fail_again_is_not_tried_again(connect, fake_triton, url, kind, error_class):
    fake_triton.refusals["infer"] = (kind, "as told")
    with connect(url) as client, pytest.raises(error_class, match="as told") as caught:
        client.predict(b"photo")
    assert fake_triton.asked["infer"] == 1
    assert not caught.value.is_temporary


def test_a_timeout_is_not_tried_again(connect, fake_triton, url):
    with connect(url, timeout_s=0.3) as client:
        assert client.labels
        fake_triton.delay_s = 0.6
        with pytest.raises(RequestTimeoutError):
            client.predict(b"photo")
    assert fake_triton.asked["infer"] == 1


def test_a_dropped_connection_is_made_anew(connect, fake_triton, relay, relay_url):
    with connect(relay_url) as client:
        client.predict(b"first")
        relay.cuts = 1
        assert len(client.predict(b"second").faces) == 1
    assert relay.connections == 2
    assert fake_triton.images == [b"first", b"second"]


def test_a_connection_that_is_always_dropped_is_given_up(connect, relay, relay_url):
    with connect(relay_url, retries=2) as client:
        assert client.labels
        relay.cuts = 1000
        with pytest.raises(ServerUnreachableError, match=f"no server answers at {relay_url}") as caught:
            client.predict(b"photo")
        assert caught.value.is_temporary


def test_a_server_that_starts_meanwhile_is_reached(connect, fake_triton, relay, relay_url):
    """As during a restart: the port is closed at first."""
    port = relay.port
    relay.shutdown()
    relay.server_close()

    def start_later():
        time.sleep(0.5)
        relay.socket = socket.socket()
        relay.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        relay.socket.bind(("127.0.0.1", port))
        relay.server_activate()
        relay.serve_forever(poll_interval=0.02)

    threading.Thread(target=start_later, daemon=True).start()
    with connect(relay_url, retries=20, deadline_s=20) as client:
        assert len(client.predict(b"photo").faces) == 1
    assert fake_triton.asked["infer"] == 1


def test_the_deadline_is_over_all_tries(connect, fake_triton, url):
    fake_triton.refusals["infer"] = ("overloaded", "full")
    start_s = time.monotonic()
    with connect(url, retries=1000, deadline_s=0.6) as client, pytest.raises(ServerOverloadedError):
        client.predict(b"photo")
    assert time.monotonic() - start_s < 2
    assert fake_triton.asked["infer"] > 1


def begin_a_call_with_little_time_left(url):
    """The steps of a call whose first try met a full server, at the second try, which the deadline cuts short."""
    steps = Core(Settings(parse_endpoint(url), timeout_s=30, deadline_s=20, retries=1)).served()
    assert next(steps).timeout_s <= 20
    steps.throw(ServerOverloadedError(url, "full", is_temporary=True))
    next(steps)
    return steps


def test_a_try_that_the_deadline_cuts_short_does_not_hide_why_those_before_failed():
    steps = begin_a_call_with_little_time_left("http://127.0.0.1:1")
    with pytest.raises(ServerOverloadedError, match="full"):
        steps.throw(RequestTimeoutError("", "20 s"))


def test_a_server_that_has_too_little_time_to_say_that_it_lives_is_not_called_gone():
    steps = begin_a_call_with_little_time_left("grpc://127.0.0.1:1")
    assert steps.throw(RequestTimeoutError("", "20 s")).call == ServerLive()
    with pytest.raises(ServerOverloadedError, match="full"):
        steps.throw(RequestTimeoutError("", "20 s"))


def test_a_try_lasts_no_longer_than_the_deadline_leaves(connect, fake_triton, url):
    with connect(url, timeout_s=30, deadline_s=0.4) as client:
        assert client.labels
        fake_triton.delay_s = 1.5
        start_s = time.monotonic()
        with pytest.raises(RequestTimeoutError):
            client.predict(b"photo")
        assert time.monotonic() - start_s < 1.4


def test_a_slow_trickle_is_not_waited_for(fake_triton):
    """Each byte comes soon enough, all of them never would."""

    def trickle(listener):
        connection, _ = listener.accept()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            while True:
                connection.sendall(b" ")
                time.sleep(0.05)
        except OSError:
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=trickle, args=(listener,), daemon=True).start()
        start_s = time.monotonic()
        with (
            FerClient(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.4) as client,
            pytest.raises(RequestTimeoutError, match=r"within 0\.4 s"),
        ):
            client.predict(b"photo")
        assert time.monotonic() - start_s < 5


def test_pauses_grow_and_are_spread_over_their_whole_range():
    for retry, longest_s in enumerate([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]):
        pauses = [pause_before(retry) for _ in range(2000)]
        assert 0 <= min(pauses) < 0.05 * longest_s
        assert 0.95 * longest_s < max(pauses) <= longest_s
        assert statistics.mean(pauses) == pytest.approx(longest_s / 2, rel=0.1)
    assert pause_before(10_000) <= 5


def test_pauses_really_pass(fake_triton, monkeypatch):
    monkeypatch.setattr("fer_client._retries.pause_before", lambda retry: 0.1 * 2**retry)
    fake_triton.hiccups = ["overloaded"] * 3
    with FerClient(fake_triton.url("http")) as client:
        client.predict(b"photo")
    waits = [later - earlier for earlier, later in itertools.pairwise(fake_triton.asked_at_s)]
    assert all(wait >= pause for wait, pause in zip(waits, [0.1, 0.2, 0.4], strict=True))


def test_readiness_is_asked_once(connect, fake_triton, url):
    fake_triton.refusals["ready"] = ("overloaded", "full")
    with connect(url) as client:
        assert not client.is_ready()
    assert fake_triton.asked["ready"] == 1
