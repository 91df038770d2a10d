"""`FerClient` and `AsyncFerClient` against the real Triton."""

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from pictures import contact_sheet, encode
from PIL import Image
from raw_requests import ask_grpc, ask_http, grpc_message, infer_request, open_channel

import fer_contract
from fer_build.assemble import assemble
from fer_client import (
    AsyncFerClient,
    CroppedPrediction,
    FerClient,
    FerClientError,
    ImageRefusedError,
    Prediction,
    ServerOverloadedError,
)
from fer_serve.server import EmbeddedTriton


@pytest.fixture(params=["http", "grpc"])
def client(request, server):
    address = {"http": server.http_url, "grpc": server.grpc_url}[request.param]
    with FerClient(address, request.param) as connected:
        yield connected


@pytest.fixture(scope="module")
def meadow():
    """A picture without a face."""
    return encode(Image.new("RGB", (320, 240), (90, 140, 70)))


FIRST_OUTPUTS = ("IMAGE_SIZE", "BOXES", "LANDMARKS", "DETECTION_SCORES", "PROBABILITIES")
"""What a client of the contract's first version names in its requests."""


def ask_first_contract_over_http(server, image):
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in FIRST_OUTPUTS]
    return ask_http(server.http_url, infer_request(image, request={"parameters": {}, "outputs": outputs}))


def ask_first_contract_over_grpc(server, image):
    message = grpc_message(image)
    for name in FIRST_OUTPUTS:
        message.outputs.add(name=name)
    with open_channel(server.grpc_url) as channel:
        return ask_grpc(channel, message)


@pytest.fixture(scope="module")
def crowd(astronaut):
    """Forty heads, each a little smaller than the one before."""
    return encode(contact_sheet(Image.open(BytesIO(astronaut)).convert("RGB").crop((150, 20, 300, 220)), 8, 5))


def test_the_face_of_a_photo_comes_back_with_its_apparent_expression(client, astronaut):
    prediction = client.predict(astronaut)
    assert prediction.image_size == (512, 512)
    assert prediction.model_version == client.model_version
    [face] = prediction.faces
    assert 0.5 < face.detection_score <= 1
    # Her eyes, nose and mouth, read off the picture by eye.
    positions = [(204, 107), (243, 107), (224, 127), (207, 142), (243, 142)]
    for point, position in zip(face.landmarks, positions, strict=True):
        assert point == pytest.approx(position, abs=10)
    assert all(face.box.x_min < x < face.box.x_max and face.box.y_min < y < face.box.y_max for x, y in face.landmarks)
    assert tuple(face.probabilities) == client.labels == fer_contract.LABELS
    assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-3)
    assert face.emotion == "happy"


def test_both_protocols_say_the_same(server, astronaut):
    with FerClient(server.http_url, "http") as over_http, FerClient(server.grpc_url, "grpc") as over_grpc:
        assert over_http.predict(astronaut) == over_grpc.predict(astronaut)


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_asyncio_and_compression_say_the_same(client, astronaut, compression):
    async def predict():
        async with AsyncFerClient(client.url, compression=compression) as asking:
            assert await asking.is_ready()
            return await asking.predict(astronaut)

    with FerClient(client.url, compression=compression) as compressing:
        assert asyncio.run(predict()) == compressing.predict(astronaut) == client.predict(astronaut)


def test_pixels_get_the_answer_of_their_file(client, astronaut):
    with Image.open(BytesIO(astronaut)) as image:
        array = np.asarray(image.convert("RGB"))
        expected = client.predict(astronaut)
        assert client.predict(image) == expected
    assert client.predict(array, channels="rgb") == expected
    assert client.predict(array[:, :, ::-1], channels="bgr") == expected
    assert client.predict(encode(Image.fromarray(array).convert("L"))) == client.predict(
        np.asarray(Image.fromarray(array).convert("L"))
    )


def test_what_would_be_too_large_as_bmp_is_accepted_all_the_same(client, astronaut):
    with Image.open(BytesIO(astronaut)) as image:
        large = np.asarray(image.convert("RGB").resize((3000, 3000)))
    [face] = client.predict(large, channels="rgb").faces
    assert face.emotion == "happy"


