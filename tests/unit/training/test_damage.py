"""Damaged copies: the published ones, on every machine, and each as bad as its description says."""

import hashlib

import numpy as np
import pytest

pytest.importorskip("simplejpeg", reason="simplejpeg is not installed: pip install -e '.[train]'")

from fer_training.damage import CLEAN, DAMAGES, damage, damage_in_turn

DRAWN = ("dark noisy", "side light", "noise", "misplaced", "rotated", "third hidden")
PUBLISHED = "f9e8d0225ef738351ee5dc332a687e9015a89202b1dd36acbf0aced9e140b1d3"


@pytest.fixture(scope="module")
def faces():
    """Blocks of 6 px in random grays: no function that another machine may round otherwise."""
    blocks = np.random.default_rng(0).integers(0, 256, (8, 1, 8, 8), np.uint8)
    return blocks.repeat(6, axis=2).repeat(6, axis=3)


def of_gray(gray: int) -> np.ndarray:
    return np.full((1, 1, 48, 48), gray, np.uint8)


def of_dot(row: int, column: int) -> np.ndarray:
    """A white square of 4 px on black, its upper left corner there."""
    face = of_gray(0)
    face[0, 0, row : row + 4, column : column + 4] = 255
    return face


def centre_of(face: np.ndarray) -> np.ndarray:
    """Centre of mass in px from the middle of the crop: x to the right, y down."""
    rows, columns = np.mgrid[:48, :48] - 23.5
    return np.array([(face[0, 0] * part).sum() / face.sum() for part in (columns, rows)])


def test_the_copies_are_the_published_ones(faces):
    digest = hashlib.sha256(b"".join(damage(faces, name).tobytes() for name in DAMAGES)).hexdigest()
    assert digest == PUBLISHED


@pytest.mark.parametrize("name", DAMAGES)
def test_copies_are_as_many_faces_of_the_same_kind_and_the_originals_stay(faces, name):
    before = faces.copy()
    copies = damage(faces, name)
    assert (copies.shape, copies.dtype) == (faces.shape, np.uint8)
    np.testing.assert_array_equal(faces, before)
    assert (copies == faces).all() == (name == CLEAN)


@pytest.mark.parametrize("name", DAMAGES)
def test_a_face_is_damaged_alike_whatever_comes_after_it(faces, name):
    np.testing.assert_array_equal(damage(faces[:3], name), damage(faces, name)[:3])


@pytest.mark.parametrize("name", DAMAGES)
def test_the_seed_decides_what_is_drawn_and_nothing_else(faces, name):
    assert (damage(faces, name, seed=1) != damage(faces, name)).any() == (name in DRAWN)


@pytest.mark.parametrize(
    ("name", "gray", "becomes"),
    [
        ("dark 0.35", 200, 70),
        ("dark 0.15", 200, 30),
        ("low contrast", 228, 158),
        ("low contrast", 28, 98),
        ("gamma 0.4", 128, 194),
        ("gamma 2.5", 128, 46),
        ("blur", 77, 77),
        ("small", 77, 77),
        ("jpeg", 128, 128),
        ("misplaced", 77, 77),
        ("rotated", 77, 77),
    ],
)
def test_a_plain_gray_becomes_another_or_stays(name, gray, becomes):
    np.testing.assert_array_equal(damage(of_gray(gray), name), of_gray(becomes))


@pytest.mark.parametrize(("name", "gray", "mean", "deviation"), [("noise", 128, 128, 20), ("dark noisy", 200, 20, 2)])
def test_noise_has_the_deviation_that_it_is_said_to_have(name, gray, mean, deviation):
    noisy = damage(of_gray(gray), name)
    assert noisy.mean() == pytest.approx(mean, abs=0.05 * deviation)
    assert noisy.std() == pytest.approx(deviation, rel=0.05)


def test_light_from_a_side_falls_evenly_from_either_side():
    sides = set()
    for seed in range(8):
        columns = damage(of_gray(100), "side light", seed).mean(axis=(0, 1, 2))
        assert (columns.max(), columns.min()) == (140, 20)
        sides.add(columns[0] > columns[-1])
    assert sides == {False, True}


