import dataclasses

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[train]'")

import torch

from fer_training.augmentation import Mixup, augment
from fer_training.network import normalise

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
