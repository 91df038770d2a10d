"""Splitting images so that no person, and no picture, is on both sides. Used by `folders` and `ck48`."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def join_groups(subjects: Sequence[str | None], identical: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Groups images that must stay together: those of one subject, those with the same pixels, and what this links.

    Args:
        subjects: who is on each image; None where that is not known.
        identical: int64, (N,): a number that images with the same pixels share, from `faces.group_identical`.

    Returns:
        int64, (N,): the position of the group's first image.
    """
    parents = list(range(len(subjects)))

    def find(image: int) -> int:
        while parents[image] != image:
            parents[image] = parents[parents[image]]
            image = parents[image]
        return image

    first: dict[tuple[str, str | int], int] = {}
    for image, (subject, number) in enumerate(zip(subjects, identical.tolist(), strict=True)):
        keys: list[tuple[str, str | int]] = [("pixels", number)]
        if subject is not None:
            keys.append(("subject", subject))
        for key in keys:
            low, high = sorted((find(first.setdefault(key, image)), find(image)))
            parents[high] = low
    return np.array([find(image) for image in range(len(subjects))], dtype=np.int64)


def assign_groups(
    groups: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    parts: Sequence[float],
    rng: np.random.Generator | None = None,
    *,
    every_class: bool = False,
) -> npt.NDArray[np.int64]:
    """Gives each group to one of several splits, so that each split gets its part of all images and of each class.

    Large groups first, each to the split that leaves the least squared deviation from the parts, which for single
    images is the method of Sainte-Laguë. Groups of similar size, within a factor of two, come in random order.

    Args:
        groups: int64, (N,): a number that images of one group share.
        labels: int64, (N,): the images' classes.
        parts: what each split is to get, relative to each other.
        rng: for the order of groups of similar size. Without one all go by size, and where that is equal by number.
        every_class: give a group first to where its classes are missing altogether, at the cost of the proportions.

    Returns:
        int64, (N,): the split of each image, an index into `parts`.
    """
    ids, group_of = np.unique(groups, return_inverse=True)
    # One column for each class and one for all together, as parts of their totals.
    counts = np.zeros((len(ids), labels.max(initial=0) + 2))
    np.add.at(counts, (group_of, labels), 1)
    counts[:, -1] = counts.sum(axis=1)
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    weights = np.ones(counts.shape[1])
    weights[-1] = len(weights) - 1  # as much as the classes together
    ratios = np.asarray(parts, dtype=np.float64)
    filled = np.zeros((len(ratios), counts.shape[1]))
    split_of = np.empty(len(ids), dtype=np.int64)
    sizes = np.floor(np.log2(counts[:, -1])) if rng else counts[:, -1]
    order = rng.permutation(len(ids)) if rng else np.arange(len(ids))
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        share = shares[group]
        # What the sum of (filled - part)^2 / part over all columns grows by, less what is the same for each split.
        growth = (2 * filled + share) @ (weights * share) / ratios
        if every_class:
            missing = ((filled == 0) & (share > 0)).sum(axis=1)
            growth[missing < missing.max()] = np.inf
        chosen = int(growth.argmin())
        split_of[group] = chosen
        filled[chosen] += share
    return split_of[group_of]
