"""Many images through one client: order, look-ahead, errors, stopping. Both clients, both protocols."""

import asyncio
import gc
import itertools
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fer_client import (
    AsyncFerClient,
    CroppedPrediction,
    FerClient,
    ImageRefusedError,
    ImageUnreadableError,
    Prediction,
    ServerUnreachableError,
)


class Source:
    """Images without an end, which counts how many were taken."""

    def __init__(self):
        self.taken = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.taken += 1
        return b"%d" % self.taken


@pytest.fixture
def telling(fake_triton):
    """The stand-in's faces stand where the image says, so that answers tell their images."""
    plain = fake_triton.answer_to

    def answer_to(model, image):
        answer = plain(model, image)
        answer["BOXES"] = answer["BOXES"].copy()
        answer["BOXES"][:, 0] = int(image)
        return answer

    fake_triton.answer_to = answer_to
    return fake_triton


def numbers(results):
    """The images that results tell of."""
    return [int(result.faces[0].box.x_min) for result in results]


def test_results_come_in_the_order_of_the_images_and_errors_in_their_place(connect, fake_triton, url, tmp_path):
    fake_triton.faces(2)
    images = [b"photo", tmp_path / "missing.jpg", b"photo", 7 * b"photo"]
    with connect(url) as client:
        first, missing, third, fourth = client.predict_many(images, concurrency=3)
    assert all(isinstance(result, Prediction) and len(result.faces) == 2 for result in (first, third, fourth))
    assert isinstance(missing, ImageUnreadableError)
    assert "missing.jpg" in str(missing)


@pytest.fixture
def sizing(fake_triton):
    """The stand-in's images are as wide as they say, so that answers tell their images. It notes the models asked."""
    plain, fake_triton.models = fake_triton.answer_to, []

    def answer_to(model, image):
        fake_triton.models.append(model)
        return plain(model, image) | {"IMAGE_SIZE": np.array([int(image), 1], np.int32)}

    fake_triton.answer_to = answer_to
    return fake_triton


def test_crops_are_classified_and_not_searched_for_faces(connect, sizing, url, tmp_path):
    crops = [b"1", b"2", tmp_path / "missing.png", b"4", b"5"]
    with connect(url) as client:
        results = list(client.predict_many(crops, concurrency=3, cropped=True))
        completed = dict(client.predict_as_completed(crops, concurrency=3, cropped=True))
    assert isinstance(results.pop(2), ImageUnreadableError)
    assert isinstance(completed.pop(2), ImageUnreadableError)
    assert all(isinstance(result, CroppedPrediction) for result in [*results, *completed.values()])
    assert [result.image_size.width for result in results] == [1, 2, 4, 5]
    assert {index: result.image_size.width for index, result in completed.items()} == {0: 1, 1: 2, 3: 4, 4: 5}
    assert sizing.models == ["fer_cropped"] * 8


def test_what_one_image_is_refused_for_stays_with_it(connect, fake_triton, url):
    fake_triton.hiccups = ["invalid"]
    with connect(url) as client:
        results = list(client.predict_many([b"photo"] * 20, concurrency=1))
    assert isinstance(results[0], ImageRefusedError)
    assert all(isinstance(result, Prediction) for result in results[1:])


def test_order_is_kept_while_answers_come_in_another(connect, telling, url):
    """The first answer comes last; the others are there long before."""
    plain = telling.answer_to

    def answer_to(model, image):
        if image == b"0":
            time.sleep(0.4)
        return plain(model, image)

    telling.answer_to = answer_to
    images = [b"%d" % number for number in range(12)]
    with connect(url) as client:
        assert numbers(client.predict_many(images, concurrency=4)) == list(range(12))
        indices, results = zip(*client.predict_as_completed(images, concurrency=4), strict=True)
    assert numbers(results) == list(indices)
    assert sorted(indices) == list(range(12))
    assert indices[-1] == 0


@pytest.mark.parametrize("method", ["predict_many", "predict_as_completed"])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_no_more_is_taken_than_the_look_ahead(connect, fake_triton, url, method, concurrency):
    source = Source()
    with connect(url) as client:
        results = getattr(client, method)(source, concurrency=concurrency)
        assert source.taken == 0
        for received in range(1, 30):
            next(results)
            assert source.taken <= received + 2 * concurrency
            time.sleep(0.002)
        results.close()


def test_so_many_are_sent_at_a_time_and_no_more(connect, fake_triton, url):
    lock, now, most = threading.Lock(), 0, 0

    def count(topic):
        nonlocal now, most
        if topic == "infer":
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.03)
            with lock:
                now -= 1

    fake_triton.refusal = count
    with connect(url) as client:
        assert len(list(client.predict_many([b"photo"] * 30, concurrency=3))) == 30
    assert most == 3


