"""FER2013's CSV: reading it, and choosing the rows to train on. Used by `train`, `evaluate` and `export`.

The file has the columns `emotion` (0..6), `pixels` (2,304 numbers from 0 to 255) and `Usage` (Training, PublicTest or
PrivateTest). PublicTest and PrivateTest are used whole, so that figures compare with published ones. Of Training, rows
are dropped that would teach nothing or give an evaluation image away; `DropReport` counts them.

Rows are numbered from 0, the first after the header, in messages as in `excluded_rows.txt`.
"""

import csv
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from fer_contract import FACE_SIZE_PX, LABELS
from fer_training.errors import DataError
from fer_training.faces import DropReport, LabelledFaces, TrainingData

CSV_NAME: Final = "fer2013.csv"
EXCLUDED_ROWS_NAME: Final = "excluded_rows.txt"
TRAINING: Final = "Training"
PUBLIC_TEST: Final = "PublicTest"
PRIVATE_TEST: Final = "PrivateTest"
USAGES: Final = (TRAINING, PUBLIC_TEST, PRIVATE_TEST)
COLUMNS: Final = ("emotion", "pixels", "Usage")
PIXELS: Final = FACE_SIZE_PX * FACE_SIZE_PX


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


def load_training_data(directory: Path) -> TrainingData:
    """Reads `fer2013.csv` and drops the Training rows that must not be trained on.

    Args:
        directory: holds `fer2013.csv` and, optionally, `excluded_rows.txt` with one row number a line.

    Raises:
        DataError: a file is missing or a row is unusable; the message names both.
    """
    splits = read_csv(directory / CSV_NAME)
    training, public_test = splits[TRAINING], splits[PUBLIC_TEST]
    for usage in (TRAINING, PUBLIC_TEST):
        if not len(splits[usage]):
            raise DataError(f"{directory / CSV_NAME}: has no {usage} rows. Training needs Training and PublicTest.")
    row_count = sum(len(split) for split in splits.values())
    listed = np.isin(training.rows, _read_excluded_rows(directory / EXCLUDED_ROWS_NAME, row_count))
    constant = np.ptp(training.images, axis=(1, 2)) == 0
    evaluated = {image.tobytes() for usage in (PUBLIC_TEST, PRIVATE_TEST) for image in splits[usage].images}
    seen = np.array([image.tobytes() in evaluated for image in training.images])
    dropped = DropReport(
        found=len(training),
        dropped={
            f"listed in {EXCLUDED_ROWS_NAME}": int(listed.sum()),
            "constant": int((constant & ~listed).sum()),
            "identical to an evaluation image": int((seen & ~constant & ~listed).sum()),
        },
    )
    if not dropped.kept:
        raise DataError(f"{directory / CSV_NAME}: nothing is left to train on: {dropped}.")
    keep = ~(listed | constant | seen)
    return TrainingData(
        LabelledFaces(training.images[keep], training.labels[keep]),
        LabelledFaces(public_test.images, public_test.labels),
        dropped,
    )


def load_evaluation_data(directory: Path, usage: str) -> LabelledFaces:
    """Reads all rows of one usage, none dropped.

    Raises:
        DataError: the CSV is missing, has an unusable row of this usage, or has none of this usage.
    """
    faces = read_csv(directory / CSV_NAME, (usage,))[usage]
    if not len(faces):
        raise DataError(f"{directory / CSV_NAME}: has no {usage} rows.")
    return LabelledFaces(faces.images, faces.labels)


def read_csv(path: Path, usages: tuple[str, ...] = USAGES) -> dict[str, UsageRows]:
    """Reads the rows of the given usages; rows of others are counted, not parsed.

    Returns:
        One `UsageRows` for each usage asked for, empty where the CSV has none.

    Raises:
        DataError: the file is missing or not UTF-8 text, a column is missing, or a row is unusable.
    """
    images: dict[str, list[npt.NDArray[np.uint8]]] = {usage: [] for usage in usages}
    labels: dict[str, list[int]] = {usage: [] for usage in usages}
    rows: dict[str, list[int]] = {usage: [] for usage in usages}
    for row, emotion, pixels, usage in _iterate_rows(path):
        where = f"{path}, row {row}"
        if usage not in USAGES:
            raise DataError(f"{where}: Usage must be one of {', '.join(USAGES)}, but is {usage!r}.")
        if usage not in usages:
            continue
        labels[usage].append(_parse_label(emotion, where))
        images[usage].append(_parse_pixels(pixels, where))
        rows[usage].append(row)
    return {
        usage: UsageRows(
            np.array(images[usage], dtype=np.uint8).reshape(-1, FACE_SIZE_PX, FACE_SIZE_PX),
            np.array(labels[usage], dtype=np.int64),
            np.array(rows[usage], dtype=np.int64),
        )
        for usage in usages
    }


def _iterate_rows(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """Yields row number, emotion, pixels and usage as text, in whatever order the columns are."""
    try:
        file = path.open(newline="", encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Give --fer2013 the folder with {CSV_NAME}."
        ) from error
    with file:
        reader = csv.reader(file)
        try:
            header = next(reader, [])
            missing = [column for column in COLUMNS if column not in header]
            if missing:
                raise DataError(
                    f"{path}: column {missing[0]} is missing. Expected {', '.join(COLUMNS)}; found {header}."
                )
            emotion, pixels, usage = (header.index(column) for column in COLUMNS)
            for row, values in enumerate(reader):
                if len(values) != len(header):
                    raise DataError(f"{path}, row {row}: has {len(values)} columns, but the header has {len(header)}.")
                yield row, values[emotion], values[pixels], values[usage]
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path}, after line {reader.line_num}: is not CSV in UTF-8: {error}.") from error


def _parse_label(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= len(LABELS):
        raise DataError(f"{where}: emotion must be a whole number from 0 to {len(LABELS) - 1}, but is {text!r}.")
    return int(text)


def _parse_pixels(text: str, where: str) -> npt.NDArray[np.uint8]:
    """Parses one image: uint8, (2304,). NumPy's text parser, three times as fast as `int` on each number."""
    try:
        with warnings.catch_warnings():
            # NumPy before 2.3 warns where later ones raise, and returns what it could read.
            warnings.simplefilter("error", DeprecationWarning)
            values = np.fromstring(text, dtype=np.int32, sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise DataError(f"{where}: pixels must be whole numbers separated by spaces, but are {text[:40]!r}.") from error
    if len(values) != PIXELS:
        raise DataError(f"{where}: pixels must be {PIXELS} numbers (48 x 48), but there are {len(values)}.")
    if values.min() < 0 or values.max() > 255:
        raise DataError(f"{where}: pixels must be from 0 to 255, but go from {values.min()} to {values.max()}.")
    return values.astype(np.uint8)


def _read_excluded_rows(path: Path, row_count: int) -> list[int]:
    """Reads the row numbers never to train on; none where there is no such file."""
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
