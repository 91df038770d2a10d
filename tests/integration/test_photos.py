"""Pictures that must be answered, by the real server: faces in them or not."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from pictures import STORED_AS, contact_sheet, encode, encode_png_rows, encode_turned, intersection_over_union
from PIL import Image, ImageOps
from raw_requests import ask_http, infer_request

from fer_bench.pictures import make_scene
from fer_build.release import SERVED_ONNX, SERVED_RUNTIME
from fer_contract import (
    BOXES,
    DETECTION_SCORES,
    FACES_FOUND,
    FER_CROPPED_MODEL,
    IMAGE_SIZE,
    LABELS,
    LANDMARKS,
    MAX_FACES,
    PROBABILITIES,
    QUALITY,
    QUALITY_COLUMNS,
)
from fer_runtimes import open_classifier

ASTRONAUT_BOX = np.array([179, 62, 267, 173], np.float32)
ASTRONAUT = "astronaut.png"
FACES_IN = {ASTRONAUT: 1, "biden.jpg": 1, "obama3.jpg": 1, "sample2.jpg": 3}
"""Photos and how many faces one sees in them. All but the first are not ours to ship: they are looked for in the folder
that FER_PHOTOS_DIR names."""


@pytest.fixture(scope="module")
def photo(astronaut: bytes) -> Image.Image:
    return Image.open(io.BytesIO(astronaut)).convert("RGB")


def assert_is_the_astronaut(answer):
    assert answer[BOXES].shape == (1, 4)
    assert intersection_over_union(answer[BOXES][0], ASTRONAUT_BOX) > 0.9
    assert answer[DETECTION_SCORES][0] > 0.8
    assert LABELS[int(answer[PROBABILITIES][0].argmax())] == "happy"


def assert_fits_the_contract(answer):
    count = len(answer[BOXES])
    assert answer[BOXES].shape == (count, 4)
    assert answer[LANDMARKS].shape == (count, 5, 2)
    assert answer[DETECTION_SCORES].shape == (count,)
    assert answer[PROBABILITIES].shape == (count, len(LABELS))
    integers = (IMAGE_SIZE, FACES_FOUND)
    assert {array.dtype.name for name, array in answer.items() if name not in integers} == {"float32"}
    assert {answer[name].dtype.name for name in integers} == {"int32"}
    assert answer[FACES_FOUND].shape == (1,)
    assert answer[QUALITY].shape == (count, len(QUALITY_COLUMNS))
    assert np.isfinite(answer[QUALITY]).all()
    assert answer[FACES_FOUND][0] == count or (count == MAX_FACES and answer[FACES_FOUND][0] > count)
    assert np.allclose(answer[PROBABILITIES].sum(axis=1), 1, atol=1e-4)
    assert ((answer[DETECTION_SCORES] >= 0) & (answer[DETECTION_SCORES] <= 1)).all()


def test_the_astronaut_smiles(infer, astronaut):
    answer = infer(astronaut)
    assert_fits_the_contract(answer)
    assert_is_the_astronaut(answer)
    assert answer[IMAGE_SIZE].tolist() == [512, 512]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP"])
def test_every_accepted_format_gives_the_same_face(infer, photo, format):
    assert_is_the_astronaut(infer(encode(photo, format)))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda photo: encode(photo.convert("CMYK"), "JPEG"), id="CMYK JPEG"),
        pytest.param(lambda photo: encode(photo.convert("L"), "JPEG"), id="gray JPEG"),
        pytest.param(lambda photo: encode(photo, "JPEG", progressive=True), id="progressive JPEG"),
        pytest.param(lambda photo: encode(photo.convert("L")), id="gray PNG"),
        pytest.param(lambda photo: encode(photo.convert("P")), id="palette PNG"),
        pytest.param(lambda photo: encode(photo.convert("RGBA")), id="RGBA PNG"),
        pytest.param(lambda photo: encode_png_rows(np.asarray(photo).astype(np.uint16) * 257, 2), id="16-bit PNG"),
        pytest.param(
            lambda photo: encode_png_rows(np.asarray(photo.convert("L"))[..., None].astype(np.uint16) * 257, 0),
            id="16-bit gray PNG",
        ),
    ],
)
def test_every_kind_of_pixel_gives_the_same_face(infer, photo, data):
    assert_is_the_astronaut(infer(data(photo)))


@pytest.mark.parametrize("orientation", STORED_AS)
def test_every_exif_orientation_gives_the_same_face(infer, photo, orientation):
    upright = photo.crop((0, 0, 512, 400))
    answer = infer(encode_turned(upright, orientation))
    assert answer[IMAGE_SIZE].tolist() == [512, 400]
    assert_is_the_astronaut(answer)


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (640, 480)])
def test_no_face_is_a_result(infer, size):
    answer = infer(encode(Image.new("RGB", size, "olive")))
    assert_fits_the_contract(answer)
    assert len(answer[BOXES]) == 0
    assert answer[IMAGE_SIZE].tolist() == list(size)


def test_of_40_faces_the_32_largest_are_answered(infer, photo):
    answer = infer(encode(contact_sheet(photo.crop((150, 20, 300, 220)), 8, 5)))
    assert_fits_the_contract(answer)
    areas = np.prod(answer[BOXES][:, 2:] - answer[BOXES][:, :2], axis=1)
    assert len(areas) == MAX_FACES
    assert (np.diff(areas) <= 0).all()
    assert answer[FACES_FOUND].tolist() == [40]


def test_a_12_megapixel_photo_is_answered_in_its_own_coordinates(infer, photo):
    large = Image.new("RGB", (4000, 3000))
    large.paste(photo.resize((2048, 2048)), (1000, 500))
    answer = infer(encode(large, "JPEG"))
    assert answer[IMAGE_SIZE].tolist() == [4000, 3000]
    expected = ASTRONAUT_BOX * 4 + [1000, 500, 1000, 500]
    assert intersection_over_union(answer[BOXES][0], expected.astype(np.float32)) > 0.85


def test_a_ready_crop_is_classified_as_it_is(infer):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
    answer = infer(encode(Image.fromarray(pixels)), FER_CROPPED_MODEL)
    expected = open_classifier(SERVED_ONNX, SERVED_RUNTIME, threads=1)(pixels[None, None])
    assert np.allclose(answer[PROBABILITIES], expected, atol=1e-5)
    assert answer[IMAGE_SIZE].tolist() == [48, 48]


def test_a_crop_is_not_searched_for_faces(infer):
    answer = infer(encode(Image.new("RGB", (300, 200), "navy"), "JPEG"), FER_CROPPED_MODEL)
    assert answer[PROBABILITIES].shape == (1, len(LABELS))
    assert answer[IMAGE_SIZE].tolist() == [300, 200]


def resized(photo: Image.Image, factor: float) -> Image.Image:
    return photo.resize((round(photo.width * factor), round(photo.height * factor)))


VARIANTS: dict[str, tuple[float, Callable[[Image.Image], bytes]]] = {
    **{kind: (1, lambda photo, kind=kind: encode(photo, kind)) for kind in ("JPEG", "PNG", "WEBP", "BMP")},
    **{
        f"EXIF orientation {orientation}": (1, lambda photo, o=orientation: encode_turned(photo, o))
        for orientation in STORED_AS
    },
    "half size": (0.5, lambda photo: encode(resized(photo, 0.5))),
    "double size": (2, lambda photo: encode(resized(photo, 2), "JPEG")),
}
"""What is done to the picture, and by which factor its coordinates change."""


@pytest.fixture(scope="module", params=FACES_IN)
def real_photo(request, astronaut) -> tuple[bytes, int]:
    """The bytes of a photo that a camera has taken, and the number of faces in it."""
    if request.param == ASTRONAUT:
        return astronaut, FACES_IN[ASTRONAUT]
    folder = os.environ.get("FER_PHOTOS_DIR")
    if not folder or not (Path(folder) / request.param).is_file():
        pytest.skip(f"FER_PHOTOS_DIR names no folder with {request.param} in it")
    return (Path(folder) / request.param).read_bytes(), FACES_IN[request.param]


def boxes_in(server, data):
    answer = ask_http(server.http_url, infer_request(data))
    assert answer.status == 200, answer.message
    return answer.arrays[BOXES]


def test_every_face_in_a_photo_is_found_and_none_is_invented(server, real_photo):
    data, count = real_photo
    assert len(boxes_in(server, data)) == count


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_photo_has_the_same_faces_in_another_form(server, real_photo, variant):
    data, count = real_photo
    factor, change = VARIANTS[variant]
    photo = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    expected, found = boxes_in(server, data), boxes_in(server, change(photo)) / factor
    assert len(found) == count
    for box in expected:
        assert max(intersection_over_union(box, other) for other in found) > 0.9


def test_a_panorama_shows_all_its_faces(infer, photo):
    """9000x600 px are 320x21 at the first look."""
    head = photo.crop((123, 10, 323, 210)).resize((560, 560))
    panorama = Image.new("RGB", (9000, 600), "gray")
    for x in range(200, 9000, 1500):
        panorama.paste(head, (x, 20))
    answer = infer(encode(panorama, "JPEG", quality=90))
    assert_fits_the_contract(answer)
    assert len(answer[BOXES]) == 6
    assert sorted(round(float(box[0] - 200 - 157) / 1500) for box in answer[BOXES]) == list(range(6))
    assert {LABELS[int(row.argmax())] for row in answer[PROBABILITIES]} == {"happy"}


def test_ten_small_faces_in_full_hd_are_answered(infer):
    scene = make_scene(0, 1920, 1080, 50)
    answer = infer(encode(Image.fromarray(scene.picture[..., ::-1]), "JPEG", quality=90))
    assert len(answer[BOXES]) == 10
    for box in scene.boxes:
        assert max(intersection_over_union(np.array(box), found) for found in answer[BOXES]) > 0.5


def test_the_detector_s_library_is_not_in_the_server(server, repository):
    """Its weights are; no process that serves maps the library they come from."""
    listed = psutil.process_iter(["cmdline"])
    stubs = [
        process for process in listed if f"{repository}/fer_preprocess/" in " ".join(process.info["cmdline"] or [])
    ]
    assert stubs
    for stub in stubs:
        assert "facedetection" not in Path(f"/proc/{stub.pid}/maps").read_text()
