"""`POST /v1/faces` with a model server that is made up: what goes in, what comes out, what is refused."""

import asyncio
import base64
import io
import json

import msgspec
import pytest
import requests
from PIL import Image
from running_web import FACES, LABELS, FakeClient, running_web, wait_until

from fer_client import (
    ContractError,
    ImageRefusedError,
    RequestTimeoutError,
    ServerOverloadedError,
    ServerUnreachableError,
)
from fer_web import app
from fer_web.answers import Face
from fer_web.settings import Limits, Settings, Tokens

TOKEN = "a-token-of-enough-characters"
URL = "http://model.internal:8000"
ERRORS = {
    b"refused": ImageRefusedError(URL, "[request id: 7] in ensemble 'fer', IMAGE: it is no picture\nat /secret/path"),
    b"busy": ServerOverloadedError(URL, "Exceeds maximum queue size"),
    b"gone": ServerUnreachableError(URL, "connection refused by model.internal"),
    b"late": RequestTimeoutError(URL, "30 s"),
    b"other": ContractError(URL, "it serves /secret/path"),
}


@pytest.fixture(scope="module")
def web():
    with running_web(
        client=FakeClient(errors=ERRORS), max_images=4, max_image_bytes=100_000, max_request_bytes=300_000
    ) as running:
        yield running


def post(web, data=b"photo", kind="image/jpeg", query="", **headers):
    return requests.post(f"{web.url}/v1/faces{query}", data=data, headers={"Content-Type": kind, **headers}, timeout=10)


def as_json(web, **values):
    return post(web, json.dumps(values), "application/json")


def encoded(data):
    return base64.b64encode(data).decode()


