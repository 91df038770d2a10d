"""FER+: how ten people each labelled every image of FER2013. Read by `fer2013`.

`fer2013new.csv` has the columns `Usage`, `Image name` and, with a number of votes, each of `faces.VOTES`. Its rows are
those of `fer2013.csv` in the same order. The numbers in the image names are others, so nothing goes by them.

A CSV may lack a usage altogether, say PrivateTest. The rows that the complete FER+ file has of such a usage are passed
over; all others must agree with the CSV in number and, one by one, in usage.

Source: https://github.com/microsoft/FERPlus
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from fer_contract import LABELS
from fer_training.errors import DataError
from fer_training.faces import VOTES, contract_name

VOTES_NAME: Final = "fer2013new.csv"
NO_FACE: Final = "no face by FER+ votes"
"""The reason in a `DropReport`."""


def read_votes(path: Path, usages: Sequence[str]) -> npt.NDArray[np.float32]:
    """Read FER+'s votes on the rows of a FER2013 CSV.

    Args:
        path: The file `fer2013new.csv`.
        usages: The CSV's column `Usage`.

    Returns:
        float32, (N, 10): votes as parts of 1 for each row of the CSV, in the order of `VOTES`.

    Raises:
        DataError: The file is missing or not UTF-8 text, a column is missing, a row is unusable, or the rows are not
            those of the CSV.
    """
    known = set(usages)
    counts: list[list[int]] = []
    for row, usage, values in _iterate_rows(path):
        where = f"{path}, row {row}"
        if usage not in known:
            continue
        if len(counts) < len(usages) and usage != usages[len(counts)]:
            raise DataError(
                f"{where}: Usage is {usage}, but row {len(counts)} of fer2013.csv is of {usages[len(counts)]}. "
                "Both files must have the same rows in the same order."
            )
        counts.append(_parse_votes(values, where))
    if len(counts) != len(usages):
        raise DataError(
            f"{path}: has {len(counts)} rows of {', '.join(sorted(known))}, but fer2013.csv has {len(usages)}. "
            "Both files must have the same rows in the same order."
        )
    table = np.array(counts, dtype=np.float32).reshape(-1, len(VOTES))
    return np.asarray(table / table.sum(axis=1, keepdims=True), dtype=np.float32)


def is_no_face(votes: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Tell which images show no face: NF has more votes than any other answer. A draw keeps the image.

    Args:
        votes: float32, (N, 10), in the order of `VOTES`.

    Returns:
        bool, (N,).
    """
    no_face = VOTES.index("NF")
    return np.asarray(votes[:, no_face] > np.delete(votes, no_face, axis=1).max(axis=1))


def measure_agreement(votes: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float | None:
    """Return the part of the images whose label has the most FER+ votes, of those where a label has the most.

    About two thirds on FER2013. Much less means that the two files do not belong together. None of no such image.

    Args:
        votes: float32, (N, 10), in the order of `VOTES`.
        labels: int64, (N,), an index into `fer_contract.LABELS`.
    """
    names = [contract_name(vote) for vote in VOTES]
    label_of = np.array([LABELS.index(name) if name in LABELS else -1 for name in names])
    voted = label_of[votes.argmax(axis=1)]
    clear = voted >= 0
    return float(np.mean(voted[clear] == labels[clear])) if clear.any() else None


def _iterate_rows(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Yield row number, usage and votes as text, in whatever order the columns are."""
    try:
        file = path.open(newline="", encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Put FER+'s {VOTES_NAME} beside fer2013.csv, or take a "
            "recipe without votes, such as training/recipes/own.toml."
        ) from error
    with file:
        reader = csv.reader(file)
        try:
            header = next(reader, [])
            missing = [column for column in ("Usage", *VOTES) if column not in header]
            if missing:
                raise DataError(
                    f"{path}: column {missing[0]} is missing. Expected Usage, {', '.join(VOTES)}; found {header}."
                )
            usage, columns = header.index("Usage"), [header.index(vote) for vote in VOTES]
            for row, values in enumerate(reader):
                if len(values) != len(header):
                    raise DataError(f"{path}, row {row}: has {len(values)} columns, but the header has {len(header)}.")
                yield row, values[usage], [values[column] for column in columns]
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path}, after line {reader.line_num}: is not CSV in UTF-8: {error}.") from error


def _parse_votes(values: list[str], where: str) -> list[int]:
    for vote, text in zip(VOTES, values, strict=True):
        if not (text.isascii() and text.isdigit()):
            raise DataError(f"{where}: {vote} must be a whole number of votes, but is {text!r}.")
    votes = [int(text) for text in values]
    if not any(votes):
        raise DataError(f"{where}: has no votes at all. Each image needs at least one.")
    return votes
