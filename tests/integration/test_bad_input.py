"""What is not a picture: refused with 400 / INVALID_ARGUMENT naming IMAGE, within 2 s, and only for who sent it."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from bad_files import BAD_FILES, photo_as_jpeg
from machine_pace import slowness
from pictures import encode
from PIL import Image
from raw_requests import Answer, ask_grpc, ask_http, grpc_message, infer_request, open_channel
from tritonclient.utils import InferenceServerException

from fer_contract import BOXES, FER_CROPPED_MODEL, FER_MODEL, IMAGE, PROBABILITIES

REFUSED = ("400", "StatusCode.INVALID_ARGUMENT")


@pytest.mark.parametrize("model", [FER_MODEL, FER_CROPPED_MODEL])
@pytest.mark.parametrize("kind", BAD_FILES)
def test_it_is_refused_and_told_why(infer, astronaut, kind, model):
    data = BAD_FILES[kind](astronaut)
    pace = slowness()
    started = time.monotonic()
    with pytest.raises(InferenceServerException) as refusal:
        infer(data, model)
    assert time.monotonic() - started < 2 * max(pace, slowness())
    assert refusal.value.status() in REFUSED
    assert "IMAGE: " in refusal.value.message()
    assert "/" not in refusal.value.message()  # no path of the server


def test_every_refusal_says_what_to_do(infer):
    with pytest.raises(InferenceServerException, match="Accepted are JPEG, PNG, WebP and BMP files"):
        infer(b"")
    with pytest.raises(InferenceServerException, match="10000x5001 is over the limit of 50,000,000 pixels"):
        infer(encode(Image.new("1", (10_000, 5_001))))
    with pytest.raises(InferenceServerException, match="over the limit of 20,971,520. Send a smaller file"):
        infer(bytes(21 * 1024 * 1024))


@pytest.mark.parametrize("module", [tritonclient.http, tritonclient.grpc], ids=["http", "grpc"])
def test_wrong_shape_and_type_are_refused(server, module):
    url = server.http_url if module is tritonclient.http else server.grpc_url
    two = module.InferInput(IMAGE, [2], "BYTES")
    two.set_data_from_numpy(np.array([b"a", b"b"], np.object_))
    number = module.InferInput(IMAGE, [1], "INT32")
    number.set_data_from_numpy(np.array([1], np.int32))
    with module.InferenceServerClient(url) as client:
        for tensor in (two, number):
            with pytest.raises(InferenceServerException, match=IMAGE) as refusal:
                client.infer(FER_MODEL, [tensor])
            assert refusal.value.status() in REFUSED


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_neighbours_in_flight_are_untouched(server, astronaut, protocol):
    """A hundred pictures and a hundred pieces of rubbish at once: each gets what it would get alone."""
    photo = photo_as_jpeg(astronaut)
    with open_channel(server.grpc_url) as channel, ThreadPoolExecutor(8) as pool:

        def ask(data: bytes) -> Answer:
            if protocol == "http":
                return ask_http(server.http_url, infer_request(data))
            return ask_grpc(channel, grpc_message(data))

        alone = ask(photo).arrays
        answers = list(pool.map(ask, [photo, photo[: len(photo) // 2]] * 100))
    assert {answer.status for answer in answers[1::2]} <= {400, "INVALID_ARGUMENT"}
    for answer in answers[0::2]:
        assert np.array_equal(answer.arrays[BOXES], alone[BOXES])
        assert np.allclose(answer.arrays[PROBABILITIES], alone[PROBABILITIES], atol=1e-5)
    assert server.probe() is None
