import dataclasses

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import io

import numpy as np
import torch
from PIL import Image

from fer_training.augmentation import Mixup, augment, compress, degrade
from fer_training.network import normalise
from fer_training.recipe import CaptureRecipe

PIXELS = torch.randint(0, 256, (32, 1, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
FACES = normalise(PIXELS)


@pytest.fixture
def nothing(recipe):
    """An augmentation that changes nothing, for tests to turn single changes on."""
    return dataclasses.replace(
        recipe.augmentation,
        flip_probability=0.0,
        rotation_deg=0.0,
        scale=0.0,
        shift_px=0.0,
        brightness=0.0,
        contrast=0.0,
        erasing_probability=0.0,
    )


@pytest.mark.parametrize("view_px", [40, 48])
def test_views_have_the_asked_size_and_stay_in_range(recipe, view_px):
    torch.manual_seed(0)
    views = augment(FACES, recipe.augmentation, view_px)
    assert views.shape == (32, 1, view_px, view_px)
    assert views.dtype == torch.float32
    # -2..2, times 1.1 for the contrast and 1.1 for the brightness, which is about black: 0.1 * 2 more
    assert views.abs().max() <= 2 * 1.1 * 1.1 + 0.1 * 2 + 1e-5


def test_without_changes_the_view_is_the_face(nothing):
    torch.testing.assert_close(augment(FACES, nothing, 48), FACES, rtol=0, atol=1e-3)


def test_a_flip_mirrors_left_and_right(nothing):
    views = augment(FACES, dataclasses.replace(nothing, flip_probability=1.0), 48)
    torch.testing.assert_close(views, FACES.flip(3), rtol=0, atol=1e-3)


def test_a_crop_shows_different_parts_of_the_face_at_its_own_scale(nothing):
    torch.manual_seed(0)
    columns = normalise(torch.arange(48, dtype=torch.uint8).expand(64, 1, 48, 48))
    views = augment(columns, nothing, 40) * 64 + 128  # back to pixels: the column each view pixel shows
    torch.testing.assert_close(views.diff(dim=3), torch.ones(64, 1, 40, 39), rtol=0, atol=1e-3)
    first = views[:, 0, 0, 0]
    assert first.min() >= -1e-3
    assert first.max() <= 8 + 1e-3
    assert first.max() - first.min() > 6


def test_rotation_turns_about_the_middle_by_at_most_its_limit(nothing):
    torch.manual_seed(0)
    rows = normalise(torch.arange(48, dtype=torch.uint8).view(48, 1).expand(64, 1, 48, 48))
    views = augment(rows, dataclasses.replace(nothing, rotation_deg=10.0), 48) * 64 + 128
    slope = views[:, 0, 24, 30] - views[:, 0, 24, 18]  # 12 px apart
    limit = 12 * torch.sin(torch.deg2rad(torch.tensor(10.0)))
    assert slope.abs().max() <= limit + 1e-2
    assert slope.max() > 0.8 * limit
    assert slope.min() < -0.8 * limit


def test_brightness_and_contrast_change_the_light_alone(nothing):
    torch.manual_seed(0)
    faces = torch.ones((64, 1, 48, 48))  # 192 of 255
    brighter = augment(faces, dataclasses.replace(nothing, brightness=0.1), 48)[:, 0, 5, 5] * 64 + 128
    assert brighter.std() > 8
    assert (brighter - 192).abs().max() <= 0.1 * 192 + 1e-3
    starker = augment(faces, dataclasses.replace(nothing, contrast=0.2), 48)[:, 0, 5, 5]
    assert starker.std() > 0.05
    assert (starker - 1).abs().max() <= 0.2 + 1e-5


def test_noise_is_of_any_strength_up_to_its_limit(nothing):
    torch.manual_seed(0)
    faces = torch.zeros((64, 1, 48, 48))
    deviations = augment(faces, dataclasses.replace(nothing, noise=16.0), 48).flatten(1).std(dim=1) * 64
    assert deviations.max() < 17
    assert deviations.max() > 13
    assert deviations.min() < 3


def test_mixup_mixes_views_and_targets_alike():
    torch.manual_seed(0)
    mixup = Mixup(64, 0.5, torch.device("cpu"))
    targets = torch.eye(64)
    mixed = mixup.mix(targets)  # row i: the part of each image in image i
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(64))
    views = torch.randn(64, 1, 4, 4)
    torch.testing.assert_close(mixup.mix(views), (mixed @ views.flatten(1)).view(64, 1, 4, 4))
    assert mixed.diagonal().std() > 0.2


def test_erasing_hides_one_rectangle_no_larger_than_its_limit(nothing):
    torch.manual_seed(0)
    faces = torch.full((64, 1, 48, 48), 2.0)
    hidden = augment(faces, dataclasses.replace(nothing, erasing_probability=1.0, erasing_side=0.5), 48) == 0
    rows, columns = hidden.any(dim=3), hidden.any(dim=2)  # (N, 1, 48) each
    assert (hidden == rows.unsqueeze(3) & columns.unsqueeze(2)).all()
    assert rows.sum(dim=2).max() <= 24
    assert hidden.flatten(1).any(dim=1).float().mean() > 0.9


def test_the_seed_decides_the_views(recipe):
    torch.manual_seed(5)
    first = augment(FACES, recipe.augmentation, 40)
    torch.manual_seed(5)
    assert torch.equal(augment(FACES, recipe.augmentation, 40), first)
    assert not torch.equal(augment(FACES, recipe.augmentation, 40), first)


def test_scale_zooms_both_ways_by_at_most_its_limit(nothing):
    torch.manual_seed(0)
    columns = normalise(torch.arange(48, dtype=torch.uint8).expand(64, 1, 48, 48))
    views = augment(columns, dataclasses.replace(nothing, scale=0.2), 48) * 64 + 128
    step = views[:, 0, 24, 24:36].diff(dim=1).mean(dim=1)  # face columns per view column, 1 where nothing is zoomed
    assert step.min() > 0.8 - 1e-3
    assert step.max() < 1.2 + 1e-3
    assert step.max() - step.min() > 0.3


def test_a_shift_moves_by_at_most_its_limit_and_independently_in_both_directions(nothing):
    torch.manual_seed(0)
    shifting = dataclasses.replace(nothing, shift_px=4.0)
    ramp = torch.arange(48, dtype=torch.uint8)
    columns = normalise(ramp.expand(64, 1, 48, 48))
    state = torch.get_rng_state()
    across = (augment(columns, shifting, 48) * 64 + 128)[:, 0, 24, 24] - 24
    torch.set_rng_state(state)
    down = (augment(columns.transpose(2, 3), shifting, 48) * 64 + 128)[:, 0, 24, 24] - 24
    for shift in (across, down):
        assert shift.abs().max() <= 4 + 1e-3
        assert shift.max() > 3
        assert shift.min() < -3
    assert torch.corrcoef(torch.stack([across, down]))[0, 1].abs() < 0.5


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
