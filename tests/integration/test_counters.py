"""What preprocessing reports on Triton's /metrics: each image is counted once, under what became of it."""

import io
import time
import urllib.request

import pytest
from pictures import contact_sheet, encode
from PIL import Image

from fer_client import FerClient, ImageRefusedError

PATIENCE_S = 30


def read_series(server):
    """Value by series, of those that are ours."""
    with urllib.request.urlopen(server.metrics_url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith("fer_")}


def read_settled(server):
    """The series once nothing is on its way to them any more: what earlier requests did, say."""
    before, now = None, read_series(server)
    while before != now:
        time.sleep(1)
        before, now = now, read_series(server)
    return now


def change_of(server, before, expected):
    """What has changed, waiting for it to be `expected`: counters are passed on four times a second."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        now = read_series(server)
        changed = {name: value - before[name] for name, value in now.items() if value != before[name]}
        counted = {name: value for name, value in changed.items() if not name.startswith("fer_stage_duration")}
        if counted == expected or time.monotonic() > deadline:
            return changed, counted
        time.sleep(0.1)


@pytest.fixture
def client(server):
    with FerClient(server.http_url) as client:
        yield client


def test_a_face_an_empty_image_and_a_refused_one_are_told_apart(server, client, astronaut):
    before = read_settled(server)
    client.predict(astronaut)
    client.predict(encode(Image.new("RGB", (64, 64), "teal")))
    for bad in (b"", b"not an image", astronaut[: len(astronaut) // 2]):
        with pytest.raises(ImageRefusedError):
            client.predict(bad)
    expected = {
        'fer_images_total{model="fer_preprocess"}': 2,
        'fer_faces_total{model="fer_preprocess"}': 1,
        'fer_images_without_face_total{model="fer_preprocess"}': 1,
        'fer_images_refused_total{model="fer_preprocess",reason="empty"}': 1,
        'fer_images_refused_total{model="fer_preprocess",reason="not_an_image"}': 1,
        'fer_images_refused_total{model="fer_preprocess",reason="corrupt"}': 1,
    }
    changed, counted = change_of(server, before, expected)
    assert counted == expected
    for stage in ("decode", "detect", "align", "classify"):
        assert changed[f'fer_stage_duration_us_total{{model="fer_preprocess",stage="{stage}"}}'] > 0


def test_faces_that_an_answer_has_no_room_for_are_counted_too(server, client, astronaut):
    head = Image.open(io.BytesIO(astronaut)).convert("RGB").crop((150, 20, 300, 220))
    before = read_settled(server)
    client.predict(encode(contact_sheet(head, 8, 5)))
    expected = {
        'fer_images_total{model="fer_preprocess"}': 1,
        'fer_faces_total{model="fer_preprocess"}': 32,
        'fer_faces_left_out_total{model="fer_preprocess"}': 8,
    }
    assert change_of(server, before, expected)[1] == expected


def test_crops_are_counted_apart(server, client, astronaut):
    before = read_settled(server)
    client.predict_cropped(astronaut)
    expected = {'fer_images_total{model="fer_preprocess_cropped"}': 1}
    assert change_of(server, before, expected)[1] == expected


def test_the_model_that_is_served_is_named_once(server, client):
    (series,) = [name for name in read_series(server) if name.startswith("fer_model_info")]
    assert f'version="{client.model_version}"' in series
    assert read_series(server)[series] == 1
