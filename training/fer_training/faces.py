"""Labelled faces in memory: what every data source delivers, and what training and evaluation work with."""

import hashlib
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
"""What FER+ asked ten people about each image of FER2013, in the order of its columns. NF is "no face"."""

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
"""What data sets call the contract's labels."""


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
        """Hash of images, labels and votes alone: the same for every source that leads to the same set."""
        digest = hashlib.sha256(self.images.tobytes())
        digest.update(self.labels.astype(np.uint8).tobytes())
        if self.votes is not None:
            digest.update(self.votes.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class DropReport:
    """What a source had for training, and what of it is not trained on."""

    found: int
    """Training images in the source. Of class folders also the files that can't be read, which are in no split."""
    dropped: dict[str, int]
    """Images by the reason why they are not trained on. Each is counted once, under the first reason that applies."""
    noticed: dict[str, int] = field(default_factory=dict)
    """Images by a flaw that they were kept in spite of."""

    @property
    def kept(self) -> int:
        """Images that are trained on."""
        return self.found - sum(self.dropped.values())

    def __str__(self) -> str:
        text = f"{self.kept} of {self.found} training images kept"
        for verb, counts in (("dropped", self.dropped), ("kept in spite of it", self.noticed)):
            found = [f"{count} {reason}" for reason, count in counts.items() if count]
            text += f"; {verb}: {', '.join(found)}" if found else ""
        return text


@dataclass(frozen=True)
class TrainingData:
    """What a training run works with."""

    training: LabelledFaces
    validation: LabelledFaces
    """What the run is watched on, and recipes are chosen on. FER2013: PublicTest."""
    dropped: DropReport
    subjects: int | None = None
    """People that the source tells apart, each in one split only; None where it does not."""


def contract_name(name: str) -> str:
    """The contract's label for what a data set calls a class, or the name itself where the contract has none for it."""
    known = SYNONYMS.get(name.casefold(), name.casefold())
    return known if known in LABELS else name


def group_identical(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Numbers images so that two have the same number if all their pixels are the same: int64, (N,)."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(image.tobytes(), len(numbers)) for image in images], dtype=np.int64)


def find_conflicting(groups: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which images share their group with an image of another label: bool, (N,)."""
    if not len(groups):
        return np.zeros(0, dtype=np.bool_)
    lowest = np.full(groups.max() + 1, np.iinfo(np.int64).max)
    highest = np.full(groups.max() + 1, -1)
    np.minimum.at(lowest, groups, labels)
    np.maximum.at(highest, groups, labels)
    return np.asarray(lowest[groups] != highest[groups])


def find_repeated(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which images come after another one of their group: bool, (N,)."""
    repeated = np.ones(len(groups), dtype=np.bool_)
    repeated[np.unique(groups, return_index=True)[1]] = False
    return repeated
