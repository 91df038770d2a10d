"""Forks, spawned processes, other event loops: every answer reaches its own picture. Both clients, both protocols."""

import asyncio
import copy
import gc
import json
import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from fer_client import AsyncFerClient, ContractError, FerClient, Tls

SCRIPT = Path(__file__).parents[2] / "forked_clients.py"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture
def measuring(fake_triton):
    """The stand-in says how large the BMP file is that it was sent, so that answers tell their pictures."""
    plain = fake_triton.answer_to

    def answer_to(model, image):
        return plain(model, image) | {"IMAGE_SIZE": np.array(struct.unpack_from("<ii", image, 18), np.int32)}

    fake_triton.answer_to = answer_to
    return fake_triton


@pytest.fixture(params=["sync", "async"])
def kind(request):
    return request.param


@pytest.fixture
def outcome(measuring, url, kind):
    """What came of a case of `forked_clients.py`."""

    def run(case, **environment):
        command = [sys.executable, SCRIPT, case, kind, url]
        finished = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=100
        )
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)

    return run


def test_four_forked_workers_and_their_parent_get_their_own_answers(outcome, measuring):
    measuring.delay_s = 0.05  # So that all have sent something before anyone is answered.
    assert outcome("workers", FORKED_PICTURES="40") == [1, [10] * 4, 10, 10]


def test_a_client_made_before_the_fork_is_first_used_after_it(outcome):
    assert outcome("unused") == [20, 20]


def test_forks_while_threads_of_the_parent_wait_for_answers(outcome, measuring):
    measuring.delay_s = 0.01
    assert outcome("busy") == [[20] * 4, [True] * 3, 10]


def test_what_children_close_or_drop_stays_open_for_the_parent(outcome, measuring, url):
    assert outcome("closing") == [["closed", "dropped", "closed", 4], 1]
    if url.startswith("http"):
        assert measuring.connections <= 3  # The parent's, and two of the child that asks two at a time.
    else:
        assert measuring.peers[0] == measuring.peers[-1]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_encrypted_connections_survive_what_children_do(https_triton, measuring, kind):
    """A goodbye over TLS, or another's messages in between, would end the parent's connection."""
    url, certificate = https_triton
    environment = {**os.environ, "FORKED_AUTHORITY": str(certificate), "FORKED_PICTURES": "40"}
    for case, expected in (
        ("workers", [1, [10] * 4, 10, 10]),
        ("closing", [["closed", "dropped", "closed", 4], 1]),
    ):
        measuring.sockets.clear()
        command = [sys.executable, SCRIPT, case, kind, url]
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
        assert finished.returncode == 0, finished.stderr
        assert json.loads(finished.stdout) == expected
    assert measuring.connections <= 3  # The parent's, and two of the child that asks two at a time.


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="this system does not list threads")
def test_threads_are_gone_for_the_system_too_when_the_results_are(fake_triton):
    """A fork while one is on its way out of OpenSSL would leave a child whose first encrypted connection hangs."""
    threads = set()

    class Image:
        def read(self):
            threads.add(threading.get_native_id())
            return b"photo"

    with FerClient(fake_triton.url("http")) as client:
        for _ in range(50):
            assert len(list(client.predict_many([Image() for _ in range(8)], concurrency=8))) == 8
            assert threads.isdisjoint(int(task.name) for task in Path("/proc/self/task").iterdir())


def test_a_child_that_forks_again(outcome):
    assert outcome("grandchild") == [10, 10, 10]


def test_results_begun_before_a_fork_are_the_parents(outcome):
    first, (continued, ended, not_begun), rest = outcome("half_done")
    assert continued.startswith("RuntimeError: these results are those of the process that asked for them")
    assert (first, ended, not_begun, rest) == (True, "ended", [16, 16], True)


def test_pools_of_forked_processes(outcome):
    assert outcome("pools") == [[20] * 4, [20] * 4, 10]


def test_forked_workers_do_not_try_again_at_the_same_time(fake_triton):
    command = [sys.executable, SCRIPT, "pauses", "sync", fake_triton.url("http")]
    pauses = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    assert len(set(pauses)) == 3


GRPC_IS_DEAD = "RuntimeError: gRPC does not work in this process, because it was forked"


@pytest.mark.parametrize("url", ["grpc"], indirect=True)
def test_without_grpcs_support_for_forks_a_child_says_so_and_does_not_hang(outcome):
    used, in_workers, meanwhile, afterwards = outcome("workers", FORKED_PICTURES="40", GRPC_ENABLE_FORK_SUPPORT="0")
    assert [str(said)[: len(GRPC_IS_DEAD)] for said in in_workers] == [GRPC_IS_DEAD] * 4
    assert (used, meanwhile, afterwards) == (1, 10, 10)


