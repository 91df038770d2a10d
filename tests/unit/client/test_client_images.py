"""What an image may be, and what reaches the server then: both clients."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_client import FerClient, FerClientError, ImageUnreadableError
from fer_client._images import encode


@pytest.fixture
def sent(connect, fake_triton):
    """What the server was sent for an image."""

    def predict(image, **options):
        with connect(fake_triton.url("http")) as client:
            client.predict(image, **options)
        return fake_triton.images[-1]

    return predict


def pixels(shape, seed=1):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def decoded(content):
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


def test_files_are_sent_as_they_are(sent, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8 whatever is in the file")
    with path.open("rb") as file:
        assert sent(file) == path.read_bytes()
    for image in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), memoryview(path.read_bytes())):
        assert sent(image) == path.read_bytes()
    assert sent(io.BytesIO(b"in memory")) == b"in memory"


@pytest.mark.parametrize("shape", [(7, 5), (7, 6), (1, 1), (48, 48)])
def test_gray_arrays_lose_nothing(sent, shape):
    array = pixels(shape)
    assert np.array_equal(decoded(sent(array)), array)


@pytest.mark.parametrize("shape", [(7, 5, 3), (6, 8, 3), (1, 1, 3)])
def test_arrays_of_colours_lose_nothing_in_either_order(sent, shape):
    array = pixels(shape)
    assert np.array_equal(decoded(sent(array, channels="rgb")), array)
    assert np.array_equal(decoded(sent(array[:, :, ::-1], channels="bgr")), array)


def test_arrays_may_be_cut_out_of_others(sent):
    array = pixels((40, 60, 3))[5:30:2, ::-1]
    assert np.array_equal(decoded(sent(array, channels="rgb")), array)


@pytest.mark.parametrize("shape", [(2400, 2400, 3), (4200, 4200)])
def test_what_would_be_too_large_as_bmp_is_a_png_and_loses_nothing(shape):
    array = np.zeros(shape, np.uint8)
    array[100:200, 300:500] = pixels((100, 200, *shape[2:]))
    for channels, order in (("rgb", 1), ("bgr", -1)):
        content = encode(array, channels)
        assert content.startswith(b"\x89PNG")
        assert len(content) < 1_000_000
        shown = decoded(content)
        assert np.array_equal(shown if array.ndim == 2 else shown[:, :, ::order], array)


@pytest.mark.parametrize(
    ("image", "error_class", "message"),
    [
        (pixels((4, 4, 3)), ValueError, "array of colours: say channels='rgb' or"),
        (pixels((2, 4, 4, 3)), ValueError, r"array of shape \(2, 4, 4, 3\)"),
        (pixels((0, 4)), ValueError, r"array of shape \(0, 4\)"),
        (None, TypeError, "image is a NoneType: expected a path, bytes"),
        (7, TypeError, "image is a int: expected a path"),
        (io.StringIO("text"), TypeError, "gives str when read: open it for reading bytes, mode 'rb'"),
    ],
)
def test_what_is_no_image_is_refused_before_anything_is_sent(connect, fake_triton, image, error_class, message):
    with connect(fake_triton.url("http")) as client, pytest.raises(error_class, match=message):
        client.predict(image)
    assert not fake_triton.asked


def test_an_unknown_order_of_colours_is_refused(fake_triton):
    with FerClient(fake_triton.url("http")) as client, pytest.raises(ValueError, match="channels 'gbr': expected 'r"):
        client.predict(pixels((4, 4, 3)), channels="gbr")


@pytest.mark.parametrize(
    ("name", "reason"), [("missing.jpg", "No such file"), ("", "Is a directory"), ("null\0.jpg", "null")]
)
def test_files_that_cannot_be_read_are_named(connect, fake_triton, tmp_path, name, reason):
    path = f"{tmp_path}/{name}"
    with connect(fake_triton.url("http")) as client, pytest.raises(ImageUnreadableError, match=reason) as caught:
        client.predict(path)
    assert path in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, FerClientError)
    assert not fake_triton.asked


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc for a file that fails when read")
def test_a_file_that_fails_when_read_is_named(connect, fake_triton):
    with (
        open("/proc/self/mem", "rb") as memory,  # noqa: PTH123 - a file object is the point here
        connect(fake_triton.url("http")) as client,
        pytest.raises(ImageUnreadableError, match=r"cannot read /proc/self/mem: Input/output error"),
    ):
        client.predict(memory)


def test_a_damaged_file_behind_a_pillow_image_is_named(fake_triton, tmp_path):
    path = tmp_path / "half.png"
    Image.fromarray(pixels((200, 200, 3))).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    with (
        FerClient(fake_triton.url("http")) as client,
        Image.open(path) as half,
        pytest.raises(ImageUnreadableError, match=r"half\.png"),
    ):
        client.predict(half)
