"""`fer-train report-data`: report what a data set holds, before anything is trained on it.

Images by split and class, what is dropped and what is kept in spite of a flaw, images that occur more than once, and
the hash that a checkpoint of a run on this data names.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_training.faces import DropReport, LabelledFaces, TrainingData, find_conflicting, group_identical
from fer_training.fer2013 import CSV_NAME, PUBLIC_TEST, TRAINING, UsageRows, load_training_data, read_csv
from fer_training.ferplus import is_no_face, measure_agreement
from fer_training.folders import FolderData
from fer_training.sources import add_source_options, load_split_source, parse_options

TRAINED_ON: Final = "trained on"
ALL: Final = "all"


@dataclass(frozen=True)
class IdenticalImages:
    """How many images have the same pixels as another one."""

    groups: int
    """Pictures that occur more than once."""
    images: int
    """Their occurrences."""
    conflicting_groups: int
    """Pictures that occur with more than one label."""
    conflicting_images: int
    """Their occurrences."""


@dataclass(frozen=True)
class VoteCounts:
    """FER+'s votes on the images of a split."""

    images: int
    no_face: int
    """Images of which "no face" is the most frequent vote."""
    agreement: float | None
    """Part of the images whose label is also the most frequent vote; see `ferplus.measure_agreement`."""


@dataclass(frozen=True)
class DataReport:
    """Contents of a data set."""

    splits: dict[str, dict[str, int]]
    """Images by split and class. Of FER2013 the usages as found, and what of Training is trained on."""
    subjects: int | None
    """People that file names tell apart; None where they do not, and of FER2013."""
    dropped: DropReport
    identical: dict[str, IdenticalImages]
    """Counts by split, as found, and in all of them together."""
    across_splits: dict[str, dict[str, int]]
    """Split -> other split -> images of the first that are also in the other."""
    votes: dict[str, VoteCounts]
    """Votes on what is trained on, and on PublicTest. Empty without FER+."""
    training_sha256: str
    """Hash of what is trained on: `LabelledFaces.sha256`."""


def report_fer2013(rows: dict[str, UsageRows], data: TrainingData) -> DataReport:
    """Report on FER2013."""
    found = {usage: LabelledFaces(split.images, split.labels) for usage, split in rows.items() if len(split)}
    counts = {usage: _count_classes(faces) for usage, faces in found.items()}
    voted = {TRAINED_ON: data.training, PUBLIC_TEST: data.validation}
    return DataReport(
        splits={TRAINING: counts.pop(TRAINING), TRAINED_ON: _count_classes(data.training), **counts},
        subjects=None,
        dropped=data.dropped,
        identical=_count_identical(found),
        across_splits=_count_across_splits(found),
        votes={
            name: _count_votes(faces.votes, faces.labels) for name, faces in voted.items() if faces.votes is not None
        },
        training_sha256=data.training.sha256(),
    )


def report_splits(data: TrainingData) -> DataReport:
    """Report on a source that was split here: class folders with a test set, or a fold of CK+48 without one."""
    splits = {"training": data.training, "validation": data.validation}
    if isinstance(data, FolderData):
        splits["test"] = data.test
    return DataReport(
        splits={name: _count_classes(faces) for name, faces in splits.items()},
        subjects=data.subjects,
        dropped=data.dropped,
        identical=_count_identical(splits),
        across_splits=_count_across_splits(splits),
        votes={},
        training_sha256=data.training.sha256(),
    )


def _count_classes(faces: LabelledFaces) -> dict[str, int]:
    counts = np.bincount(faces.labels, minlength=len(faces.class_names)).tolist()
    return dict(zip(faces.class_names, counts, strict=True))


def _count_identical(splits: dict[str, LabelledFaces]) -> dict[str, IdenticalImages]:
    together = {name: [faces] for name, faces in splits.items()} | {ALL: list(splits.values())}
    counts = {}
    for name, parts in together.items():
        groups = group_identical(np.concatenate([faces.images for faces in parts]))
        conflicting = find_conflicting(groups, np.concatenate([faces.labels for faces in parts]))
        sizes = np.bincount(groups)
        counts[name] = IdenticalImages(
            groups=int((sizes > 1).sum()),
            images=int(sizes[sizes > 1].sum()),
            conflicting_groups=len(np.unique(groups[conflicting])),
            conflicting_images=int(conflicting.sum()),
        )
    return counts