def test_raw_tensors_are_those_of_the_contract(client, astronaut):
    tensors = client.infer(astronaut)
    shapes = {name: (str(tensor.dtype), tensor.shape) for name, tensor in tensors.items()}
    assert shapes == {
        "IMAGE_SIZE": ("int32", (2,)),
        "FACES_FOUND": ("int32", (1,)),
        "BOXES": ("float32", (1, 4)),
        "LANDMARKS": ("float32", (1, 5, 2)),
        "DETECTION_SCORES": ("float32", (1,)),
        "PROBABILITIES": ("float32", (1, 7)),
        "QUALITY": ("float32", (1, 8)),
    }
    prediction = client.predict(astronaut)
    assert np.array_equal(prediction.boxes, tensors["BOXES"])
    assert np.array_equal(prediction.probabilities, tensors["PROBABILITIES"])
    assert np.array_equal(prediction.quality, tensors["QUALITY"])


def test_a_crowd_is_answered_in_part_and_says_so(client, crowd):
    prediction = client.predict(crowd)
    assert (len(prediction.faces), prediction.faces_found) == (fer_contract.MAX_FACES, 40)


@pytest.mark.parametrize("ask", [ask_first_contract_over_http, ask_first_contract_over_grpc])
def test_a_client_of_the_first_contract_gets_its_tensors_and_no_others(server, crowd, ask):
    answer = ask(server, crowd)
    assert {name: array.shape for name, array in answer.arrays.items()} == {
        "IMAGE_SIZE": (2,),
        "BOXES": (32, 4),
        "LANDMARKS": (32, 5, 2),
        "DETECTION_SCORES": (32,),
        "PROBABILITIES": (32, 7),
    }


def reasons_of(client, photo):
    [face] = client.predict(encode(photo)).faces
    assert face.uncertain == bool(face.uncertain_reasons)
    return set(face.uncertain_reasons) - {"low confidence"}


def test_the_astronaut_is_fit_to_be_judged_and_a_spoilt_copy_is_not(client, astronaut):
    photo = Image.open(BytesIO(astronaut)).convert("RGB")
    assert reasons_of(client, photo) == set()
    assert reasons_of(client, photo.point(lambda gray: round(gray * 0.04))) == {"too dark"}
    small = Image.new("RGB", (320, 240))
    small.paste(photo.resize((96, 96), Image.Resampling.BOX))
    assert reasons_of(client, small) == {"too small"}
    assert "cut off" in reasons_of(client, photo.crop((225, 40, 512, 512)))


