"""Light and sharpness evened out: usual faces stay, unusual ones become usual, smoothly, and nothing makes a NaN."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import torch

from fer_training.appearance import DEVIATION, MEAN, AppearanceNormaliser
from fer_training.damage import damage
from fer_training.network import normalise


def even(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gray levels, not rounded, of faces, uint8 (N, 1, 48, 48), and what their scores are multiplied with, (N,)."""
    views, evidence = AppearanceNormaliser()(normalise(torch.from_numpy(faces)))
    return (views * 64 + 128).numpy(), evidence[:, 0].numpy()


def centre(faces: np.ndarray) -> np.ndarray:
    """The part of each face that lies wholly in the ellipse."""
    return faces[:, 0, 8:40, 12:36].astype(np.float64)


def unlikeness(some: np.ndarray, others: np.ndarray) -> float:
    """Part of the variance that one crop's pixels don't tell of the other's, whatever their light: mean over crops."""
    pairs = zip(some, others, strict=True)
    return float(np.mean([1 - np.corrcoef(one.ravel(), other.ravel())[0, 1] ** 2 for one, other in pairs]))


@pytest.fixture(scope="module")
def faces():
    """Smooth blobs under fine grain: as light, sharp and grainy as usual faces are."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:48, :48] / 48
    waves = [
        np.sin(2 * np.pi * (a * rows + b * columns) + c) for a, b, c in rng.uniform(-2.5, 2.5, (12, 3)) * (1, 1, 3)
    ]
    blobs = np.stack([waves[i] + waves[i + 1] for i in range(0, 12, 2)])
    blobs = (blobs - blobs.mean((1, 2), keepdims=True)) / blobs.std((1, 2), keepdims=True)
    return (MEAN + DEVIATION * blobs + rng.normal(0, 4, blobs.shape)).clip(0, 255).astype(np.uint8)[:, None]


def test_usual_faces_stay_as_they_are(faces):
    usual, evidence = even(faces)
    assert np.abs(usual - faces).mean() < 3
    assert evidence.min() > 0.99


@pytest.mark.parametrize("name", ["dark 0.15", "low contrast", "backlight"])
def test_unusual_light_becomes_usual_over_the_face(faces, name):
    lit = centre(even(damage(faces, name))[0])
    np.testing.assert_allclose(lit.mean((1, 2)), MEAN, atol=20)
    np.testing.assert_allclose(lit.std((1, 2)), DEVIATION, rtol=0.25)
    assert unlikeness(lit, centre(faces)) < 0.02


@pytest.mark.parametrize("name", ["noise", "dark noisy"])
def test_noise_is_smoothed_also_where_darkness_hides_it(faces, name):
    damaged = damage(faces, name)
    assert unlikeness(centre(even(damaged)[0]), centre(faces)) < 0.5 * unlikeness(centre(damaged), centre(faces))


def test_a_blurred_face_is_sharpened(faces):
    """The step at an edge becomes steeper, and comes nearer to the original's."""
    edge = np.full((1, 1, 48, 48), 98, np.uint8)
    edge[..., 24:] = 184
    blurred = damage(edge, "blur")
    sharp, _ = even(blurred)

    def steepest(face):
        return np.abs(np.diff(face[0, 0, 24].astype(np.float64))).max()

    assert steepest(blurred) * 1.3 < steepest(sharp) <= steepest(edge) * 1.05


@pytest.mark.parametrize("gray", [0, 1, 60, 128, 255])
def test_a_plain_gray_stays_finite_and_says_nothing(gray):
    plain, evidence = even(np.full((1, 1, 48, 48), gray, np.uint8))
    np.testing.assert_allclose(plain, MEAN, atol=0.01)
    assert evidence.max() < 1e-6


def test_a_sensor_s_noise_on_a_plain_gray_says_little():
    noise = np.rint(20 + np.random.default_rng(0).normal(0, 1, (8, 1, 48, 48))).astype(np.uint8)
    lit, evidence = even(noise)
    assert np.isfinite(lit).all()
    assert evidence.max() < 0.3


@pytest.mark.parametrize("kind", ["contrast", "light", "noise", "blur"])
def test_nearly_equal_crops_give_nearly_equal_ones(faces, kind):
    """Along a hundred small steps from a usual crop to an unusual one, no step does more than a few times its share."""
    face = normalise(torch.from_numpy(faces[:1]))
    other = {
        "contrast": face * 0.05,
        "light": (face + 2) * 0.1 - 2,
        "noise": face + 0.4 * torch.randn(face.shape, generator=torch.Generator().manual_seed(0)),
        "blur": torch.nn.functional.avg_pool2d(face, 5, 1, 2, count_include_pad=False),
    }[kind]
    parts = torch.linspace(0, 1, 101).view(-1, 1, 1, 1)
    evened, _ = AppearanceNormaliser()((1 - parts) * face + parts * other)
    steps = (evened[1:] - evened[:-1]).abs().mean((1, 2, 3)) * 64
    assert steps.max() < 2.5


def test_light_does_not_change_what_comes_out(faces):
    """The same face at two strengths of light, both dark: the same crop but for rounding."""
    darker, _ = even(np.rint(faces * 0.2).astype(np.uint8))
    dark, _ = even(np.rint(faces * 0.3).astype(np.uint8))
    assert np.abs(dark - darker).mean() < 4


def test_it_is_computed_in_float32_whatever_the_network_is(faces):
    views = normalise(torch.from_numpy(faces))
    expected, _ = AppearanceNormaliser()(views)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, evidence = AppearanceNormaliser()(views)
    assert (found.dtype, evidence.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close(found, expected)


def test_a_smaller_view_is_evened_out_like_a_whole_face(faces):
    views, evidence = AppearanceNormaliser()(normalise(torch.from_numpy(faces))[..., 4:44, 4:44])
    assert views.shape == (len(faces), 1, 40, 40)
    assert evidence.shape == (len(faces), 1)
    assert -2 <= views.min() < views.max() <= 1.984375


def test_a_face_does_not_depend_on_its_batch(faces):
    together, _ = even(faces)
    alone, _ = even(faces[2:3])
    np.testing.assert_allclose(together[2:3], alone, atol=1e-3)