def _count_across_splits(splits: dict[str, LabelledFaces]) -> dict[str, dict[str, int]]:
    pictures = {name: Counter(image.tobytes() for image in faces.images) for name, faces in splits.items()}
    return {
        name: {
            other: sum(count for picture, count in counts.items() if picture in pictures[other])
            for other in splits
            if other != name
        }
        for name, counts in pictures.items()
    }


def _count_votes(votes: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> VoteCounts:
    return VoteCounts(len(labels), int(is_no_face(votes).sum()), measure_agreement(votes, labels))


def format_report(report: DataReport) -> str:
    """Format the report as lines of text."""
    columns = {name: {**counts, ALL: sum(counts.values())} for name, counts in report.splits.items()}
    classes = list(next(iter(columns.values())))
    lines = [str(report.dropped), ""]
    lines += _format_table("images", {name: [column[name] for column in columns.values()] for name in classes}, columns)
    if report.subjects is not None:
        lines.append(f"{report.subjects} subjects, each in one split only")
    elif TRAINED_ON not in report.splits:
        lines.append("file names tell no subjects: each file counts as another person's")
    lines.append("")
    lines += _format_table(
        "identical",
        {name: list(asdict(counts).values()) for name, counts in report.identical.items()},
        ["groups", "images", "groups of several labels", "images in these"],
    )
    lines += [
        f"{count} of {name} are also in {other}"
        for name, others in report.across_splits.items()
        for other, count in others.items()
        if count
    ] or ["no image is in two splits"]
    lines += [
        f"FER+, {name}: {counts.no_face} of {counts.images} show no face"
        + (f"; the label has the most votes in {counts.agreement:.1%}" if counts.agreement is not None else "")
        for name, counts in report.votes.items()
    ]
    return "\n".join([*lines, "", f"SHA-256 of the training set: {report.training_sha256}"])


def _format_table(title: str, rows: dict[str, list[int]], columns: Iterable[str]) -> list[str]:
    first = max(len(title), *map(len, rows))
    widths = [max(len(column), 7) for column in columns]
    lines = ["  ".join([title.ljust(first), *(c.rjust(w) for c, w in zip(columns, widths, strict=True))])]
    for name, values in rows.items():
        cells = (str(value).rjust(width) for value, width in zip(values, widths, strict=True))
        lines.append("  ".join([name.ljust(first), *cells]))
    return lines


def _build_report(options: argparse.Namespace) -> DataReport:
    if not options.fer2013:
        return report_splits(load_split_source(options))
    rows = read_csv(options.fer2013 / CSV_NAME)
    data = load_training_data(
        options.fer2013,
        votes=options.votes,
        drop_conflicting=options.drop_conflicting,
        drop_no_face=options.drop_no_face,
        rows=rows,
    )
    return report_fer2013(rows, data)


def main(arguments: Sequence[str]) -> int:
    """Run `fer-train report-data` and return its exit code."""
    parser = subcommand_parser(
        "fer-train report-data",
        description="Report what a data set holds, what is dropped, and why.",
        examples="""\
  fer-train report-data --fer2013 DIR --votes
  fer-train report-data --folder DIR --split-seed 1
  fer-train report-data --ck48 DIR --fold 0 --json""",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    fer2013 = parser.add_argument_group("with --fer2013")
    fer2013.add_argument("--votes", action="store_true", help="read FER+'s fer2013new.csv too")
    fer2013.add_argument("--drop-conflicting", action="store_true", help="drop what is also there with another label")
    fer2013.add_argument("--drop-no-face", action="store_true", help="drop what FER+'s votes call no face")
    add_source_options(parser)
    options = parse_options(parser, arguments)
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    report = _build_report(options)
    print(json.dumps(asdict(report), indent=2) if options.json else format_report(report))
