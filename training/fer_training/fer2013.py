"""FER2013's CSV: reading it, and choosing the rows to train on. Used by `train`, `evaluate`, `export`, `report_data`.

The file has the columns `emotion` (0..6), `pixels` (2,304 numbers from 0 to 255) and `Usage` (Training, PublicTest or
PrivateTest). PublicTest and PrivateTest are used whole, so that figures compare with published ones. Of Training, rows
are dropped that would teach nothing or give an evaluation image away; `DropReport` counts them.

Rows are numbered from 0, the first after the header, in messages as in `excluded_rows.txt`. That file may list rows of
any usage: those of Training are dropped, those of an evaluation usage are marked in `LabelledFaces.seen_elsewhere`.
"""

import csv
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from fer_contract import FACE_SIZE_PX, LABELS
from fer_training.errors import DataError
from fer_training.faces import (
    CONFLICTING,
    REPEATED,
    DropReport,
    LabelledFaces,
    TrainingData,
    assign_groups,
    find_conflicting,
    find_repeated,
    group_identical,
)
from fer_training.ferplus import NO_FACE, VOTES_NAME, is_no_face, read_votes

CSV_NAME: Final = "fer2013.csv"
EXCLUDED_ROWS_NAME: Final = "excluded_rows.txt"
TRAINING: Final = "Training"
PUBLIC_TEST: Final = "PublicTest"
PRIVATE_TEST: Final = "PrivateTest"
HELD_OUT: Final = "HeldOut"
"""The commands' name for the images of `choose_held_out`, which the CSV does not have."""
USAGES: Final = (TRAINING, PUBLIC_TEST, PRIVATE_TEST)
COLUMNS: Final = ("emotion", "pixels", "Usage")
PIXELS: Final = FACE_SIZE_PX * FACE_SIZE_PX
HELD_OUT_IMAGES: Final = 2000
HELD_OUT_SEED: Final = 0
HELD_OUT_REASON: Final = "held out"
START_PIXELS: Final = 16
"""Pixels by which a row is told to be no image's twin without being parsed."""


@dataclass(frozen=True)
class UsageRows:
    """The rows of one usage, in the order of the CSV."""

    images: npt.NDArray[np.uint8]
    """uint8, (N, 48, 48), gray, 0..255."""
    labels: npt.NDArray[np.int64]
    """int64, (N,), 0..6, an index into `fer_contract.LABELS`."""
    rows: npt.NDArray[np.int64]
    """int64, (N,), row numbers in the CSV."""

    def __len__(self) -> int:
        return len(self.labels)


def load_training_data(
    directory: Path,
    *,
    votes: bool = False,
    drop_conflicting: bool = False,
    drop_no_face: bool = False,
    hold_out: bool = False,
    rows: dict[str, UsageRows] | None = None,
) -> TrainingData:
    """Read `fer2013.csv` and drop the Training rows that must not be trained on.

    Args:
        directory: Folder with `fer2013.csv`; optionally `excluded_rows.txt`, one row number a line; and FER+'s
            `fer2013new.csv` where an option needs it.
        votes: Give the images their FER+ votes.
        drop_conflicting: Drop all Training images that are also there with another label, instead of noting them.
        drop_no_face: Drop Training images of `ferplus.is_no_face`, instead of noting them where `votes` are read.
        hold_out: Drop the images of `choose_held_out`, and give them in PublicTest's place.
        rows: The rows of all usages, from `read_csv`; None reads them.

    Returns:
        What is kept of Training; and PublicTest whole, with `seen_elsewhere` as in `load_evaluation_data`.

    Raises:
        DataError: A file is missing or a row is unusable; the message names both.
    """
    rows = read_csv(directory / CSV_NAME) if rows is None else rows
    training, public_test = rows[TRAINING], rows[PUBLIC_TEST]
    for usage in (TRAINING, PUBLIC_TEST):
        if not len(rows[usage]):
            raise DataError(f"{directory / CSV_NAME}: has no {usage} rows. Training needs Training and PublicTest.")
    usages = _usages_by_row(rows)
    excluded = _read_excluded_rows(directory / EXCLUDED_ROWS_NAME, len(usages))
    ballots = read_votes(directory / VOTES_NAME, usages) if votes or drop_no_face else None
    groups = group_identical(training.images)
    conflicting = find_conflicting(groups, training.labels)

    drops = _find_unfit(rows, excluded)
    if hold_out:
        # What must not be trained on says nothing as a held-out image either.
        held_out = choose_held_out(groups, training.labels) & ~np.any(list(drops.values()), axis=0)
        drops[HELD_OUT_REASON] = held_out
    notices: dict[str, npt.NDArray[np.bool_]] = {}
    if ballots is not None:
        (drops if drop_no_face else notices)[NO_FACE] = is_no_face(ballots[training.rows])
    (drops if drop_conflicting else notices)[CONFLICTING] = conflicting
    keep, dropped = _drop(drops)
    noticed = {reason: int((keep & flawed).sum()) for reason, flawed in notices.items()}
    noticed[REPEATED] = int((find_repeated(groups[keep]) & ~conflicting[keep]).sum())
    report = DropReport(len(training), dropped, noticed)
    if not report.kept:
        raise DataError(f"{directory / CSV_NAME}: nothing is left to train on: {report}.")

    ballots = ballots if votes else None
    if hold_out:
        return TrainingData(_to_faces(training, keep, ballots), _to_faces(training, held_out, ballots), report)
    twins = _is_among(_hashable(public_test.images), _hashable(rows[PRIVATE_TEST].images))
    seen = np.isin(public_test.rows, excluded) | twins
    validation = _to_faces(public_test, np.full(len(public_test), True), ballots)
    return TrainingData(_to_faces(training, keep, ballots), replace(validation, seen_elsewhere=seen), report)


