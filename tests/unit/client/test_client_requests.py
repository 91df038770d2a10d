import errno
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fer_client import (
    Box,
    ContractError,
    FerClient,
    ImageRefusedError,
    ImageSize,
    ImageUnreadableError,
    RequestTimeoutError,
    ServerError,
    ServerOverloadedError,
    ServerUnreachableError,
)


def test_bytes_are_sent_as_they_are_and_come_back_as_faces(connect, fake_triton, url):
    with connect(url) as client:
        prediction = client.predict(b"\xff\xd8\x00photo")
    assert fake_triton.images == [b"\xff\xd8\x00photo"]
    assert prediction.image_size == ImageSize(640, 480)
    assert prediction.model_version == "fake-1"
    [face] = prediction.faces
    assert face.box == Box(100, 100, 180, 200)
    assert (face.emotion, face.confidence) == ("happy", pytest.approx(0.7))


def test_a_file_is_read_from_its_path(connect, fake_triton, url, tmp_path):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"from a file")
    with connect(url) as client:
        client.predict(photo)
        client.predict(str(photo))
    assert fake_triton.images == [b"from a file"] * 2


def test_a_missing_file_is_an_os_error_and_asks_the_server_nothing(connect, fake_triton, url, tmp_path):
    photo = tmp_path / "photo.jpg"
    with connect(url) as client, pytest.raises(ImageUnreadableError, match=f"cannot read {photo}: No such") as caught:
        client.predict(photo)
    assert isinstance(caught.value, OSError)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, str(photo))
    assert not fake_triton.asked


def test_no_face_is_a_result(connect, fake_triton, url):
    fake_triton.faces(0)
    with connect(url) as client:
        assert client.predict(b"landscape").faces == ()


def test_faces_keep_the_order_of_the_server(connect, fake_triton, url):
    fake_triton.faces(3)
    fake_triton.answer["BOXES"][:, 0] = (30, 20, 10)
    with connect(url) as client:
        assert [face.box.x_min for face in client.predict(b"group").faces] == [30, 20, 10]


@pytest.mark.parametrize(
    ("kind", "error_class"),
    [
        ("invalid", ImageRefusedError),
        ("overloaded", ServerOverloadedError),
        ("missing", ContractError),
        ("failed", ServerError),
    ],
)
def test_each_refusal_has_its_error_with_the_words_of_the_server(connect, fake_triton, url, kind, error_class):
    fake_triton.refusals["infer"] = (kind, "IMAGE: because of the weather")
    with connect(url) as client:
        with pytest.raises(error_class, match="IMAGE: because of the weather") as caught:
            client.predict(b"photo")
        assert caught.value.url == url
        fake_triton.refusals.clear()
        assert len(client.predict(b"photo").faces) == 1


def test_a_server_without_the_model_is_a_contract_error(connect, fake_triton, url):
    fake_triton.refusals["config"] = ("missing", "Request for unknown model: 'fer' is not found")
    with connect(url) as client, pytest.raises(ContractError, match="unknown model: 'fer'"):
        client.predict(b"photo")


def test_a_slow_answer_is_not_waited_for_and_the_client_stays_usable(connect, fake_triton, url):
    with connect(url, timeout_s=0.5) as client:
        client.predict(b"photo")
        fake_triton.delay_s = 1.5
        with pytest.raises(RequestTimeoutError, match=r"within 0\.5 s"):
            client.predict(b"photo")
        fake_triton.delay_s = 0
        assert len(client.predict(b"photo").faces) == 1


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_closed_port_is_unreachable_and_the_url_is_named(connect, closed_address, protocol):
    url = f"{protocol}://{closed_address}"
    with connect(url, timeout_s=5) as client:
        assert not client.is_ready()
        with pytest.raises(ServerUnreachableError, match=f"no server answers at {url}"):
            client.predict(b"photo")


