"""The response cache that `fer-serve --response-cache` asks for: off by default, exact, and never mistaken for life."""

import re
import urllib.request

import numpy as np
import psutil
import pytest
import tritonclient.http
from pictures import image_tensor

from fer_build.server import EmbeddedTriton
from fer_contract import FER_MODEL, PREPROCESS_CROPPED_MODEL, PREPROCESS_MODEL

OUTPUTS = ("IMAGE_SIZE", "BOXES", "LANDMARKS", "DETECTION_SCORES", "PROBABILITIES")
ONE_PIXEL = b"BM" + (58).to_bytes(4, "little") + bytes(4) + b"6\0\0\0(\0\0\0\1\0\0\0\1\0\0\0\1\0\x18" + bytes(29)


@pytest.fixture(scope="module")
def caching(repository):
    with EmbeddedTriton(repository, exit_timeout_s=2, response_cache_bytes=4 << 20) as running:
        yield running


def ask(server, image):
    with tritonclient.http.InferenceServerClient(server.http_url) as client:
        result = client.infer(FER_MODEL, [image_tensor(tritonclient.http, image)])
        return {name: result.as_numpy(name) for name in OUTPUTS}


def requests_to(server, model):
    text = urllib.request.urlopen(server.metrics_url, timeout=10).read().decode()
    series = rf'^nv_inference_request_success{{model="{model}",version="1"}} (\S+)$'
    return float(re.search(series, text, re.MULTILINE)[1])


@pytest.mark.parametrize("has_cache", [False, True])
def test_an_image_that_comes_again_is_looked_at_again_only_without_a_cache(request, has_cache, astronaut):
    running = request.getfixturevalue("caching" if has_cache else "server")
    before = requests_to(running, PREPROCESS_MODEL)
    first, second, third = (ask(running, astronaut) for _ in range(3))
    assert requests_to(running, PREPROCESS_MODEL) - before == (1 if has_cache else 3)
    for name in OUTPUTS:
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_array_equal(first[name], third[name])


def test_an_image_without_a_face_has_none_each_time(caching):
    for _ in range(3):
        assert ask(caching, ONE_PIXEL)["PROBABILITIES"].shape == (0, 7)


def test_a_bad_image_is_refused_each_time(caching):
    for _ in range(3):
        with pytest.raises(tritonclient.http.InferenceServerException, match="IMAGE: the bytes are not an image"):
            ask(caching, b"no image")


def test_the_cache_does_not_answer_in_the_place_of_dead_stubs(repository, no_leftovers):
    with EmbeddedTriton(repository, exit_timeout_s=1, response_cache_bytes=4 << 20) as running:
        assert running.probe() is None
        for process in psutil.Process().children(recursive=True):
            command = " ".join(process.cmdline())
            if f"/{PREPROCESS_CROPPED_MODEL}/" in command and str(repository) in command:
                process.kill()
        assert running.probe() is not None
