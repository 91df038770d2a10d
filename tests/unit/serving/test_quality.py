"""fer_quality: pose from known heads, pixels of known sharpness and light, crops that reach over the edge."""

import io
import itertools

import cv2
import numpy as np
import pytest
from pictures import encode
from PIL import Image, ImageOps

from fer_contract import CROP_QUALITY_COLUMNS, QUALITY_COLUMNS
from fer_detector import YUNET, open_network
from fer_faces import FER2013_LANDMARKS, find_faces
from fer_images import ImageLimits
from fer_quality import HEAD_MODEL, estimate_pose, measure_crop, measure_faces
from fer_search import FaceSearch

HALF_A_METRE = 8.0
"""In eye distances of 63 mm: a phone held in the hand."""
POSES = list(itertools.product(range(-60, 61, 15), range(-30, 31, 15), (-90, -40, 0, 25)))
SIZE = np.array([640, 480], np.int32)
NOISE = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)


def turn(yaw, pitch, roll):
    """The rotation that turns a head to the right by its yaw, then up by its pitch, then clockwise by its roll."""
    across, up, clockwise = np.radians([-yaw, -pitch, roll])
    about_y = [[np.cos(across), 0, np.sin(across)], [0, 1, 0], [-np.sin(across), 0, np.cos(across)]]
    about_x = [[1, 0, 0], [0, np.cos(up), -np.sin(up)], [0, np.sin(up), np.cos(up)]]
    about_z = [[np.cos(clockwise), -np.sin(clockwise), 0], [np.sin(clockwise), np.cos(clockwise), 0], [0, 0, 1]]
    return np.array(about_z) @ about_x @ about_y


def project(head, pose, distance=None):
    """Landmarks in px of a head in a picture: from far away, or from so many eye distances."""
    x, y, depth = ((head - head.mean(axis=0)) @ turn(*pose).T).T
    nearness = 1 if distance is None else distance / (distance + depth)
    return np.stack([300 + 50 * x * nearness, 200 + 50 * y * nearness], axis=1).astype(np.float32)


def errors_of(head, distance=None):
    """(poses, 3): how far the estimates lie from the truth, in degrees."""
    found = [estimate_pose(project(head, pose, distance)) for pose in POSES]
    return np.abs(np.array(found) - POSES)


@pytest.mark.parametrize(
    ("pose", "looks"),
    [
        ((40, 0, 0), lambda points: points[2, 0] > (points[0, 0] + points[1, 0]) / 2),
        ((0, 20, 0), lambda points: points[2, 1] < project(HEAD_MODEL, (0, 0, 0))[2, 1]),
        ((0, 0, 30), lambda points: points[1, 1] > points[0, 1]),
    ],
    ids=["to the right", "up", "clockwise"],
)
def test_positive_angles_are_to_the_right_up_and_clockwise(pose, looks):
    points = project(HEAD_MODEL, pose)
    assert looks(points)
    assert estimate_pose(points) == pytest.approx(pose, abs=0.01)


def test_the_pose_of_a_known_head_is_found_exactly_from_afar():
    assert errors_of(HEAD_MODEL).max() < 0.01


def test_a_near_camera_adds_a_few_degrees():
    errors = errors_of(HEAD_MODEL, HALF_A_METRE)
    assert (errors.max(axis=0) < (3, 4, 2)).all(), errors.max(axis=0)


@pytest.mark.parametrize("change", [0.9, 1.1])
def test_a_nose_of_another_length_adds_a_few_degrees(change):
    head = HEAD_MODEL.copy()
    head[2, 2] *= change
    errors = errors_of(head)
    assert (errors.max(axis=0) < (4, 4, 2)).all(), errors.max(axis=0)


def test_landmarks_a_pixel_off_shake_the_pose_by_some_degrees():
    """In a crop of 48 px, where the eyes are 17 px apart."""
    rng = np.random.default_rng(0)
    points = project(HEAD_MODEL, (20, 0, 10)) * (17 / 50)
    found = np.array([estimate_pose((points + rng.normal(0, 1, (5, 2))).astype(np.float32)) for _ in range(500)])
    assert (found.std(axis=0) < (10, 10, 4)).all(), found.std(axis=0)
    assert np.abs(found.mean(axis=0) - (20, 0, 10)).max() < 2


def test_the_mean_face_of_fer2013_looks_into_the_camera():
    assert np.abs(estimate_pose(FER2013_LANDMARKS)).max() < 6


@pytest.mark.parametrize("landmarks", [np.full((5, 2), 30), np.outer(np.arange(5), [1, 2])])
def test_landmarks_on_one_line_have_no_pose(landmarks):
    assert estimate_pose(landmarks.astype(np.float32)) == (0, 0, 0)


def test_light_and_contrast_are_the_mean_and_the_deviation():
    _, brightness, contrast = measure_crop(NOISE)
    assert (brightness, contrast) == pytest.approx((NOISE.mean(), NOISE.std()), rel=1e-6)


