"""fer_faces and fer_detector: where faces are found, and that crops land in FER2013's frame."""

import io

import cv2
import numpy as np
import pytest
from pictures import contact_sheet, encode, intersection_over_union
from PIL import Image

import fer_faces
from fer_contract import MAX_FACES
from fer_detector import YUNET, Detections, open_network
from fer_faces import FER2013_LANDMARKS, align_face, find_faces, read_face_crop, similarity_transform
from fer_images import ImageLimits
from fer_search import FaceSearch

LIMITS = ImageLimits()
ASTRONAUT_BOX = np.array([179, 62, 267, 173], np.float32)


@pytest.fixture(scope="module")
def detector() -> FaceSearch:
    return FaceSearch(open_network(YUNET))


class FixedDetector:
    """Says the same whatever it is shown."""

    def __init__(self, boxes, landmarks=None):
        self._boxes = np.array(boxes, np.float32).reshape(-1, 4)
        count = len(self._boxes)
        self._landmarks = np.tile(FER2013_LANDMARKS, (count, 1, 1)) if landmarks is None else landmarks

    def detect(self, image):
        return Detections(self._boxes, self._landmarks, np.ones(len(self._boxes), np.float32))


def test_the_astronaut_has_one_face(astronaut, detector):
    faces = find_faces(astronaut, detector, LIMITS)
    assert faces.image_size.tolist() == [512, 512]
    assert intersection_over_union(faces.boxes[0], ASTRONAUT_BOX) > 0.9
    assert faces.scores[0] > 0.8
    right_eye, left_eye, nose, right_mouth, left_mouth = faces.landmarks[0]
    assert right_eye[0] < nose[0] < left_eye[0]  # the person's right is on the left of the image
    assert right_mouth[0] < left_mouth[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_mouth[1], left_mouth[1])


@pytest.mark.parametrize("scale", [0.5, 2, 8])
def test_the_face_is_the_same_at_every_size(astronaut, detector, scale):
    side = round(512 * scale)
    photo = Image.open(io.BytesIO(astronaut)).convert("RGB").resize((side, side))
    (box,) = find_faces(encode(photo, "JPEG", quality=95), detector, LIMITS).boxes
    assert intersection_over_union(box / scale, ASTRONAUT_BOX) > 0.85


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (31, 33), (640, 480)])
def test_no_face_is_a_result(detector, size):
    faces = find_faces(encode(Image.new("RGB", size, "teal")), detector, LIMITS)
    assert faces.boxes.shape == (0, 4)
    assert faces.landmarks.shape == (0, 5, 2)
    assert faces.scores.shape == (0,)
    assert faces.crops.shape == (0, 1, 48, 48)
    assert faces.found == 0


def test_of_40_faces_the_32_largest_are_kept(astronaut, detector):
    face = Image.open(io.BytesIO(astronaut)).convert("RGB").crop((150, 20, 300, 220))
    faces = find_faces(encode(contact_sheet(face, 8, 5)), detector, LIMITS)
    areas = np.prod(faces.boxes[:, 2:] - faces.boxes[:, :2], axis=1)
    assert len(areas) == MAX_FACES
    assert (np.diff(areas) <= 0).all()
    assert faces.found == 40


def test_boxes_stay_inside_the_image():
    faces = find_faces(encode(Image.new("RGB", (100, 80))), FixedDetector([[-10, -5, 130, 90]]), LIMITS)
    assert faces.boxes.tolist() == [[0, 0, 100, 80]]


@pytest.mark.parametrize("scale", [0.5, 1, 3, 12])
def test_landmarks_land_where_fer2013_has_them(scale):
    """Bright dots on the landmarks of a turned and scaled face show up in the frame's places."""
    angle = np.deg2rad(20)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = (FER2013_LANDMARKS @ turn.T + 40 * scale).astype(np.float32)
    image = np.zeros((int(120 * scale), int(120 * scale), 3), np.uint8)
    for x, y in landmarks:
        cv2.circle(image, (round(x * 16), round(y * 16)), round(2 * scale * 16), (255, 255, 255), -1, cv2.LINE_AA, 4)
    crop = align_face(image, landmarks)
    rows, columns = np.mgrid[:48, :48]
    for x, y in FER2013_LANDMARKS:
        near = np.where(np.hypot(columns - x, rows - y) < 5, crop, 0).astype(float)
        assert np.allclose([(near * columns).sum() / near.sum(), (near * rows).sum() / near.sum()], [x, y], atol=0.35)


def test_a_face_beyond_the_edge_repeats_the_edge():
    image = np.full((60, 60, 3), 90, np.uint8)
    assert (align_face(image, FER2013_LANDMARKS - 30) == 90).all()


def test_landmarks_in_one_point_still_give_a_crop():
    assert align_face(np.zeros((60, 60, 3), np.uint8), np.full((5, 2), 30, np.float32)).shape == (48, 48)


def test_similarity_transform_recovers_a_known_one():
    rng = np.random.default_rng(0)
    source = rng.normal(size=(5, 2)).astype(np.float32)
    known = np.array([[0.6, -0.8, 3], [0.8, 0.6, -4]])
    found = similarity_transform(source, (source @ known[:, :2].T + known[:, 2]).astype(np.float32))
    assert np.allclose(found, known, atol=1e-5)


def test_a_48_px_crop_is_taken_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
    crop, size = read_face_crop(encode(Image.fromarray(pixels)), LIMITS)
    assert np.array_equal(crop, pixels[None, None])
    assert size.tolist() == [48, 48]


@pytest.mark.parametrize("size", [(20, 30), (48, 96), (500, 400), (1, 1000)])
def test_any_other_crop_is_scaled(size):
    crop, found = read_face_crop(encode(Image.new("L", size, 77)), LIMITS)
    assert (crop == 77).all()
    assert crop.shape == (1, 1, 48, 48)
    assert found.tolist() == list(size)


def test_an_unused_corner_of_the_photo_is_not_turned_gray(monkeypatch, astronaut, detector):
    """The work for a crop depends on the face's size, not on the photo's."""
    converted = []
    turn_gray = cv2.cvtColor
    monkeypatch.setattr(
        fer_faces.cv2, "cvtColor", lambda image, code: converted.append(image.size) or turn_gray(image, code)
    )
    find_faces(astronaut, detector, LIMITS)
    assert converted[0] < 512 * 512 * 3 / 4