def of(answer, status, kind):
    """The problem that an answer is."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == f"/docs#{kind}"
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    return problem


def test_a_raw_body_is_answered_with_its_faces(web):
    answer = post(web).json()
    (image,) = answer["images"]
    assert image["image_size"] == {"width": 200, "height": 100}
    assert image["faces_found"] == 5
    assert image["faces"] == [face.to_dict() for face in FACES]
    assert image["faces"][2]["uncertain_reasons"] == ["too small", "low confidence"]
    assert answer["model_version"] == "v1"
    assert "not what a person feels" in answer["notice"]
    assert answer["total_ms"] >= image["inference_ms"] >= 0 <= image["wait_ms"]


def test_the_types_of_the_answer_hold_all_that_the_client_tells_of_a_face():
    """A member that the client adds would be lost without a word."""
    assert {field.name for field in msgspec.structs.fields(Face)} == set(FACES[0].to_dict())


def test_many_files_of_a_form_are_answered_in_their_order(web):
    files = [("image", (f"{i}.jpg", f"slow{0.2 - 0.1 * i}".encode())) for i in range(3)]
    answer = requests.post(f"{web.url}/v1/faces", files=files, timeout=10).json()
    assert [(image["index"], image["name"]) for image in answer["images"]] == [(0, "0.jpg"), (1, "1.jpg"), (2, "2.jpg")]


def test_pictures_in_json_are_answered(web):
    answer = as_json(
        web, images=[{"data": encoded(b"photo"), "name": "a.jpg"}, {"data": encoded(b"refused")}], max_faces=1
    )
    good, bad = answer.json()["images"]
    assert len(good["faces"]) == 1
    assert good["name"] == "a.jpg"
    assert bad["error"]["image"] == 1
    assert bad["error"]["detail"] == "IMAGE: it is no picture"
    assert web.client.asked[-2:] == [b"photo", b"refused"]


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("?min_confidence=0.5", FACES[:2]),
        ("?min_face_px=20", FACES[:2]),
        ("?max_faces=1", FACES[:1]),
        ("?min_face_px=50&max_faces=5", FACES[:1]),
        ("?min_confidence=1", ()),
    ],
)
def test_options_leave_faces_out(web, query, kept):
    (image,) = post(web, query=query).json()["images"]
    assert [face["box"]["x_min"] for face in image["faces"]] == [face.box.x_min for face in kept]
    assert image["faces_found"] == 5


def test_options_may_be_fields_of_a_form(web):
    answer = requests.post(
        f"{web.url}/v1/faces", files={"image": b"photo"}, data={"max_faces": "2", "cropped": "false"}, timeout=10
    )
    assert len(answer.json()["images"][0]["faces"]) == 2


def test_options_of_the_query_go_before_those_of_a_json_body(web):
    body = json.dumps({"images": [{"data": encoded(b"photo")}], "max_faces": 2.0, "min_confidence": 0.8})
    (image,) = post(web, body, "application/json", query="?min_confidence=0").json()["images"]
    assert len(image["faces"]) == 2


def test_a_cropped_face_has_no_place(web):
    (image,) = post(web, query="?cropped=true").json()["images"]
    (face,) = image["faces"]
    assert face["emotion"] == "happy"
    assert not {"box", "landmarks", "detection_score"} & set(face)


def test_the_drawn_picture_is_upright_and_has_the_boxes(web):
    """The file is stored lying on its side, and twelve pixels are outside the faces."""
    stored = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 200), "navy").save(stored, "PNG", exif=exif)
    (image,) = post(web, stored.getvalue(), query="?annotate=true&max_faces=1").json()["images"]
    assert image["annotated"]["content_type"] == "image/jpeg"
    drawn = Image.open(io.BytesIO(base64.b64decode(image["annotated"]["data"])))
    assert drawn.size == (200, 100)
    red, green, blue = drawn.getpixel((140, 84))  # the lower edge of the largest face
    assert min(red, green) > blue  # yellow, whatever JPEG makes of a thin line on navy
    red, green, blue = drawn.getpixel((30, 60))
    assert max(red, green) < 40 < blue


def test_a_picture_that_cannot_be_drawn_on_says_so(web):
    assert "cannot be drawn on" in of(post(web, query="?annotate=true"), 422, "image-refused")["detail"]


@pytest.mark.parametrize(
    ("picture", "status", "kind"),
    [
        (b"refused", 422, "image-refused"),
        (b"busy", 503, "overloaded"),
        (b"gone", 503, "model-unreachable"),
        (b"late", 504, "model-timeout"),
        (b"other", 502, "model-failed"),
    ],
)
def test_what_the_model_server_fails_at_is_a_problem_without_its_secrets(web, picture, status, kind):
    answer = post(web, picture)
    of(answer, status, kind)
    assert ("Retry-After" in answer.headers) == (status == 503)
    for secret in ("model.internal", "secret", "ensemble", "request id"):
        assert secret not in answer.text.replace("request_id", "")


@pytest.mark.parametrize(
    ("data", "kind", "status", "problem"),
    [
        (b"", "image/jpeg", 400, "malformed-request"),
        (b"photo", "text/plain", 415, "unsupported-media-type"),
        (b"photo", "", 415, "unsupported-media-type"),
        (b"x" * 100_001, "image/jpeg", 413, "too-large"),
        (b"x" * 300_001, "image/jpeg", 413, "too-large"),
        (b"{", "application/json", 400, "malformed-request"),
        (b"[" * 100_000, "application/json", 400, "malformed-request"),
        (b'{"images":[],"x":' + b"[" * 100_000, "application/json", 400, "malformed-request"),
        (b'{"images": []}', "application/json", 400, "malformed-request"),
        (b'{"images": [{"data": "data:image/png;base64,AAAA"}]}', "application/json", 400, "malformed-request"),
        (b'{"images": [{"data": "AAAA"}], "max_facse": 1}', "application/json", 400, "malformed-request"),
        (b'{"images": [{"data": "AAAA"}], "cropped": "true"}', "application/json", 400, "malformed-request"),
        (b"\xff\xfe", "application/json", 400, "malformed-request"),
    ],
)
def test_a_body_that_is_not_what_it_should_be_is_refused(web, data, kind, status, problem):
    of(post(web, data, kind), status, problem)


@pytest.mark.parametrize(
    "query", ["?max_faces=0", "?max_faces=1.5", "?max_faces=x", "?min_confidence=2", "?cropped=maybe", "?unknown=1"]
)
def test_options_that_make_no_sense_are_refused_by_name(web, query):
    problem = of(post(web, query=query), 400, "malformed-request")
    assert query[1:].partition("=")[0] in problem["detail"]


def test_too_many_pictures_are_refused(web):
    files = [("image", ("a.jpg", b"photo"))] * 5
    of(requests.post(f"{web.url}/v1/faces", files=files, timeout=10), 413, "too-large")
    of(as_json(web, images=[{"data": "AAAA"}] * 5), 413, "too-large")


def test_a_compressed_body_is_refused(web):
    of(post(web, **{"Content-Encoding": "gzip"}), 415, "unsupported-media-type")


def test_names_lose_their_folders_and_what_does_not_print(web):
    answer = as_json(web, images=[{"data": encoded(b"photo"), "name": "../../etc/\x00pass\u202ewd\n.jpg"}])
    assert answer.json()["images"][0]["name"] == "passwd.jpg"


def test_pictures_wait_for_their_turn_and_are_refused_when_that_takes_too_long():
    client = FakeClient()
    with running_web(client=client, concurrency=2, wait_s=0.3) as web:
        files = [("image", (f"{i}.jpg", b"slow0.6")) for i in range(3)]
        answer = requests.post(f"{web.url}/v1/faces", files=files, timeout=10).json()
        assert sum("error" in image for image in answer["images"]) == 1
        assert client.most == 2
        files = [("image", (f"{i}.jpg", b"slow0.1")) for i in range(4)]
        answer = requests.post(f"{web.url}/v1/faces", files=files, timeout=10).json()
        assert [image["wait_ms"] >= 90 for image in answer["images"]] == [False, False, True, True]


def test_more_requests_than_there_is_room_for_are_told_to_come_back():
    with running_web(client=FakeClient(), max_requests=0) as web:
        answer = post(web)
        of(answer, 503, "overloaded")
        assert int(answer.headers["Retry-After"]) >= 1


def test_bodies_are_held_within_a_bound_of_all_requests_together():
    with running_web(client=FakeClient(), max_buffered_bytes=1000) as web:
        of(post(web, b"x" * 1001), 503, "overloaded")
        assert post(web, b"x" * 1000).status_code == 200  # What was held is returned.
        assert "fer_web_buffered_bytes 0.0" in requests.get(f"{web.url}/metrics", timeout=5).text


def test_a_client_that_leaves_cancels_its_work():
    client = FakeClient()
    with running_web(client=client) as web:
        with pytest.raises(requests.Timeout):
            requests.post(f"{web.url}/v1/faces", b"slow", headers={"Content-Type": "image/png"}, timeout=0.5)
        wait_until(lambda: client.cancelled == 1)
        wait_until(lambda: 'status="499"' in requests.get(f"{web.url}/metrics", timeout=5).text)
        assert post(web).status_code == 200


def test_a_client_that_sends_too_many_pictures_waits():
    with running_web(client=FakeClient(), images_per_s=2, max_images=3) as web:
        files = [("image", ("a.jpg", b"photo"))] * 3
        assert requests.post(f"{web.url}/v1/faces", files=files, timeout=10).status_code == 200
        answer = post(web)
        of(answer, 429, "rate-limited")
        assert answer.headers["Retry-After"] == "1"


def test_a_defect_is_a_problem_that_tells_nothing():
    client = FakeClient(errors={b"photo": KeyError("/secret/path")})
    with running_web(client=client) as web:
        answer = post(web)
        of(answer, 500, "internal-error")
        assert "secret" not in answer.text


def test_another_network_is_noticed():
    """The client keeps what it has learnt of a server, so that another one has to be made."""
    made = []

    def make_client():
        made.append(FakeClient(version="v1" if len(made) < 1 else "v2"))
        return made[-1]

    settings = Settings(URL, Limits())
    service = app._Service(settings, make_client)

    async def look():
        async with service.lifespan(None):
            assert (await service._model.predict(b"photo", cropped=False)).prediction.model_version == "v1"
            await service._model.check_ready()
            return (await service._model.predict(b"photo", cropped=False)).prediction.model_version

    assert asyncio.run(look()) == "v2"
    assert made[0].closed == 1


def test_labels_limits_and_prohibited_uses_are_told(web):
    model = requests.get(f"{web.url}/v1/model", timeout=5).json()
    assert model["labels"] == list(LABELS)
    assert model["quality_bounds"] == [{"column": "eye_distance_px", "min": 8, "max": None, "reason": "too small"}]
    assert model["limits"]["max_images"] == 4
    assert model["limits"]["max_image_bytes"] == 1000  # The lower one of both.
    assert any("workplaces or education" in use for use in model["prohibited_uses"])
    assert "secret" not in json.dumps(model)


def test_readiness_is_a_real_inference_that_is_kept_for_a_moment():
    client = FakeClient()
    with running_web(client=client) as web:
        for _ in range(5):
            assert requests.get(f"{web.url}/readyz", timeout=5).json() == {"status": "ready"}
        assert client.health_checks == 1
    broken = FakeClient(errors={b"health": ServerUnreachableError(URL, "refused")})
    with running_web(client=broken) as web:
        of(requests.get(f"{web.url}/readyz", timeout=5), 503, "model-unreachable")
        assert requests.get(f"{web.url}/healthz", timeout=5).json() == {"status": "alive"}


def test_tokens_are_asked_for_where_pictures_and_counts_are():
    settings = Settings(URL, tokens=Tokens([TOKEN]))
    with running_web(settings, FakeClient()) as web:
        for path in ("/v1/model", "/metrics"):
            answer = requests.get(web.url + path, timeout=5)
            of(answer, 401, "unauthorized")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert requests.get(web.url + path, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=5).ok
        of(post(web, Authorization="Bearer wrong"), 401, "unauthorized")
        of(post(web, Authorization=f"Basic {TOKEN}"), 401, "unauthorized")
        assert post(web, Authorization=f"bearer {TOKEN}").ok
        for path in ("/healthz", "/readyz", "/", "/docs", "/openapi.json"):
            assert requests.get(web.url + path, timeout=5).ok
