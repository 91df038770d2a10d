"""`fer` in one process, as a CPU serves it, beside the ensemble of three models, as a GPU does: the same answers."""

import io
import re
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc
from bad_files import BAD_FILES, photo_as_jpeg
from pictures import contact_sheet, encode
from PIL import Image
from raw_requests import Answer, ask_grpc, ask_http, grpc_message, infer_request, open_channel

import fer_contract as contract
from fer_build.assemble import assemble
from fer_serve.server import EmbeddedTriton

Ask = Callable[[EmbeddedTriton, bytes], Answer]
ROUNDING = 1e-5
"""Of a probability: faces are classified in batches of other sizes."""


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    repository = tmp_path_factory.mktemp("assembled") / "repository"
    assemble(repository, separate_classifier=True)
    with EmbeddedTriton(repository, exit_timeout_s=2) as running:
        yield running


@pytest.fixture(scope="module")
def photos(astronaut: bytes) -> dict[int, bytes]:
    """Pictures by the number of their faces."""
    whole = Image.open(io.BytesIO(astronaut)).convert("RGB")
    head = whole.crop((150, 20, 300, 220))
    return {
        0: encode(Image.new("RGB", (320, 240), "teal")),
        1: photo_as_jpeg(astronaut),
        2: encode(contact_sheet(head, 2, 1)),
        5: encode(contact_sheet(head, 5, 1), "JPEG"),
        40: encode(contact_sheet(head, 8, 5)),
    }


@pytest.fixture(params=["http", "grpc"])
def ask(request: pytest.FixtureRequest) -> Ask:
    def over_grpc(server: EmbeddedTriton, data: bytes) -> Answer:
        with open_channel(server.grpc_url) as channel:
            return ask_grpc(channel, grpc_message(data))

    return over_grpc if request.param == "grpc" else lambda server, data: ask_http(server.http_url, infer_request(data))


def assert_same(one: Answer, other: Answer) -> None:
    assert one.arrays is not None
    assert other.arrays is not None
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        beside = other.arrays[name]
        assert (array.shape, array.dtype) == (beside.shape, beside.dtype), name
        if name == contract.PROBABILITIES:
            assert np.allclose(array, beside, rtol=0, atol=ROUNDING)
        else:
            assert np.array_equal(array, beside), name


@pytest.mark.parametrize("faces", [0, 1, 2, 5, 40])
def test_a_picture_gets_the_same_tensors(server, ensemble, ask, photos, faces):
    one, three = ask(server, photos[faces]), ask(ensemble, photos[faces])
    assert_same(one, three)
    assert one.arrays.keys() >= {contract.QUALITY, contract.PROBABILITIES}
    assert one.arrays[contract.FACES_FOUND].tolist() == [faces]
    assert len(one.arrays[contract.PROBABILITIES]) == min(faces, contract.MAX_FACES)


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_gets_the_same_refusal(server, ensemble, ask, astronaut, kind):
    data = BAD_FILES[kind](astronaut)
    one, three = ask(server, data), ask(ensemble, data)
    assert one == three
    assert one.status in (400, "INVALID_ARGUMENT")
    assert f"{contract.IMAGE}: " in one.message


def test_pictures_in_flight_at_once_get_what_each_gets_alone(server, ensemble, ask, photos):
    alone = {faces: ask(ensemble, photo) for faces, photo in photos.items()}
    order = [1, 5, 0, 2, 1, 40] * 8
    for served in (server, ensemble):
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda faces, served=served: ask(served, photos[faces]), order))
        for faces, answer in zip(order, answers, strict=True):
            assert_same(answer, alone[faces])


def test_a_request_s_id_comes_back(server, ensemble, photos):
    for served in (server, ensemble):
        with tritonclient.grpc.InferenceServerClient(served.grpc_url) as client:
            tensor = tritonclient.grpc.InferInput(contract.IMAGE, [1], "BYTES")
            tensor.set_data_from_numpy(np.array([photos[1]], np.object_))
            answer = client.infer(contract.FER_MODEL, [tensor], request_id="a request")
            assert answer.get_response().id == "a request"


@pytest.mark.parametrize("model", [contract.FER_MODEL, contract.FER_CROPPED_MODEL])
def test_a_client_is_told_the_same(server, ensemble, model):
    told = []
    for served in (server, ensemble):
        with tritonclient.grpc.InferenceServerClient(served.grpc_url) as client:
            config = client.get_model_config(model).config
            config.ClearField("ensemble_scheduling")
            told.append((client.get_model_metadata(model), config))
    assert told[0] == told[1]


def test_both_have_the_same_counters(server, ensemble):
    """One more stage in one process: classifying, which the other tells as the time of a model."""
    one, three = (set(re.findall(r"^fer_[^ ]+", read_metrics(served), re.MULTILINE)) for served in (server, ensemble))
    assert one - three == {'fer_stage_duration_us_total{model="fer_preprocess",stage="classify"}'}
    assert three - one == set()


def read_metrics(server: EmbeddedTriton) -> str:
    with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
        return answer.read().decode()