@pytest.mark.parametrize("method", ["predict_many", "predict_as_completed"])
def test_stopping_gives_up_what_is_under_way_at_once_and_the_client_goes_on(connect, fake_triton, url, method):
    with connect(url, timeout_s=60) as client:
        results = getattr(client, method)(Source(), concurrency=4)
        next(results)
        fake_triton.delay_s = 2
        time.sleep(0.05)
        start_s = time.monotonic()
        results.close()
        assert time.monotonic() - start_s < 1
        fake_triton.delay_s = 0
        assert len(client.predict(b"photo").faces) == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fer-client")]


def test_stopping_ends_pauses_too(fake_triton, url, monkeypatch):
    """An image is answered, all others have to be tried again in half a minute when the loop is left."""
    monkeypatch.setattr("fer_client._retries.pause_before", lambda retry: 30)
    fake_triton.refusal = lambda topic, plain=fake_triton.refusal: (
        plain(topic) if fake_triton.asked["infer"] < 1 else ("overloaded", "full")
    )
    with FerClient(url) as client:
        results = client.predict_many(Source(), concurrency=1)
        next(results)
        time.sleep(0.3)
        start_s = time.monotonic()
        results.close()
        assert time.monotonic() - start_s < 1


def test_an_iterator_that_is_dropped_stops_its_threads(fake_triton):
    with FerClient(fake_triton.url("http")) as client:
        for _ in client.predict_many(Source(), concurrency=4):
            break
        gc.collect()
        deadline_s = time.monotonic() + 5
        while [thread for thread in threading.enumerate() if thread.name.startswith("fer-client")]:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)


def test_what_the_source_raises_comes_after_the_results_before_it(connect, fake_triton, url):
    def broken():
        yield b"one"
        yield b"two"
        raise LookupError("the camera was unplugged")

    with connect(url) as client:
        results = client.predict_many(broken(), concurrency=8)
        assert len([next(results), next(results)]) == 2
        with pytest.raises(LookupError, match="unplugged"):
            next(results)


def test_a_wrong_argument_among_the_images_is_raised_in_its_place(connect, fake_triton, url):
    with connect(url) as client:
        results = client.predict_many([b"photo", None, b"photo"])
        assert isinstance(next(results), Prediction)
        with pytest.raises(TypeError, match="image is a NoneType"):
            next(results)


def test_no_images_are_no_results(connect, fake_triton, url):
    with connect(url) as client:
        assert list(client.predict_many([])) == []
        assert list(client.predict_as_completed(iter(()))) == []


@pytest.mark.parametrize("kind", [FerClient, AsyncFerClient])
@pytest.mark.parametrize("method", ["predict_many", "predict_as_completed"])
def test_a_concurrency_below_1_is_refused_at_once(kind, method):
    with pytest.raises(ValueError, match="concurrency of 0: expected 1 or more"):
        getattr(kind("localhost"), method)([], concurrency=0)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_server_that_is_gone_is_an_error_for_each_image(connect, closed_address, protocol):
    with connect(f"{protocol}://{closed_address}", timeout_s=5, retries=1) as client:
        results = list(client.predict_many([b"photo"] * 5))
    assert [type(result) for result in results] == [ServerUnreachableError] * 5


def test_memory_stays_flat_over_many_images(fake_triton):
    with FerClient(fake_triton.url("grpc")) as client:
        results = client.predict_many((bytes(200_000) for _ in itertools.count()), concurrency=4)
        peaks = []
        for _ in range(3):
            tracemalloc.start()
            for _ in range(60):
                next(results)
                fake_triton.images.clear()
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        results.close()
    assert peaks[-1] < 60 * 200_000 / 2  # Far from all of them: some 8 images, as they are copied on their way.


def test_asyncio_takes_images_from_asynchronous_iterables(fake_triton, url):
    async def camera():
        for number in range(5):
            await asyncio.sleep(0)
            yield b"%d" % number

    async def run():
        async with AsyncFerClient(url) as client:
            return [len(result.faces) async for result in client.predict_many(camera(), concurrency=2)]

    assert asyncio.run(run()) == [1] * 5


def test_a_cancelled_task_stops_everything(fake_triton, url):
    async def run():
        async with AsyncFerClient(url, timeout_s=60) as client:
            assert await client.labels()
            fake_triton.delay_s = 2

            async def consume():
                async for _ in client.predict_many(Source(), concurrency=4):
                    pass

            task = asyncio.create_task(consume())
            await asyncio.sleep(0.3)
            task.cancel()
            start_s = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - start_s < 1
            fake_triton.delay_s = 0
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_16_threads_share_one_client(telling, url):
    """Each thread sends its own images, and gets its own answers."""
    barrier = threading.Barrier(16)

    def predict_a_few(thread):
        barrier.wait()
        images = [1000 * thread + number for number in range(10)]
        return numbers(client.predict(b"%d" % image) for image in images) == images

    with FerClient(url) as client, ThreadPoolExecutor(16) as threads:
        assert list(threads.map(predict_a_few, range(16))) == [True] * 16
        assert numbers(client.predict_many((b"%d" % image for image in range(200)), concurrency=16)) == list(range(200))
    assert telling.asked["infer"] == 360