def test_a_dark_crop_is_not_fit_to_be_judged(client, astronaut):
    with Image.open(BytesIO(astronaut)) as image:
        face = np.asarray(image.convert("L").crop((174, 60, 274, 160)).resize((48, 48)))
    dark = client.predict_cropped(face // 25)
    assert "too dark" in dark.uncertain_reasons
    assert dark.uncertain


def test_a_face_that_is_cut_out_is_taken_as_it_is(client, astronaut):
    with Image.open(BytesIO(astronaut)) as image:
        face = encode(image.convert("L").crop((174, 60, 274, 160)).resize((48, 48)))
    cropped = client.predict_cropped(face)
    assert isinstance(cropped, CroppedPrediction)
    assert cropped.image_size == (48, 48)
    assert tuple(cropped.probabilities) == client.labels
    assert cropped.emotion == "happy"
    assert list(cropped.quality) == list(fer_contract.CROP_QUALITY_COLUMNS)
    assert cropped.quality["brightness"] == pytest.approx(np.asarray(Image.open(BytesIO(face))).mean(), abs=0.01)


def test_many_images_come_back_in_order_with_errors_in_their_place(client, astronaut, meadow):
    images = [astronaut, meadow, b"no image at all"] * 6
    results = list(client.predict_many(images, concurrency=6))
    assert [type(result) for result in results] == [Prediction, Prediction, ImageRefusedError] * 6
    assert [len(result.faces) for result in results if isinstance(result, Prediction)] == [1, 0] * 6
    assert sorted(index for index, _ in client.predict_as_completed(images, concurrency=6)) == list(range(18))


def test_the_server_is_described(client):
    info = client.describe()
    assert (info.url, info.name, info.labels) == (client.url, "triton", fer_contract.LABELS)
    assert info.version[0].isdigit()
    assert "classification" in info.extensions
    assert [model.name for model in info.models] == [
        "fer",
        "fer_cropped",
        "fer_preprocess",
        "fer_preprocess_cropped",
        "fer_classifier",
    ]
    assert all(model.ready and model.versions == ("1",) for model in info.models)
    assert info.model_version == client.model_version
    assert info.uncertain_below == client.uncertain_below
    assert info.quality_columns == client.quality_columns == fer_contract.QUALITY_COLUMNS
    assert info.max_image_bytes == 20 * 2**20
    assert info.max_image_pixels == 50_000_000


def test_a_picture_without_a_face_is_answered(client, meadow):
    prediction = client.predict(meadow)
    assert prediction.faces == ()
    assert prediction.image_size == (320, 240)


def test_boxes_refer_to_the_upright_picture(client, astronaut):
    with Image.open(BytesIO(astronaut)) as image:
        lying = image.convert("RGB").crop((0, 0, 512, 400)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turn clockwise by 90 degrees.
    prediction = client.predict(encode(lying, exif=exif))
    assert prediction.image_size == (512, 400)
    [face] = prediction.faces
    assert face.landmarks.nose_tip == pytest.approx((224, 127), abs=10)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_refused_in_words_that_name_the_input(client, astronaut, content):
    with pytest.raises(ImageRefusedError, match="IMAGE"):
        client.predict(content)
    assert len(client.predict(astronaut).faces) == 1


def test_threads_share_one_client_and_bad_images_disturb_nobody(client, astronaut, meadow):
    def count_faces(content):
        try:
            return len(client.predict(content).faces)
        except ImageRefusedError:
            return "refused"

    with ThreadPoolExecutor(8) as threads:
        counts = list(threads.map(count_faces, [astronaut, meadow, b"no image at all"] * 8))
    assert counts == [1, 0, "refused"] * 8


@pytest.fixture(scope="module")
def one_core_server(tmp_path_factory):
    """A Triton that works on one request at a time and lets 32 wait, however many cores the machine has."""
    folder = tmp_path_factory.mktemp("one_core") / "repository"
    assemble(folder, cores=1)
    with EmbeddedTriton(folder, exit_timeout_s=2) as running:
        yield running


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_overloaded_server_is_told_from_one_that_is_not_there(one_core_server, astronaut, protocol):
    address = {"http": one_core_server.http_url, "grpc": one_core_server.grpc_url}[protocol]
    large = encode(Image.new("RGB", (3000, 2000), (90, 140, 70)))  # Few bytes to send, many pixels to decode.

    def outcome(_):
        try:
            return len(client.predict(large).faces)
        except FerClientError as error:
            return type(error)

    with FerClient(address, protocol, timeout_s=60, retries=0) as client:
        with ThreadPoolExecutor(100) as threads:
            outcomes = Counter(threads.map(outcome, range(100)))
        assert set(outcomes) == {0, ServerOverloadedError}
        assert len(client.predict(astronaut).faces) == 1


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_retries_ride_out_an_overload(one_core_server, protocol):
    """Twice as many at a time as may wait there."""
    address = {"http": one_core_server.http_url, "grpc": one_core_server.grpc_url}[protocol]
    large = encode(Image.new("RGB", (2000, 1500), (90, 140, 70)))
    with FerClient(address, protocol, timeout_s=120, retries=100, deadline_s=200) as client:
        results = list(client.predict_many([large] * 100, concurrency=70))
    assert [getattr(result, "faces", result) for result in results] == [()] * 100


def test_the_server_is_ready_and_healthy(client):
    assert client.is_ready()
    client.check_health()