def test_a_host_that_takes_no_connection_is_unreachable_and_not_slow(connect, silent_address):
    url = f"http://{silent_address}"
    with connect(url, timeout_s=0.3) as client:
        with pytest.raises(ServerUnreachableError, match=rf"at {url}: .*no connection within 0\.3 s"):
            client.predict(b"photo")
        assert not client.is_ready()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_impossible_host_name_is_unreachable(connect, protocol):
    with connect(f"{protocol}://a..b", timeout_s=5) as client, pytest.raises(ServerUnreachableError, match=r"a\.\.b"):
        client.predict(b"photo")


def test_the_other_protocols_port_is_unreachable(connect, fake_triton):
    http_to_grpc = f"http://127.0.0.1:{fake_triton.grpc_port}"
    with connect(http_to_grpc) as client, pytest.raises(ServerUnreachableError, match="does not speak HTTP"):
        client.predict(b"photo")
    grpc_to_http = f"grpc://127.0.0.1:{fake_triton.http_port}"
    with connect(grpc_to_http, timeout_s=5) as client, pytest.raises(ServerUnreachableError, match=grpc_to_http):
        client.predict(b"photo")


@pytest.mark.parametrize(
    ("raw_answer", "error_class", "message"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", ContractError, "so it is no Triton server"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", ContractError, "so it is no Triton server"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>", ContractError, "HTTP status 404"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", ServerUnreachableError, "HTTP status 502"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ServerUnreachableError, "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n{", ServerUnreachableError, "in the middle of its answer"),
        (b"", ServerUnreachableError, "closed the connection without an answer"),
    ],
)
def test_what_is_no_triton_is_told_apart(connect, fake_triton, raw_answer, error_class, message):
    fake_triton.raw_answer = raw_answer
    with connect(fake_triton.url("http")) as client, pytest.raises(error_class, match=message):
        client.predict(b"photo")


def ok(body: bytes, *headers: bytes) -> bytes:
    """An HTTP answer with status 200. It announces that the stand-in closes the connection after a raw answer."""
    always = [b"HTTP/1.1 200 OK", b"Connection: close", b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*always, *headers, b"", body])


@pytest.mark.parametrize(
    "raw_answer",
    [
        ok(b""),
        ok(b"<html>"),
        ok(b"\xff\xfe{}"),
        ok(b"[]"),
        ok(b"null"),
        ok(b"{}"),
        ok(b'{"outputs": 5}'),
        ok(b'{"outputs": ["BOXES"]}'),
        ok(b'{"outputs": [{"name": "IMAGE_SIZE"}]}'),
        ok(b'{"outputs": [{"name": "IMAGE_SIZE", "datatype": "INT32", "shape": [2], "data": ["a", "b"]}]}'),
        ok(b'{"outputs": [{"name": "IMAGE_SIZE", "datatype": "INT32", "shape": [2], "data": [1e300, 2]}]}'),
        ok(b'{"outputs": [{"name": "IMAGE_SIZE", "datatype": "INT32", "shape": [3], "data": [640, 480]}]}'),
        ok(b'{"outputs": [{"name": "IMAGE_SIZE", "datatype": "INT32", "shape": "2", "data": [640, 480]}]}'),
        ok(b'{"outputs": []}', b"Inference-Header-Content-Length: many"),
        ok(b'{"outputs": []}', b"Inference-Header-Content-Length: 3"),
        ok(b"{}", b"Inference-Header-Content-Length: 2"),
        ok(
            b'{"outputs": [{"name": "IMAGE_SIZE", "datatype": "BYTES", "shape": [2], '
            b'"parameters": {"binary_data_size": 2}}]}\xff\xff',
            b"Inference-Header-Content-Length: 111",
        ),
    ],
)
def test_a_garbled_answer_is_a_contract_error(connect, fake_triton, raw_answer):
    with connect(fake_triton.url("http")) as client:
        assert client.labels
        fake_triton.raw_answer = raw_answer
        with pytest.raises(ContractError, match="its answer cannot be read|is missing from an answer"):
            client.predict(b"photo")
        fake_triton.raw_answer = None
        assert len(client.predict(b"photo").faces) == 1


