"""Labelled faces in memory, as every data source delivers them, and how they are grouped and split.

Groups keep a person, and a picture that occurs more than once, on one side of a split.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from fer_contract import LABELS

VOTES: Final = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)
"""Answers that FER+ offered ten people on each image of FER2013, in the order of its columns. NF is "no face"."""

CONFLICTING: Final = "identical to one with another label"
REPEATED: Final = "repeats of an earlier one"
"""Reasons of a `DropReport` that every source may have."""

SYNONYMS: Final = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}
"""Names in data sets for the contract's labels."""


@dataclass(frozen=True)
class LabelledFaces:
    """Faces with their labels, in the order of their source."""

    images: npt.NDArray[np.uint8]
    """uint8, (N, 48, 48), gray, 0..255."""
    labels: npt.NDArray[np.int64]
    """int64, (N,), an index into `class_names`."""
    class_names: tuple[str, ...] = LABELS
    """The contract's labels, but for data sets with other classes."""
    votes: npt.NDArray[np.float32] | None = None
    """float32, (N, 10), FER+ votes as parts of 1 in the order of `VOTES`; None where there are none."""
    seen_elsewhere: npt.NDArray[np.bool_] | None = None
    """bool, (N,): pixel for pixel equal to an image of another evaluation split; None where that is not known."""

    def __len__(self) -> int:
        return len(self.labels)

    def sha256(self) -> str:
        """Hash images, labels and votes alone: the result is the same for every source that leads to the same set."""
        digest = hashlib.sha256(self.images.tobytes())
        digest.update(self.labels.astype(np.uint8).tobytes())
        if self.votes is not None:
            digest.update(self.votes.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class DropReport:
    """Counts of a source's training images, and of those that are not trained on."""

    found: int
    """Training images in the source. Of class folders also the files that cannot be read, which are in no split."""
    dropped: dict[str, int]
    """Images by the reason why they are not trained on. Each is counted once, under the first reason that applies."""
    noticed: dict[str, int] = field(default_factory=dict)
    """Images by a flaw that they were kept in spite of."""

    @property
    def kept(self) -> int:
        """Number of images that are trained on."""
        return self.found - sum(self.dropped.values())

    def __str__(self) -> str:
        text = f"{self.kept} of {self.found} training images kept"
        for verb, counts in (("dropped", self.dropped), ("kept in spite of it", self.noticed)):
            found = [f"{count} {reason}" for reason, count in counts.items() if count]
            text += f"; {verb}: {', '.join(found)}" if found else ""
        return text


@dataclass(frozen=True)
class TrainingData:
    """Images for a training run."""

    training: LabelledFaces
    validation: LabelledFaces
    """Images that the run is watched on and recipes are chosen by; of FER2013, PublicTest."""
    dropped: DropReport
    subjects: int | None = None
    """People that the source tells apart, each in one split only; None where it does not."""


def contract_name(name: str) -> str:
    """Return the contract's label for a data set's name of a class, or the name itself where there is none."""
    known = SYNONYMS.get(name.casefold(), name.casefold())
    return known if known in LABELS else name


def group_identical(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Assign numbers so that two images have the same number if all their pixels are the same: int64, (N,)."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(image.tobytes(), len(numbers)) for image in images], dtype=np.int64)


def find_conflicting(groups: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Tell which images share their group with an image of another label: bool, (N,)."""
    if not len(groups):
        return np.zeros(0, dtype=np.bool_)
    lowest = np.full(groups.max() + 1, np.iinfo(np.int64).max)
    highest = np.full(groups.max() + 1, -1)
    np.minimum.at(lowest, groups, labels)
    np.maximum.at(highest, groups, labels)
    return np.asarray(lowest[groups] != highest[groups])


def find_repeated(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Tell which images come after another one of their group: bool, (N,)."""
    repeated = np.ones(len(groups), dtype=np.bool_)
    repeated[np.unique(groups, return_index=True)[1]] = False
    return repeated


def join_groups(subjects: Sequence[str | None], identical: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Group images that must stay together: those of one subject, those with the same pixels, and what this links.

    Args:
        subjects: Who is on each image; None where that is not known.
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
    """Give each group to one of several splits, so that each split gets its part of all images and of each class.

    Large groups first, each to the split that leaves the least squared deviation from the parts, which for single
    images is the method of Sainte-Laguë. Groups of similar size, within a factor of two, come in random order.

    Args:
        groups: int64, (N,): a number that images of one group share.
        labels: int64, (N,): the images' classes.
        parts: Sizes of the splits, relative to each other.
        rng: Draws the order of groups of similar size. Without it all go by size, and then by number.
        every_class: Give a group first to where its classes are missing altogether, at the cost of the proportions.

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


def choose_faces(faces: LabelledFaces, count: int, seed: int) -> LabelledFaces:
    """Choose `count` faces at random, or all if there are no more, in their own order."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(faces))[:count])
    return LabelledFaces(faces.images[chosen], faces.labels[chosen], faces.class_names)
