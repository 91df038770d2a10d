"""CK+48: 981 posed faces of 118 people, for cross-validation over people. Used by `report_data`.

One folder per emotion holds files as `S010_004_00000017.png`: subject, sequence, frame. There are seven emotions, with
contempt and without neutral, so a network of these classes is not one that this project serves.
"""

import re
from pathlib import Path
from typing import Final

import numpy as np

from fer_training.errors import DataError
from fer_training.faces import TrainingData, group_identical
from fer_training.folders import read_class_folders, report_training, select_splits
from fer_training.splits import assign_groups, join_groups

CLASS_NAMES: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "contempt")
"""The contract's names where it has one."""

FOLDS: Final = 10
"""Source: the number that is usual in publications on CK+."""

_FILE_NAME: Final = re.compile(r"(S\d+)_\d+_\d+\.\w+", re.IGNORECASE)


def load_ck48(directory: Path, *, fold: int, folds: int = FOLDS) -> TrainingData:
    """Reads CK+48 with one fold as validation and all others as training.

    All images of a subject are in one fold, so those of a sequence are too. Subjects are given to folds so that these
    have about as many images, in all and of each emotion; the same files always give the same folds.

    Args:
        directory: holds the folders anger, contempt, disgust, fear, happy, sadness and surprise.
        fold: which fold is the validation set, 0 to `folds` - 1.
        folds: how many there are.

    Raises:
        DataError: the folders are not those of CK+48, a file's name tells no subject, a file is no usable image, or
            `fold` and `folds` ask for what there is not.
    """
    if not 0 <= fold < folds:
        raise DataError(f"the fold must be 0 to {folds - 1} of {folds} folds, but is {fold}.")
    folders = read_class_folders(directory)
    faces = folders.faces
    if faces.class_names != CLASS_NAMES:
        raise DataError(
            f"{directory}: the classes of CK+48 are {', '.join(CLASS_NAMES)}, but the folders are "
            f"{', '.join(faces.class_names)}. Load other data as class folders."
        )
    subjects = []
    for path in folders.paths:
        match = _FILE_NAME.fullmatch(path.name)
        if not match:
            raise DataError(f"{path}: must be named by subject, sequence and frame, as S010_004_00000017.png.")
        subjects.append(match.group(1).upper())
    identical = group_identical(faces.images)
    groups = join_groups(subjects, identical)
    count = len(np.unique(groups))
    if not 2 <= folds <= count:
        raise DataError(f"{directory}: {count} subjects can be given to 2 to {count} folds, not {folds}.")
    fold_of = assign_groups(groups, faces.labels, [1] * folds)
    training, validation = select_splits(faces, (fold_of == fold).astype(np.int64), 2)
    report = report_training(faces, identical, fold_of != fold, {})
    return TrainingData(training, validation, report, subjects=len(set(subjects)))
