"""Faces as image files in one folder per class: a user's own, split into training, validation and test; and CK+48.

The files go through `fer_faces.read_face_crop`, as in serving: one preprocessing. Each is taken whole as one face in
FER2013's framing, so it must be cropped already. One that is 48x48 px and gray comes through unchanged.

    DIR/happy/S010_1.png
    DIR/happy/S011_1.png
    DIR/sad/S010_2.png

Folder names are the classes. Those that mean a label of the contract (`anger`, `Happiness`) get its name and come
first, in its order; others follow in the order of the alphabet. Hidden files and folders are passed over, and so are
files beside the class folders; any other file in a class folder must be an image.

CK+48 has 981 posed faces of 118 people, for cross-validation over people, in files as `S010_004_00000017.png`: subject,
sequence, frame. There are seven emotions, with contempt and without neutral, so a network of these classes is not one
that this project serves.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from fer_contract import FACE_SIZE_PX, LABELS
from fer_faces import read_face_crop
from fer_images import ImageLimits, ImageRefusedError
from fer_training.errors import DataError
from fer_training.faces import (
    CONFLICTING,
    REPEATED,
    DropReport,
    LabelledFaces,
    TrainingData,
    assign_groups,
    contract_name,
    find_conflicting,
    find_repeated,
    group_identical,
    join_groups,
)

SUBJECT_PATTERN: Final = re.compile(r"((?:s|subject|id)\d+)[_-]", re.IGNORECASE)
"""Beginning of a file name that tells whose face it is: `S010_004.png`, `subject3-happy.jpg`, `id12_a.png`."""

SPLITS: Final = {"training": 7, "validation": 1, "test": 2}
"""The splits and their parts."""

IMAGE_LIMITS: Final = ImageLimits()


@dataclass(frozen=True)
class ClassFolders:
    """Contents of a folder of class folders, in the order of classes and then of file names."""

    faces: LabelledFaces
    paths: list[Path]
    """The file of each face."""
    refused: dict[str, int]
    """Files that are no usable image, by `ImageRefusedError.reason`."""


@dataclass(frozen=True, kw_only=True)
class FolderData(TrainingData):
    """Class folders, split."""

    test: LabelledFaces
    """Images that are neither trained on nor chosen by."""


def load_class_folders(
    directory: Path,
    *,
    seed: int,
    subject_pattern: re.Pattern[str] = SUBJECT_PATTERN,
    skip_unreadable: bool = False,
    limits: ImageLimits = IMAGE_LIMITS,
) -> FolderData:
    """Read class folders and split them 7:1:2, each class in these parts as well as its groups allow.

    Images of one subject are in one split only, and so are images with the same 48x48 pixels. Where that links images
    of several classes, all of them stay together.

    Args:
        directory: Holds one folder per class.
        seed: Seed of the split. The same files and seed give the same split.
        subject_pattern: Matched with the beginning of file names; what its first group finds (all that it matches, if
            it has no group) is the subject, in large or small letters, in whichever class. A file whose name does not
            match is taken for somebody else's.
        skip_unreadable: Count files that are no usable image instead of refusing the folder.
        limits: Sizes beyond which an image is refused.

    Raises:
        DataError: There are no class folders, one is empty or holds a folder, two are the same class, a name has a
            comma, a file is no usable image, or a class has too few subjects for three splits. The message names the
            folder or file.
    """
    folders = read_class_folders(directory, skip_unreadable=skip_unreadable, limits=limits)
    faces = folders.faces
    subjects = [_find_subject(path.name, subject_pattern) for path in folders.paths]
    identical = group_identical(faces.images)
    groups = join_groups(subjects, identical)
    for label, name in enumerate(faces.class_names):
        count = len(np.unique(groups[faces.labels == label]))
        if count < len(SPLITS):
            raise DataError(
                f"{directory}: class {name} has only {count} subjects or different images, but a split in "
                f"{len(SPLITS)} needs as many. Add images, or leave the class out."
            )
    split_of = _split(directory, groups, faces, seed)
    training, validation, test = select_splits(faces, split_of, len(SPLITS))
    return FolderData(
        training=training,
        validation=validation,
        dropped=report_training(faces, identical, split_of == 0, folders.refused),
        test=test,
        subjects=len({subject for subject in subjects if subject is not None}) or None,
    )


def _split(directory: Path, groups: npt.NDArray[np.int64], faces: LabelledFaces, seed: int) -> npt.NDArray[np.int64]:
    """Return the split of each image, an index into `SPLITS`; each split has images of each class."""
    for every_class in (False, True):  # Small classes need the second.
        rng = np.random.default_rng(seed)
        split_of = assign_groups(groups, faces.labels, tuple(SPLITS.values()), rng, every_class=every_class)
        counts = np.zeros((len(SPLITS), len(faces.class_names)), dtype=np.int64)
        np.add.at(counts, (split_of, faces.labels), 1)
        if counts.all():
            return split_of
    split, label = np.argwhere(counts == 0)[0]
    raise DataError(
        f"{directory}: no image of class {faces.class_names[label]} is left for {list(SPLITS)[split]}, because images "
        "of one subject stay together. Try another seed, or add subjects."
    )


def read_class_folders(
    directory: Path, *, skip_unreadable: bool = False, limits: ImageLimits = IMAGE_LIMITS
) -> ClassFolders:
    """Read all images of all class folders.

    Raises:
        DataError: There are no class folders, one is empty or holds a folder, two are the same class, or a file is no
            usable image.
    """
    images: list[npt.NDArray[np.uint8]] = []
    labels: list[int] = []
    paths: list[Path] = []
    refused: Counter[str] = Counter()
    classes = _find_classes(directory)
    for label, folder in enumerate(classes.values()):
        for path in _list_files(folder):
            try:
                images.append(_read_image(path, limits))
            except ImageRefusedError as error:
                if not skip_unreadable:
                    raise DataError(f"{path}: {error} Remove it, or skip files that cannot be read.") from error
                refused[error.reason] += 1
                continue
            labels.append(label)
            paths.append(path)
        if label not in labels:
            raise DataError(f"{folder}: holds no image that can be read. Add some, or remove the folder.")
    faces = LabelledFaces(
        np.array(images, dtype=np.uint8).reshape(-1, FACE_SIZE_PX, FACE_SIZE_PX),
        np.array(labels, dtype=np.int64),
        tuple(classes),
    )
    return ClassFolders(faces, paths, dict(refused))


def select_splits(faces: LabelledFaces, split_of: npt.NDArray[np.int64], count: int) -> list[LabelledFaces]:
    """Return the images of each split. None of them is in two, so `seen_elsewhere` is false throughout."""
    masks = [split_of == split for split in range(count)]
    return [
        LabelledFaces(
            faces.images[mask],
            faces.labels[mask],
            faces.class_names,
            seen_elsewhere=np.zeros(mask.sum(), dtype=np.bool_),
        )
        for mask in masks
    ]


def report_training(
    faces: LabelledFaces, identical: npt.NDArray[np.int64], training: npt.NDArray[np.bool_], refused: dict[str, int]
) -> DropReport:
    """Return what was refused, and what was noticed about the images to train on.

    Args:
        faces: All images.
        identical: int64, (N,): a number that images with the same pixels share.
        training: bool, (N,): which images to train on.
        refused: Files by the reason why they are no usable image.
    """
    groups = identical[training]
    conflicting = find_conflicting(groups, faces.labels[training])
    return DropReport(
        found=int(training.sum()) + sum(refused.values()),
        dropped={f"unreadable ({reason})": count for reason, count in sorted(refused.items())},
        noticed={
            CONFLICTING: int(conflicting.sum()),
            REPEATED: int((find_repeated(groups) & ~conflicting).sum()),
        },
    )


def _find_classes(directory: Path) -> dict[str, Path]:
    """Find the folder of each class, by the class's name, in the order of labels."""
    folders = sorted(path for path in _list_visible(directory) if path.is_dir())
    if not folders:
        raise DataError(f"{directory}: holds no folders. Give the folder that holds one folder of images per class.")
    classes: dict[str, Path] = {}
    for folder in folders:
        name = contract_name(folder.name)
        if "," in name:
            raise DataError(
                f"{folder}: a class name must not have a comma: ONNX files list them so. Rename the folder."
            )
        if name in classes:
            raise DataError(f"{directory}: {classes[name].name} and {folder.name} are both class {name}. Join them.")
        classes[name] = folder
    order = sorted(classes, key=lambda name: (LABELS.index(name) if name in LABELS else len(LABELS), name))
    return {name: classes[name] for name in order}