@pytest.mark.parametrize(
    "config",
    [b'{"parameters": []}', b'{"parameters": {"labels": 5}}', b'{"parameters": {"labels": {"string_value": 5}}}'],
)
def test_a_garbled_configuration_is_a_contract_error(connect, fake_triton, config):
    fake_triton.raw_answer = ok(config)
    with connect(fake_triton.url("http")) as client, pytest.raises(ContractError):
        client.predict(b"photo")


@pytest.mark.parametrize("part", [{"max_batch_size": "eight"}, {"input": 5}, {"output": [{}]}])
def test_a_configuration_with_a_garbled_part_is_a_contract_error(connect, fake_triton, part):
    fake_triton.config.update(part)
    message = "its model configuration cannot be read"
    with connect(fake_triton.url("http")) as client, pytest.raises(ContractError, match=message):
        client.predict(b"photo")


def test_threads_share_one_client(fake_triton, url):
    barrier = threading.Barrier(8)

    def predict_a_few(_):
        barrier.wait()
        return [len(client.predict(b"photo").faces) for _ in range(5)]

    with FerClient(url) as client, ThreadPoolExecutor(8) as threads:
        assert list(threads.map(predict_a_few, range(8))) == [[1] * 5] * 8
    assert fake_triton.asked["infer"] == 40


def count_open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_http_connections_are_kept_and_outlive_the_threads_that_opened_them(fake_triton):
    with FerClient(fake_triton.url("http")) as client:
        client.predict(b"photo")
        open_before = count_open_files()
        for _ in range(20):
            thread = threading.Thread(target=client.predict, args=(b"photo",))
            thread.start()
            thread.join()
        assert count_open_files() <= open_before
    assert fake_triton.connections == 1


def test_a_connection_that_the_server_has_closed_meanwhile_is_replaced(connect, fake_triton):
    with connect(fake_triton.url("http")) as client:
        client.predict(b"photo")
        fake_triton.hang_up()
        assert len(client.predict(b"photo").faces) == 1
    assert fake_triton.connections == 2


def test_closing_lets_the_others_finish_and_keeps_no_connection(fake_triton):
    client = FerClient(fake_triton.url("http"))
    client.predict(b"photo")
    fake_triton.delay_s = 0.3
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(client.predict, b"photo")
        while fake_triton.asked["infer"] < 2:
            time.sleep(0.01)
        client.close()
        assert len(pending.result().faces) == 1
    [connection] = fake_triton.sockets
    deadline_s = time.monotonic() + 5
    while connection.fileno() != -1 and time.monotonic() < deadline_s:  # The server closes its end after the client's.
        time.sleep(0.01)
    assert connection.fileno() == -1


def test_ready_is_what_server_and_model_say(connect, fake_triton, url):
    with connect(url) as client:
        assert client.is_ready()
        fake_triton.refusals["ready"] = ("failed", "loading")
        assert not client.is_ready()


def test_health_sends_a_picture_through_the_model(connect, fake_triton, url):
    fake_triton.faces(0)
    with connect(url) as client:
        client.check_health()
        [picture] = fake_triton.images
        assert picture.startswith(b"BM")
        fake_triton.refusals["infer"] = ("failed", "a worker has died")
        with pytest.raises(ServerError, match="a worker has died"):
            client.check_health()


def test_a_closed_client_says_so(connect, fake_triton, url):
    with connect(url) as client:
        client.predict(b"photo")
        client.close()
        for use in (lambda: client.predict(b"photo"), client.is_ready, lambda: client.labels):
            with pytest.raises(RuntimeError, match="this client is closed"):
                use()


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf")])
def test_an_impossible_timeout_is_refused(timeout_s):
    with pytest.raises(ValueError, match=r"timeout of .* s: expected more than 0"):
        FerClient(timeout_s=timeout_s)
