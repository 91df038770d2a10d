"""Properties of the split, on many drawn data sets."""

import numpy as np
import pytest

from fer_training.faces import assign_groups, join_groups

PARTS = (7, 1, 2)


def test_images_are_joined_by_subject_by_pixels_and_by_what_that_links():
    subjects = ["a", "b", None, "a", "c", None, None]
    pixels = np.array([0, 1, 2, 3, 3, 2, 4])
    assert join_groups(subjects, pixels).tolist() == [0, 1, 2, 0, 0, 2, 6]


def test_a_late_link_joins_groups_that_were_apart():
    assert join_groups(["a", "b", "c", "b"], np.array([0, 1, 2, 0])).tolist() == [0, 0, 2, 0]


def test_no_images_have_no_groups():
    assert join_groups([], np.array([], dtype=np.int64)).tolist() == []


@pytest.mark.parametrize("seed", range(20))
def test_single_images_get_their_parts_of_every_class_to_the_image(seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(5), rng.integers(10, 400, 5)))
    split_of = assign_groups(np.arange(len(labels)), labels, PARTS, np.random.default_rng(seed))
    for label in range(5):
        wanted = np.array(PARTS) / 10 * (labels == label).sum()
        got = np.bincount(split_of[labels == label], minlength=3)
        assert np.abs(got - wanted).max() <= 1, label


@pytest.mark.parametrize("seed", range(20))
def test_subjects_stay_whole_and_proportions_are_kept(seed):
    rng = np.random.default_rng(seed)
    subjects = rng.permutation(np.repeat(np.arange(80), rng.integers(1, 25, 80)))
    labels = rng.integers(0, 6, len(subjects))
    split_of = assign_groups(subjects, labels, PARTS, np.random.default_rng(seed))
    for subject in range(80):
        assert len(set(split_of[subjects == subject])) == 1
    np.testing.assert_allclose(np.bincount(split_of) / len(labels), [0.7, 0.1, 0.2], atol=0.02)
    for label in range(6):
        got = np.bincount(split_of[labels == label], minlength=3) / (labels == label).sum()
        np.testing.assert_allclose(got, [0.7, 0.1, 0.2], atol=0.07)


def test_a_class_of_three_images_is_in_every_split():
    labels = np.array([0] * 100 + [1] * 3)
    for seed in range(10):
        split_of = assign_groups(np.arange(103), labels, PARTS, np.random.default_rng(seed), every_class=True)
        assert sorted(split_of[labels == 1]) == [0, 1, 2]


@pytest.mark.parametrize("sizes", [np.ones(60, int), np.arange(1, 61)])
def test_the_seed_alone_decides(sizes):
    groups = np.repeat(np.arange(60), sizes)
    labels = np.arange(len(groups)) % 3
    first, again, other = (
        assign_groups(groups, labels, PARTS, np.random.default_rng(seed)).tolist() for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_every_image_may_come_into_every_split():
    labels = np.repeat(np.arange(3), 20)
    seen = [set() for _ in labels]
    for seed in range(60):
        split_of = assign_groups(np.arange(60), labels, PARTS, np.random.default_rng(seed))
        for image, split in enumerate(split_of.tolist()):
            seen[image].add(split)
    assert sum(len(splits) == 3 for splits in seen) >= 55


@pytest.mark.parametrize("seed", range(10))
def test_equal_parts_are_balanced_without_a_seed(seed):
    rng = np.random.default_rng(seed)
    sizes = 3 * rng.integers(1, 7, 118)
    groups = np.repeat(np.arange(118), sizes)
    labels = rng.choice(7, len(groups), p=[0.14, 0.05, 0.18, 0.08, 0.21, 0.09, 0.25])
    fold_of = assign_groups(groups, labels, [1] * 10)
    counts = np.bincount(fold_of, minlength=10)
    assert np.ptp(counts) <= sizes.max() / 2
    assert np.ptp(counts) < 0.1 * counts.mean()
    np.testing.assert_array_equal(fold_of, assign_groups(groups, labels, [1] * 10))
