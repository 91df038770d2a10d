"""fer_search: small faces are found, faces that are none are not, and a portrait is looked at once."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import intersection_over_union

from fer_bench.pictures import make_busy_picture, make_scene, read_photo
from fer_detector import YUNET, Detections, open_network
from fer_scaling import scale_to
from fer_search import FaceSearch, SearchSettings, roll, upright_square

FOLDER = os.environ.get("FER_PHOTOS_DIR")
FACES_IN = {"astronaut.png": 1, "biden.jpg": 1, "obama3.jpg": 1, "sample2.jpg": 3}


class Counting:
    """The network, and what it was shown."""

    def __init__(self):
        self._network = open_network(YUNET)
        self.shown = []

    def look(self, pixels, min_score):
        self.shown.append(pixels.shape[:2])
        return self._network.look(pixels, min_score)


@pytest.fixture(scope="module")
def search() -> FaceSearch:
    return FaceSearch(open_network(YUNET))


def photo_of(side, angle=0.0, light=1.0):
    """The astronaut at another size, turned, darkened."""
    photo = read_photo()
    turned = cv2.warpAffine(photo, cv2.getRotationMatrix2D((223, 118), angle, 1), (512, 512))
    small = cv2.resize(turned, (side, side), interpolation=cv2.INTER_AREA if side < 512 else cv2.INTER_CUBIC)
    return np.rint(small * light).astype(np.uint8)


def found_of(scene, detections):
    """How many of the faces in a scene were found, and how many others."""
    hits = [max((intersection_over_union(np.array(b), f) for f in detections.boxes), default=0) for b in scene.boxes]
    return sum(hit > 0.4 for hit in hits), len(detections.boxes)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("face_px", [30, 50, 80])
def test_ten_of_ten_small_faces_in_full_hd(search, seed, face_px):
    scene = make_scene(seed, 1920, 1080, face_px)
    assert found_of(scene, search.detect(scene.picture)) == (10, 10)


@pytest.mark.parametrize(("side", "blur", "covered"), [(160, 8, None), (160, 6, (0.55, 0.95)), (224, 6, (0.2, 0.45))])
def test_a_face_that_fills_the_picture_is_found_although_it_is_badly_seen(search, side, blur, covered):
    face = cv2.resize(read_photo()[55:185, 170:280], (side * 110 // 130, side), interpolation=cv2.INTER_CUBIC)
    face = cv2.GaussianBlur(face, (0, 0), blur)
    if covered:
        face[int(side * covered[0]) : int(side * covered[1])] = 200
    assert len(search.detect(np.asarray(face, np.uint8)).scores) == 1


@pytest.mark.parametrize("side", [92, 128, 256])
def test_a_lit_face_in_front_of_black_is_found(search, side):
    """The picture is dark and the face is not: made lighter, it would be burnt out."""
    stage = np.zeros((480, 640, 3), np.uint8)
    stage[100 : 100 + side, 200 : 200 + side] = photo_of(side)
    assert len(search.detect(stage).scores) == 1


def test_without_a_second_look_they_are_missed():
    search = FaceSearch(open_network(YUNET), SearchSettings(second_look_px=0))
    scene = make_scene(0, 1920, 1080, 50)
    assert found_of(scene, search.detect(scene.picture))[0] < 5


def test_a_panorama_shows_its_faces(search):
    """Its 600 px are 21 at the first look."""
    picture = np.full((600, 9000, 3), 120, np.uint8)
    head = cv2.resize(read_photo()[10:210, 123:323], (500, 500), interpolation=cv2.INTER_CUBIC)
    for x in range(300, 9000, 1500):
        picture[50:550, x : x + 500] = head
    assert len(search.detect(scale_to(picture, 2250, 150)).scores) == 6


@pytest.mark.parametrize(("width", "height"), [(640, 480), (1280, 720), (2000, 1500)])
def test_a_portrait_is_looked_at_once(width, height):
    network = Counting()
    scene = make_scene(1, width, height, height // 3, faces=1)
    assert found_of(scene, FaceSearch(network).detect(scene.picture)) == (1, 1)
    assert network.shown == [(round(320 * height / width), 320)]


def test_a_picture_without_a_face_costs_no_more_than_it_has_px():
    network = Counting()
    assert not len(FaceSearch(network).detect(np.full((200, 300, 3), 90, np.uint8)).scores)
    assert network.shown == [(200, 300)]


@pytest.mark.parametrize("seed", range(100))
def test_nothing_is_invented_in_a_busy_picture(search, seed):
    """The other 900: python -m fer_bench detection --invented 1000."""
    found = search.detect(make_busy_picture(seed))
    assert not len(found.scores), found


def test_without_close_looks_faces_would_be_invented():
    careless = FaceSearch(open_network(YUNET), SearchSettings(sure_score=0.3))
    assert sum(len(careless.detect(make_busy_picture(seed)).scores) for seed in range(100)) >= 10


@pytest.mark.parametrize("light", [1.0, 0.3, 0.1])
@pytest.mark.parametrize("angle", [-30, -15, 0, 15, 30])
@pytest.mark.parametrize("side", [160, 320, 700])
def test_the_astronaut_is_found_turned_and_in_the_dark(search, side, angle, light):
    found = search.detect(photo_of(side, angle, light))
    assert len(found.scores) == 1
    centre = (found.boxes[0, :2] + found.boxes[0, 2:]) / 2
    assert np.allclose(centre * 512 / side, [223, 118], atol=12)


@pytest.mark.parametrize("cut", [(0, 0, 330, 512), (140, 30, 512, 300), (150, 40, 300, 200), (100, 80, 400, 512)])
def test_the_astronaut_is_found_in_a_crop(search, cut):
    left, top, right, bottom = cut
    assert len(search.detect(np.ascontiguousarray(read_photo()[top:bottom, left:right])).scores) == 1


@pytest.mark.skipif(not FOLDER, reason="FER_PHOTOS_DIR is not set")
@pytest.mark.parametrize("name", FACES_IN)
@pytest.mark.parametrize("side", [320, 1000])
def test_every_face_of_the_photos_and_none_else(search, name, side):
    photo = cv2.imread(str(Path(FOLDER) / name))
    scale = min(1.0, side / max(photo.shape[:2]))
    small = scale_to(photo, round(photo.shape[1] * scale), round(photo.shape[0] * scale))
    assert len(search.detect(small).scores) == FACES_IN[name]


def test_close_looks_are_of_the_best_candidates_only():
    class Everywhere:
        looks = 0

        def look(self, pixels, min_score):
            self.looks += 1
            count = 500 if pixels.shape[:2] != (160, 160) else 0
            corners = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
            return Detections(
                np.concatenate([corners, corners + 1], axis=1),
                np.zeros((count, 5, 2), np.float32),
                np.full(count, 0.5, np.float32),
            )

    network = Everywhere()
    assert not len(FaceSearch(network).detect(np.full((1000, 1000, 3), 128, np.uint8)).scores)
    assert network.looks == 2 * (1 + 64)


def test_an_upright_square_and_the_way_back():
    """A face that is turned stands upright in the square, and what is found there is brought back to its place."""
    image = np.zeros((400, 600, 3), np.uint8)
    angle = np.deg2rad(25)
    across = np.array([np.cos(angle), np.sin(angle)])
    centre = np.array([350, 150], np.float32)
    eyes = [centre - 40 * across, centre + 40 * across]
    for x, y in eyes:
        cv2.circle(image, (round(x * 16 - 8), round(y * 16 - 8)), 16 * 6, (255, 255, 255), -1, cv2.LINE_AA, 4)
    landmarks = np.array([*eyes, centre, *eyes], np.float32)
    assert np.isclose(roll(landmarks), angle, atol=1e-3)
    view, to_view = upright_square(image, centre, 200, angle, 160)
    rows, columns = np.mgrid[:160, :160] + 0.5
    for side, expected in ((columns < 80, [48, 80]), (columns > 80, [112, 80])):
        light = np.where(side, view[..., 0], 0).astype(float)
        seen = np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()
        assert np.allclose(seen, expected, atol=0.5)
    back = Detections(np.array([[72, 72, 88, 88]], np.float32), landmarks[None], np.ones(1, np.float32))
    assert np.allclose(back.turned(np.linalg.inv(to_view)).boxes, [[340, 140, 360, 160]], atol=0.1)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"side_px": 31}, "side_px must be at least 32"),
        ({"second_look_px": -1}, "second_look_px and small_face_px at least 0"),
        ({"min_score": 1.5}, "min_score must be 0..1, not 1.5"),
    ],
)
def test_settings_without_sense_are_refused(wrong, complaint):
    with pytest.raises(ValueError, match=complaint):
        SearchSettings(**wrong)


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match="detector must be one of yunet, not 'haar'"):
        open_network("haar")
