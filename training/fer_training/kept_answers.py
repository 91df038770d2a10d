"""A teacher's answers to the images that its students train on, in a file. Written by `save_answers`."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from fer_training.errors import CheckpointError

UNREADABLE: Final = (ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)
"""What NumPy raises, besides an OSError or EOFError, for a file that is no .npz, broken, or of something else."""


@dataclass(frozen=True)
class KeptAnswers:
    """Logits of one teacher, not calibrated."""

    logits: npt.NDArray[np.float32]
    """float32, (2, N, C): of each whole image in the order of the training data, and of its mirror image."""
    class_names: tuple[str, ...]
    data_sha256: str
    """Of the training data, labels and votes included; see `LabelledFaces.sha256`."""

    def save(self, path: Path) -> None:
        """Writes the file, with the logits in half precision; its folder is made if need be."""
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".tmp.npz")
        np.savez_compressed(
            aside,
            LOGITS=self.logits.astype(np.float16),
            CLASSES=np.array(self.class_names),
            DATA_SHA256=np.array(self.data_sha256),
        )
        aside.replace(path)


def load_kept_answers(path: Path) -> KeptAnswers:
    """Reads what `KeptAnswers.save` wrote.

    Raises:
        CheckpointError: the file is missing, or is no such file.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            answers = KeptAnswers(
                logits=arrays["LOGITS"].astype(np.float32),
                class_names=tuple(str(name) for name in arrays["CLASSES"]),
                data_sha256=str(arrays["DATA_SHA256"]),
            )
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is not there. Write it with fer_training.save_answers.") from error
    except (OSError, EOFError, *UNREADABLE) as error:
        raise CheckpointError(f"{path}: is no file of fer_training.save_answers: {error}") from error
    shape = answers.logits.shape
    if len(shape) != 3 or shape[0] != 2 or shape[2] != len(answers.class_names):
        raise CheckpointError(f"{path}: is no file of fer_training.save_answers: its answers' shape is {shape}.")
    return answers
