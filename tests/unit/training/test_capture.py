import dataclasses
import io

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import torch
from PIL import Image

from fer_training.augmentation import compress, degrade
from fer_training.network import normalise
from fer_training.recipe import CaptureRecipe

NOTHING = CaptureRecipe(probability=1.0)
WAVES = 128 + 90 * torch.sin(torch.arange(48)[:, None] / 3) * torch.sin(torch.arange(48) / 4)
PIXELS = WAVES.round().to(torch.uint8).expand(256, 1, 48, 48)


def capture(pixels=PIXELS, seed=0, **changes):
    """What a recipe that changes nothing else makes of the pixels, as pixels: float32, (N, 48, 48)."""
    torch.manual_seed(seed)
    return degrade(normalise(pixels), dataclasses.replace(NOTHING, **changes))[:, 0] * 64 + 128


def changed(pixels, original=PIXELS):
    return (pixels - original[:, 0]).abs().amax(dim=(1, 2)) > 1


def test_without_changes_pixels_stay():
    torch.testing.assert_close(capture(), PIXELS[:, 0].float(), rtol=0, atol=0.01)


def test_only_a_part_is_changed_and_only_by_whole_steps():
    torch.manual_seed(0)
    views = normalise(PIXELS) + 0.001
    recipe = CaptureRecipe(0.25, darkest=0.1, brightest=1.5, noise=20, blur_px=2, smallest_px=12, jpeg_quality=5)
    spoiled = degrade(views, recipe)
    assert spoiled.shape == views.shape
    assert torch.equal(spoiled[64:], views[64:])
    pixels = spoiled[:64] * 64 + 128
    torch.testing.assert_close(pixels, pixels.round(), rtol=0, atol=1e-3)
    assert pixels.min() >= 0
    assert pixels.max() <= 255
    # Five changes, each of a third of the images: 2^5 / 3^5 = 13 % are not changed at all.
    assert 0.7 < changed(pixels[:, 0], PIXELS[:64]).float().mean() < 0.97


@pytest.mark.parametrize(
    "changes",
    [{"darkest": 0.2}, {"brightest": 2.0}, {"noise": 30.0}, {"blur_px": 3.0}, {"smallest_px": 10}, {"jpeg_quality": 5}],
    ids=lambda changes: next(iter(changes)),
)
def test_each_kind_changes_a_third(changes):
    assert 0.2 < changed(capture(**changes)).float().mean() < 0.45


def test_light_is_a_factor_on_the_pixels():
    pixels = capture(darkest=0.05, brightest=1.5)
    factors = pixels.mean(dim=(1, 2)) / PIXELS[0].float().mean()
    assert factors.min() == pytest.approx(0.05, abs=0.02)
    assert 1.2 < factors.max() < 1.5  # bright pixels are cut off
    assert pixels.max() == 255
    darkest = pixels[factors.argmin()]
    expected = PIXELS[0, 0] * (darkest.sum() / PIXELS[0, 0].sum())
    assert (darkest - expected).abs().max() <= 0.6  # rounding


def test_noise_has_any_strength_up_to_its_limit():
    gray = torch.full((256, 1, 48, 48), 128, dtype=torch.uint8)
    deviations = capture(gray, noise=20.0).std(dim=(1, 2))
    assert 17 < deviations.max() < 21
    assert deviations.sort().values[int(256 * 0.85)] == pytest.approx(10, abs=4)  # the middle of those with noise


def test_blur_keeps_flat_parts_and_spreads_a_point_as_a_gaussian_does():
    point = torch.full((256, 1, 48, 48), 50, dtype=torch.uint8)
    point[:, :, 24, 20] = 250
    pixels = capture(point, blur_px=2.0)
    peaks = pixels[:, 24, 20] - 50
    # A Gaussian of 2 px has 1 / (2 pi 2^2) at its centre.
    assert 200 / (2 * np.pi * 4) - 1.5 < peaks.min() < 12
    assert (pixels[:, :10] == 50).all()
    assert capture(torch.full_like(point, 50), blur_px=2.0).eq(50).all()


def test_small_faces_lose_what_is_finer_than_their_pixels():
    board = ((torch.arange(48)[:, None] + torch.arange(48)) % 2 * 255).to(torch.uint8).expand(256, 1, 48, 48)
    spreads = capture(board, smallest_px=24).std(dim=(1, 2))
    assert spreads.min() < 2  # at 24 px each pixel is the average of four
    wide = (torch.arange(48) // 24 * 200).to(torch.uint8).expand(256, 1, 48, 48)
    assert (capture(wide, smallest_px=24)[:, :, :20] == 0).all()


@pytest.mark.parametrize("quality", [5, 10, 30, 75, 95])
def test_a_jpeg_shows_what_a_real_one_does(quality):
    face = np.asarray(WAVES.round(), np.uint8) ^ np.random.default_rng(0).integers(0, 32, (48, 48), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(face).save(file, "JPEG", quality=quality)
    real = torch.from_numpy(np.asarray(Image.open(file), dtype=np.float32))
    shown = compress(torch.from_numpy(face).float().unsqueeze(0), torch.full((1, 1, 1), float(quality)))[0]
    # A real one computes in whole numbers: here and there a frequency falls on the other side.
    assert (shown - real).abs().mean() < 0.05 * (real - torch.from_numpy(face)).abs().mean() + 0.3


@pytest.mark.parametrize("size_px", [40, 44, 48])
def test_views_of_any_size_can_be_changed(size_px):
    torch.manual_seed(0)
    recipe = CaptureRecipe(0.5, darkest=0.1, brightest=1.5, noise=20, blur_px=2, smallest_px=12, jpeg_quality=5)
    assert degrade(torch.randn(6, 1, size_px, size_px), recipe).shape == (6, 1, size_px, size_px)


def test_the_seed_decides_the_changes():
    changes = {"darkest": 0.1, "noise": 20.0, "blur_px": 2.0, "smallest_px": 12, "jpeg_quality": 5}
    assert torch.equal(capture(**changes), capture(**changes))
    assert not torch.equal(capture(**changes), capture(seed=1, **changes))