def test_sharpness_is_that_of_white_noise_whatever_the_light():
    """Squares of the weights: 20 in the Laplacian (4 and four times -1), 2 in each of the two differences."""
    assert measure_crop(NOISE)[0] == pytest.approx((20 / 4) ** 0.5, rel=0.03)
    assert measure_crop(NOISE // 4)[0] == pytest.approx(measure_crop(NOISE)[0], rel=0.01)


def test_blur_takes_sharpness_away_step_by_step(astronaut):
    face = np.asarray(Image.open(io.BytesIO(astronaut)).convert("L").crop((174, 60, 274, 160)).resize((48, 48)))
    blurred = [measure_crop(np.asarray(cv2.GaussianBlur(face, (0, 0), deviation)))[0] for deviation in (0.5, 1, 2, 4)]
    assert (np.diff([measure_crop(face)[0], *blurred]) < 0).all()


def test_light_from_one_side_takes_no_sharpness_away(astronaut):
    face = np.asarray(Image.open(io.BytesIO(astronaut)).convert("L").crop((174, 60, 274, 160)).resize((48, 48)))
    lit = np.rint(face * np.linspace(1.0, 0.3, 48)).astype(np.uint8)
    assert measure_crop(lit)[0] == pytest.approx(measure_crop(face)[0], rel=0.1)


def test_one_gray_has_neither_sharpness_nor_contrast():
    assert measure_crop(np.full((48, 48), 77, np.uint8)) == (0, 77, 0)


def measure(landmarks):
    [row] = measure_faces(NOISE[None, None], landmarks[None].astype(np.float32), SIZE, FER2013_LANDMARKS)
    return dict(zip(QUALITY_COLUMNS, row.tolist(), strict=True))


@pytest.mark.parametrize(
    ("shift", "outside"),
    [
        ((100, 100), 0),
        ((0, 0), 0),
        ((-24, 0), 0.5),
        ((-24, -24), 0.75),
        ((640 - 12, 100), 0.75),
        ((100, 480 - 36), 0.25),
        ((-12, 480 - 36), 1 - 0.75 * 0.75),
        ((-48, 0), 1),
        ((5000, 5000), 1),
    ],
)
def test_the_part_of_a_crop_beyond_the_edge_is_measured(shift, outside):
    """With landmarks in the frame's own places, the crop is as large in the image as it is in itself."""
    assert measure(FER2013_LANDMARKS + np.float32(shift))["outside"] == pytest.approx(outside, abs=1e-4)


def test_a_turned_crop_in_a_corner_has_its_triangle_outside():
    """Turned by 45 degrees about its middle on the left edge, half of it is outside, and half of that below the top."""
    angle = np.radians(45)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    landmarks = (FER2013_LANDMARKS - 24) @ rotation
    assert measure(landmarks + np.array([0, 200]))["outside"] == pytest.approx(0.5, abs=1e-4)
    assert measure(landmarks)["outside"] == pytest.approx(0.75, abs=1e-4)


def test_no_face_gives_no_row():
    empty = np.zeros((0, 1, 48, 48), np.uint8), np.zeros((0, 5, 2), np.float32)
    assert measure_faces(*empty, SIZE, FER2013_LANDMARKS).shape == (0, len(QUALITY_COLUMNS))


@pytest.mark.parametrize(
    "landmarks", [np.zeros((5, 2)), np.full((5, 2), -1e6), np.array([[0, 0], [1e7, 1]] * 2 + [[5, 5]])]
)
def test_whatever_a_detector_says_the_measures_are_numbers(landmarks):
    values = measure(landmarks)
    assert np.isfinite(list(values.values())).all()
    assert 0 <= values["outside"] <= 1


@pytest.fixture(scope="module")
def portrait(astronaut):
    return Image.open(io.BytesIO(astronaut)).convert("RGB")


def faces_of(photo, **options):
    return find_faces(encode(photo, **options), FaceSearch(open_network(YUNET)), ImageLimits())


def qualities(photo, **options):
    found = faces_of(photo, **options).quality
    assert found.dtype == np.float32
    return [dict(zip(QUALITY_COLUMNS, row.tolist(), strict=True)) for row in found]


def test_the_astronaut_is_near_bright_and_whole(portrait):
    [found] = qualities(portrait)
    assert found["eye_distance_px"] == pytest.approx(39, abs=5)
    assert found["brightness"] == pytest.approx(faces_of(portrait).crops.mean(), abs=0.01)
    assert found["outside"] == 0
    assert max(abs(found["yaw_deg"]), abs(found["pitch_deg"]), abs(found["roll_deg"])) < 20


def test_a_mirrored_face_is_turned_the_other_way(portrait):
    [found], [mirrored] = qualities(portrait), qualities(ImageOps.mirror(portrait))
    assert mirrored["yaw_deg"] == pytest.approx(-found["yaw_deg"], abs=6)
    assert mirrored["roll_deg"] == pytest.approx(-found["roll_deg"], abs=6)


@pytest.mark.parametrize("clockwise", [-20, 20])
def test_a_tilted_face_is_tilted_that_way(portrait, clockwise):
    """By how much depends on the detector: libfacedetection's landmarks tilt by a third of what the head does."""
    [found], [tilted] = qualities(portrait), qualities(portrait.rotate(-clockwise, center=(224, 120)))
    assert (tilted["roll_deg"] - found["roll_deg"]) * np.sign(clockwise) > 3


def test_the_distance_between_the_eyes_is_that_at_full_size(portrait):
    """A JPEG of this size is decoded at a reduced one."""
    [found] = qualities(portrait)
    [large] = qualities(portrait.resize((4096, 4096)), format="JPEG")
    assert large["eye_distance_px"] == pytest.approx(8 * found["eye_distance_px"], rel=0.05)


def test_a_dark_copy_is_dark_and_a_cut_one_is_cut(portrait):
    [dark] = qualities(portrait.point(lambda gray: round(gray * 0.3)))
    [found] = qualities(portrait)
    assert dark["brightness"] == pytest.approx(0.3 * found["brightness"], rel=0.1)
    [cut] = qualities(portrait.crop((205, 0, 512, 512)))
    assert cut["outside"] > 0.05


def test_a_crop_s_columns_are_those_that_pixels_tell():
    assert len(measure_crop(NOISE)) == len(CROP_QUALITY_COLUMNS)
