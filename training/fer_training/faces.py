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
    """bool, (N,): pixel for pixel equal to an image of another split; None where that is not known."""

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
    """Training images in the source."""
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