def _list_files(folder: Path) -> Iterator[Path]:
    for path in sorted(_list_visible(folder)):
        if path.is_dir():
            raise DataError(
                f"{path}: is a folder, but class folders hold only images. Give the folder that holds one folder of "
                "images per class."
            )
        yield path


def _list_visible(directory: Path) -> list[Path]:
    try:
        return [path for path in directory.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{directory}: cannot be read ({error.strerror}). Give a folder of class folders.") from error


def _read_image(path: Path, limits: ImageLimits) -> npt.NDArray[np.uint8]:
    """Read one face: uint8, (48, 48)."""
    try:
        with path.open("rb") as file:
            data = file.read(limits.max_bytes + 1)  # enough to be refused as too many
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    crop, _ = read_face_crop(data, limits)
    return np.asarray(crop[0, 0], dtype=np.uint8)


def _find_subject(name: str, pattern: re.Pattern[str]) -> str | None:
    match = pattern.match(name)
    subject = match and match.group(1 if pattern.groups else 0)
    return subject.casefold() if subject else None


CK48_CLASSES: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "contempt")
"""The contract's names where it has one."""

CK48_FOLDS: Final = 10
"""Source: the number that is usual in publications on CK+."""

_CK48_NAME: Final = re.compile(r"(S\d+)_\d+_\d+\.\w+", re.IGNORECASE)


def load_ck48(directory: Path, *, fold: int, folds: int = CK48_FOLDS) -> TrainingData:
    """Read CK+48 with one fold as validation and all others as training.

    All images of a subject are in one fold, so those of a sequence are too. Subjects are given to folds so that these
    have about as many images, in all and of each emotion; the same files always give the same folds.

    Args:
        directory: Holds the folders anger, contempt, disgust, fear, happy, sadness and surprise.
        fold: Number of the validation fold, 0 to `folds` - 1.
        folds: Number of folds.

    Raises:
        DataError: The folders are not those of CK+48, a file's name tells no subject, a file is no usable image, or
            `fold` and `folds` ask for what there is not.
    """
    if not 0 <= fold < folds:
        raise DataError(f"the fold must be 0 to {folds - 1} of {folds} folds, but is {fold}.")
    folders = read_class_folders(directory)
    faces = folders.faces
    if faces.class_names != CK48_CLASSES:
        raise DataError(
            f"{directory}: the classes of CK+48 are {', '.join(CK48_CLASSES)}, but the folders are "
            f"{', '.join(faces.class_names)}. Load other data as class folders."
        )
    subjects = []
    for path in folders.paths:
        match = _CK48_NAME.fullmatch(path.name)
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
