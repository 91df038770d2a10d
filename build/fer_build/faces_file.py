"""The faces on which the ranges for INT8 and the gates are measured, as an .npz file.

`fer-train save-faces` makes the file of FER2013, which this room never reads itself.
"""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import fer_contract as contract
from fer_build.errors import FacesFileError


@dataclass(frozen=True)
class LabelledCrops:
    """Face crops in FER2013's framing with the class of each."""

    faces: npt.NDArray[np.uint8]
    """uint8, (N, 1, 48, 48), gray, 0..255."""
    labels: npt.NDArray[np.int64]
    """int64, (N,), an index into the contract's labels."""
    source: str
    """Where they are from, for people: `FER2013 PublicTest`."""

    def sha256(self) -> str:
        """Return the hash of pixels and labels."""
        return hashlib.sha256(self.faces.tobytes() + self.labels.tobytes()).hexdigest()


def read_faces(path: Path) -> LabelledCrops:
    """Load and check a file of faces.

    Raises:
        FacesFileError: The file is missing, of another kind, or does not fit the contract.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            faces, labels, names, source = (arrays[name] for name in ("FACES", "LABELS", "CLASSES", "SOURCE"))
    except OSError as error:
        raise FacesFileError(f"{path}: cannot be read ({error.strerror or 'not an .npz file'})") from None
    except (KeyError, ValueError, zipfile.BadZipFile):
        raise FacesFileError(f"{path}: not a file of faces; make one with fer-train save-faces") from None
    size = contract.FACE_SIZE_PX
    if faces.dtype != np.uint8 or faces.shape[1:] != (1, size, size) or not len(faces):
        raise FacesFileError(
            f"{path}: FACES must be uint8 (N, 1, {size}, {size}) with N above 0, not {faces.dtype} {faces.shape}"
        )
    if tuple(names.tolist()) != contract.LABELS:
        raise FacesFileError(f"{path}: its classes are {', '.join(names.tolist())}, not {', '.join(contract.LABELS)}")
    if (
        labels.dtype != np.int64
        or labels.shape != faces.shape[:1]
        or not 0 <= labels.min() <= labels.max() < len(names)
    ):
        raise FacesFileError(f"{path}: LABELS must be int64 (N,), each 0..{len(names) - 1}")
    return LabelledCrops(faces, labels, str(source))