def _find_unfit(rows: dict[str, UsageRows], excluded: list[int]) -> dict[str, npt.NDArray[np.bool_]]:
    """Find the Training rows that are never trained on: bool, (N,), by the reason."""
    training = rows[TRAINING]
    evaluation = [image for usage in (PUBLIC_TEST, PRIVATE_TEST) for image in _hashable(rows[usage].images)]
    return {
        f"listed in {EXCLUDED_ROWS_NAME}": np.isin(training.rows, excluded),
        "constant": np.ptp(training.images, axis=(1, 2)) == 0,
        "identical to an evaluation image": _is_among(_hashable(training.images), evaluation),
    }


def choose_held_out(groups: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Choose about 2,000 Training images to choose recipes by, so that PublicTest is not worn out.

    They are the same for every recipe and seed. Identical images are together, all classes have their part; who is on
    an image is not known.

    Args:
        groups: int64, (N,), of all Training rows, from `faces.group_identical`.
        labels: int64, (N,).

    Returns:
        bool, (N,).
    """
    part = min(HELD_OUT_IMAGES / len(labels), 0.5)
    split_of = assign_groups(groups, labels, (1 - part, part), np.random.default_rng(HELD_OUT_SEED))
    return np.asarray(split_of == 1)


def _drop(flaws: dict[str, npt.NDArray[np.bool_]]) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
    """Return which images have none of the flaws, bool (N,), and how many have which one first."""
    keep = np.full(len(next(iter(flaws.values()))), True)
    dropped = {}
    for reason, flawed in flaws.items():
        dropped[reason] = int((keep & flawed).sum())
        keep &= ~flawed
    return keep, dropped


def _to_faces(split: UsageRows, keep: npt.NDArray[np.bool_], ballots: npt.NDArray[np.float32] | None) -> LabelledFaces:
    """Select the rows to keep, with their part of the votes on the whole CSV."""
    votes = None if ballots is None else ballots[split.rows[keep]]
    return LabelledFaces(split.images[keep], split.labels[keep], votes=votes)


def load_evaluation_data(directory: Path, usage: str) -> LabelledFaces:
    """Read all rows of one usage, none dropped; or the images that are held out of Training.

    `seen_elsewhere` marks the rows that are listed in `excluded_rows.txt`, and those whose pixels are also in a row of
    another evaluation usage, as far as the CSV has it: that list is how a CSV without PrivateTest can tell of it. Twins
    in Training mark nothing: it is they that are dropped.

    Raises:
        DataError: The CSV is missing, has an unusable row of this usage, or has none of this usage; or
            `excluded_rows.txt` has an unusable line.
    """
    if usage == HELD_OUT:
        return load_training_data(directory, hold_out=True).validation
    path = directory / CSV_NAME
    splits, row_count = _read_rows(path, (usage,))
    faces = splits[usage]
    if not len(faces):
        raise DataError(f"{path}: has no {usage} rows.")
    listed = np.isin(faces.rows, _read_excluded_rows(directory / EXCLUDED_ROWS_NAME, row_count))
    return LabelledFaces(
        faces.images, faces.labels, seen_elsewhere=listed | _find_in_evaluation(path, usage, faces.images)
    )


def read_csv(path: Path, usages: tuple[str, ...] = USAGES) -> dict[str, UsageRows]:
    """Read the rows of the given usages; rows of others are counted, not parsed.

    Returns:
        One `UsageRows` for each usage asked for, empty where the CSV has none.

    Raises:
        DataError: The file is missing or not UTF-8 text, a column is missing, or a row is unusable.
    """
    return _read_rows(path, usages)[0]


def _read_rows(path: Path, usages: tuple[str, ...]) -> tuple[dict[str, UsageRows], int]:
    """Do what `read_csv` does, and count the rows of all usages."""
    images: dict[str, list[npt.NDArray[np.uint8]]] = {usage: [] for usage in usages}
    labels: dict[str, list[int]] = {usage: [] for usage in usages}
    rows: dict[str, list[int]] = {usage: [] for usage in usages}
    row = -1
    with warnings.catch_warnings():
        # NumPy before 2.3 warns of text that is not numbers where later ones raise, and returns what it could read.
        warnings.simplefilter("error", DeprecationWarning)
        for row, emotion, pixels, usage in _iterate_rows(path):
            where = f"{path}, row {row}"
            if usage not in USAGES:
                raise DataError(f"{where}: Usage must be one of {', '.join(USAGES)}, but is {usage!r}.")
            if usage not in usages:
                continue
            labels[usage].append(_parse_label(emotion, where))
            images[usage].append(_parse_pixels(pixels, where))
            rows[usage].append(row)
    splits = {
        usage: UsageRows(
            np.array(images[usage], dtype=np.uint8).reshape(-1, FACE_SIZE_PX, FACE_SIZE_PX),
            np.array(labels[usage], dtype=np.int64),
            np.array(rows[usage], dtype=np.int64),
        )
        for usage in usages
    }
    return splits, row + 1


def _find_in_evaluation(path: Path, usage: str, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Tell which images are also in a row of another evaluation usage: bool, (N,).

    A second pass over the file, which parses only the rows that begin like one of the images. Comparing text would
    not do: 7 may be written 007.
    """
    starts = {tuple(image.ravel()[:START_PIXELS].tolist()) for image in images}
    elsewhere = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        for row, _, pixels, other in _iterate_rows(path):
            if other in (usage, TRAINING):
                continue
            try:
                if tuple(map(int, pixels.split(maxsplit=START_PIXELS)[:START_PIXELS])) in starts:
                    elsewhere.append(_parse_pixels(pixels, f"{path}, row {row}").tobytes())
            except (ValueError, DataError):  # An unusable row is nobody's twin, and is refused where it is used.
                continue
    return _is_among(_hashable(images), elsewhere)


def _hashable(images: npt.NDArray[np.uint8]) -> list[bytes]:
    return [image.tobytes() for image in images]


def _is_among(images: list[bytes], others: list[bytes]) -> npt.NDArray[np.bool_]:
    """Tell which of the images are among others: bool, (N,)."""
    known = set(others)
    return np.array([image in known for image in images], dtype=np.bool_)


def _usages_by_row(splits: dict[str, UsageRows]) -> list[str]:
    """Return the column `Usage`, of a CSV of which all usages were read."""
    usages = np.empty(sum(len(split) for split in splits.values()), dtype=object)
    for usage, split in splits.items():
        usages[split.rows] = usage
    return list(usages)


def _iterate_rows(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """Yield row number, emotion, pixels and usage as text, in whatever order the columns are."""
    try:
        file = path.open(newline="", encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Give --fer2013 the folder with {CSV_NAME}."
        ) from error
    line_number = 0
    with file:
        try:
            header = _split_line(file.readline())
            missing = [column for column in COLUMNS if column not in header]
            if missing:
                raise DataError(
                    f"{path}: column {missing[0]} is missing. Expected {', '.join(COLUMNS)}; found {header}."
                )
            emotion, pixels, usage = (header.index(column) for column in COLUMNS)
            for row, line in enumerate(file):
                line_number = row + 2
                values = _split_line(line)
                if len(values) != len(header):
                    raise DataError(f"{path}, row {row}: has {len(values)} columns, but the header has {len(header)}.")
                yield row, values[emotion], values[pixels], values[usage]
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path}, after line {line_number}: is not CSV in UTF-8: {error}.") from error


def _split_line(line: str) -> list[str]:
    """Split one line. `csv` would look at each character: five times as slow, and only quotes need it."""
    return next(csv.reader([line])) if '"' in line else line.rstrip("\r\n").split(",")


def _parse_label(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= len(LABELS):
        raise DataError(f"{where}: emotion must be a whole number from 0 to {len(LABELS) - 1}, but is {text!r}.")
    return int(text)


def _parse_pixels(text: str, where: str) -> npt.NDArray[np.uint8]:
    """Parse one image: uint8, (2304,). NumPy's text parser is three times as fast as `int` on each number.

    To be called where DeprecationWarning is an error.
    """
    try:
        values = np.fromstring(text, dtype=np.int32, sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise DataError(f"{where}: pixels must be whole numbers separated by spaces, but are {text[:40]!r}.") from error
    if len(values) != PIXELS:
        raise DataError(f"{where}: pixels must be {PIXELS} numbers (48 x 48), but there are {len(values)}.")
    if values.min() < 0 or values.max() > 255:
        raise DataError(f"{where}: pixels must be from 0 to 255, but go from {values.min()} to {values.max()}.")
    return values.astype(np.uint8)


def _read_excluded_rows(path: Path, row_count: int) -> list[int]:
    """Read the row numbers never to train on, and to mark in evaluation; none where there is no such file."""
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.strip()
        if not text:
            continue
        if not (text.isascii() and text.isdigit()) or int(text) >= row_count:
            raise DataError(
                f"{path}, line {number}: must be a row number of {CSV_NAME}, 0 to {row_count - 1}, but is {text!r}."
            )
        rows.append(int(text))
    return rows