def test_light_from_behind_leaves_a_dark_face_before_white():
    lit = damage(of_gray(200), "backlight")[0, 0]
    assert lit[24, 24] == lit[10, 24] == 50
    assert lit[0, 0] == lit[47, 47] == lit[24, 0] == 255


def test_blur_spreads_a_dot_by_its_deviation():
    blurred = damage(of_dot(22, 22), "blur")[0, 0].astype(float)
    rows = np.arange(48) - 23.5
    variance = (blurred.sum(axis=1) * rows**2).sum() / blurred.sum()
    assert variance == pytest.approx(1.2**2 + (4**2 - 1) / 12, rel=0.02)


def test_a_small_face_has_lost_what_is_finer_than_two_px():
    checks = (np.indices((48, 48)).sum(axis=0) % 2 * 200).astype(np.uint8)[None, None]
    np.testing.assert_array_equal(damage(checks, "small"), of_gray(100))


def test_jpeg_of_low_quality_loses_more_than_rounding(faces):
    lost = np.abs(damage(faces, "jpeg").astype(int) - faces)
    assert 3 < lost.mean() < 20


def test_a_misplaced_crop_is_off_by_a_few_px():
    offsets = np.array([centre_of(damage(of_dot(22, 22), "misplaced", seed)) for seed in range(30)])
    assert np.abs(offsets).max() <= 3 * 1.1 / 0.9
    assert offsets.std(axis=0).min() > 1


def test_a_rotated_crop_turns_about_its_middle():
    turned = []
    for seed in range(30):
        x, y = centre_of(damage(of_dot(22, 36), "rotated", seed))
        assert np.hypot(x, y) == pytest.approx(14, abs=0.3)
        turned.append(np.degrees(np.arctan2(y, x)))
    assert 14 < np.abs(turned).min() < np.abs(turned).max() < 26
    assert min(turned) < 0 < max(turned)
    np.testing.assert_allclose(centre_of(damage(of_dot(22, 22), "rotated")), 0, atol=0.1)


@pytest.mark.parametrize(("name", "rows", "gray"), [("eyes covered", (11, 22), 24), ("mouth covered", (27, 48), 200)])
def test_a_cover_hides_its_rows_and_nothing_else(name, rows, gray):
    changed = damage(of_gray(100), name)[0, 0]
    hidden = changed != 100
    assert set(changed[hidden].tolist()) == {gray}
    assert hidden[rows[0] : rows[1], 4:44].all()
    assert hidden.sum() == (rows[1] - rows[0]) * 40


def test_a_third_is_hidden_at_every_side():
    changed = damage(np.repeat(of_gray(100), 60, axis=0), "third hidden")[:, 0]
    edges = set()
    for face in changed:
        hidden = face != 100
        assert hidden.sum() in (0, 48 * 16)  # None where the gray happens to be the face's.
        assert len(set(face[hidden].tolist())) <= 1
        edges.add((hidden[:, 0].all(), hidden[:, -1].all(), hidden[0].all(), hidden[-1].all()))
    assert {edge for edge in edges if any(edge)} == {tuple(row) for row in np.eye(4, dtype=bool).tolist()}


def test_each_face_is_damaged_in_turn(faces):
    np.testing.assert_array_equal(damage_in_turn(faces[:1]), damage(faces[:1], "dark 0.35"))
    many = np.tile(faces, (5, 1, 1, 1))
    copies = damage_in_turn(many)
    names = [name for name in DAMAGES if name != CLEAN]
    for index, name in enumerate(names):
        np.testing.assert_array_equal(copies[index :: len(names)], damage(many[index :: len(names)], name))


def test_other_arrays_than_faces_are_refused():
    with pytest.raises(ValueError, match=r"must be uint8 \(N, 1, 48, 48\), but are uint8 \(2, 48, 48\)"):
        damage(np.zeros((2, 48, 48), np.uint8), CLEAN)
    with pytest.raises(ValueError, match="but are float32"):
        damage(np.zeros((2, 1, 48, 48), np.float32), CLEAN)
