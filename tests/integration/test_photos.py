"""Pictures that must be answered, by the real server: faces in them or not."""

import io

import numpy as np
import pytest
from pictures import STORED_AS, contact_sheet, encode, encode_png_rows, encode_turned, intersection_over_union
from PIL import Image

from fer_build.release import SERVED_ONNX, SERVED_RUNTIME
from fer_contract import (
    BOXES,
    DETECTION_SCORES,
    FER_CROPPED_MODEL,
    IMAGE_SIZE,
    LABELS,
    LANDMARKS,
    MAX_FACES,
    PROBABILITIES,
)
from fer_runtimes import open_classifier

ASTRONAUT_BOX = np.array([179, 62, 267, 173], np.float32)


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
    assert {array.dtype.name for name, array in answer.items() if name != IMAGE_SIZE} == {"float32"}
    assert answer[IMAGE_SIZE].dtype == np.int32
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