@pytest.mark.parametrize("url", ["http"], indirect=True)
def test_http_needs_no_support_of_grpc(outcome):
    assert outcome("workers", FORKED_PICTURES="40", GRPC_ENABLE_FORK_SUPPORT="0") == [1, [10] * 4, 10, 10]


@pytest.mark.parametrize("url", ["grpc"], indirect=True)
def test_beside_other_peoples_grpc_calls_a_child_works_or_says_that_it_cannot(outcome):
    children, took_s, afterwards = outcome("foreign")
    assert all(said == 4 or said.startswith(GRPC_IS_DEAD) for said in children)
    assert took_s < 30
    assert afterwards == 4


@pytest.mark.parametrize("kind", ["sync"], indirect=True)
def test_a_used_client_is_an_argument_of_spawned_processes(outcome):
    assert outcome("spawned") == [[10, 10], 10]


@pytest.mark.parametrize("made", [FerClient, AsyncFerClient])
@pytest.mark.parametrize("scheme", ["http", "grpc", "https", "grpcs"])
def test_a_pickle_holds_what_the_client_was_told(made, scheme):
    client = made(f"{scheme}://triton.example:1234", timeout_s=5, deadline_s=9, retries=1, token="secret")
    again = pickle.loads(pickle.dumps(client))
    assert type(again) is made
    assert again._core.settings == client._core.settings
    assert copy.copy(client)._transport is not client._transport


def test_a_pickled_client_asks_by_itself(connect, fake_triton, url):
    with FerClient(url, headers={"X-Team": "blue"}) as client:
        client.predict(b"photo")
        with pickle.loads(pickle.dumps(client)) as again:
            assert len(again.predict(b"photo").faces) == 1
        assert len(client.predict(b"photo").faces) == 1
    assert fake_triton.headers[-2]["x-team"] == "blue"
    with pytest.raises(RuntimeError, match="this client is closed"):
        pickle.loads(pickle.dumps(client)).predict(b"photo")


def test_certificates_are_pickled_by_name():
    client = FerClient("https://triton.example", tls=Tls(server_name="other.example"))
    assert pickle.loads(pickle.dumps(client))._core.settings.tls == Tls(server_name="other.example")


def test_parting_with_a_connection_neither_ends_it_nor_frees_its_number():
    from fer_client._forks import let_go

    ours, theirs = socket.socketpair()
    with ours, theirs, ours.dup() as the_parents:
        number = ours.fileno()
        let_go([ours])
        assert ours.fileno() == number
        with pytest.raises(OSError):  # noqa: PT011 - whatever the system calls it
            ours.send(b"from the child")
        the_parents.send(b"from the parent")
        assert theirs.recv(100) == b"from the parent"


@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_answer_to_another_request_is_refused_and_its_connection_not_used_again(
    connect, fake_triton, url, concurrency
):
    with connect(url) as client:
        client.predict(b"photo")
        fake_triton.answered_id = "another"
        with pytest.raises(ContractError, match="it answers another request \\(id 'another', expected '"):
            client.predict(b"photo")
        fake_triton.answered_id = None
        results = list(client.predict_many([b"photo"] * 6, concurrency=concurrency))
    assert [len(result.faces) for result in results] == [1] * 6
    if url.startswith("http"):
        assert 1 < fake_triton.connections <= 1 + concurrency


def test_each_request_has_an_id_of_its_own(connect, fake_triton, url, monkeypatch):
    ids = []
    monkeypatch.setattr("fer_client.protocol.os.urandom", lambda count: ids.append(count) or os.getrandom(count))
    with connect(url) as client:
        list(client.predict_many([b"photo"] * 5, concurrency=2))
    assert ids == [8] * 5


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # asyncio's, of what was left open.
def test_an_asynchronous_client_goes_on_in_the_next_event_loop(fake_triton, url):
    client = AsyncFerClient(url)

    async def predict():
        return len((await client.predict(b"photo")).faces)

    async def predict_and_close():
        async with client:
            return await predict()

    assert [asyncio.run(predict()), asyncio.run(predict()), asyncio.run(predict_and_close())] == [1, 1, 1]
    if url.startswith("http"):
        assert fake_triton.connections == 3
    gc.collect()


def test_two_event_loops_at_a_time_are_refused_over_http(fake_triton):
    client = AsyncFerClient(fake_triton.url("http"))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    assert len(asyncio.run_coroutine_threadsafe(client.predict(b"photo"), loop).result(10).faces) == 1
    with pytest.raises(RuntimeError, match="this client is used in another event loop already: make a client for each"):
        asyncio.run(client.predict(b"photo"))
    asyncio.run_coroutine_threadsafe(client.close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
