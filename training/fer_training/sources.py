"""Data sources: the options that all commands share, and the loader behind each.

Used by all commands that look at images.
"""

import argparse
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fer_training.errors import RecipeError
from fer_training.faces import LabelledFaces, TrainingData
from fer_training.fer2013 import HELD_OUT, PUBLIC_TEST, USAGES, load_evaluation_data, load_training_data
from fer_training.folders import CK48_FOLDS, SUBJECT_PATTERN, FolderData, load_ck48, load_class_folders
from fer_training.losses import WITHOUT_VOTES
from fer_training.recipe import DataRecipe, Recipe

VALIDATION: Final = "validation"
TEST: Final = "test"

_OPTIONS: Final = {
    "fer2013": ("usage", "votes", "drop_conflicting", "drop_no_face"),
    "folder": ("split_seed", "subject_pattern", "skip_unreadable", "split"),
    "ck48": ("fold", "folds"),
}
"""Options that only one source has, of whichever command, by the source."""


def add_source_options(parser: argparse.ArgumentParser, *, to_measure: bool = False) -> None:
    """Add `--fer2013`, `--folder` and `--ck48`, one of which must be given, and the options of each."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--fer2013", type=Path, metavar="DIR", help="folder with fer2013.csv")
    source.add_argument("--folder", type=Path, metavar="DIR", help="folder with one folder of images per class")
    source.add_argument("--ck48", type=Path, metavar="DIR", help="folder with the seven folders of CK+48")
    if to_measure:
        group = parser.add_argument_group("with --fer2013")
        group.add_argument("--usage", choices=(*USAGES, HELD_OUT), default=PUBLIC_TEST, help=f"default: {PUBLIC_TEST}")
    group = parser.add_argument_group("with --folder")
    group.add_argument("--split-seed", type=int, default=0, metavar="N", help="seed of the 7:1:2 split; default: 0")
    group.add_argument(
        "--subject-pattern",
        type=_pattern,
        default=SUBJECT_PATTERN,
        metavar="REGEX",
        help=f"how a file name begins with its subject; default: {SUBJECT_PATTERN.pattern}",
    )
    group.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="skip and count files that are not usable images, instead of failing",
    )
    if to_measure:
        group.add_argument("--split", choices=[VALIDATION, TEST], default=VALIDATION, help=f"default: {VALIDATION}")
    group = parser.add_argument_group("with --ck48")
    group.add_argument("--fold", type=int, default=0, metavar="K", help="the validation fold, from 0; default: 0")
    group.add_argument("--folds", type=int, default=CK48_FOLDS, metavar="N", help=f"default: {CK48_FOLDS}")


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error


def parse_options(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line. An option that belongs to another source than the one given is a usage error."""
    parsed = parser.parse_args(arguments)
    for source, options in _OPTIONS.items():
        for option in options:
            given = getattr(parsed, option, None) != parser.get_default(option)
            if given and getattr(parsed, source) is None:
                parser.error(f"--{option.replace('_', '-')} goes with --{source}")
    return parsed


def load_for_training(arguments: argparse.Namespace, recipe: Recipe) -> TrainingData:
    """Load what the options name, less what the recipe leaves out.

    Raises:
        DataError: See the source's loader.
        RecipeError: The recipe needs FER+ votes, or leaves out images that only FER2013's loader can leave out.
    """
    if recipe.data != DataRecipe() and not arguments.fer2013:
        raise RecipeError(f"{recipe.name}: its [data] section is for --fer2013. Leave it out for other data.")
    if recipe.needs_votes and not arguments.fer2013:
        raise RecipeError(f"{recipe.name}: it needs FER+ votes. {WITHOUT_VOTES}")
    if arguments.fer2013:
        return load_training_data(
            arguments.fer2013,
            votes=recipe.needs_votes,
            drop_conflicting=recipe.data.drop_conflicting,
            drop_no_face=recipe.data.drop_no_face,
            hold_out=recipe.data.hold_out,
        )
    return load_split_source(arguments)


def load_split_source(arguments: argparse.Namespace) -> TrainingData:
    """Load a source that is split here: class folders, or CK+48.

    Raises:
        DataError: See the source's loader.
    """
    return _load_folder(arguments) if arguments.folder else _load_ck48(arguments)


def load_for_measuring(arguments: argparse.Namespace) -> tuple[LabelledFaces, str]:
    """Load the split that the options name.

    Returns:
        Its images, and what to call it in a report.

    Raises:
        DataError: See the source's loader.
    """
    if arguments.fer2013:
        return load_evaluation_data(arguments.fer2013, arguments.usage), arguments.usage
    if arguments.folder:
        data = _load_folder(arguments)
        return data.test if arguments.split == TEST else data.validation, arguments.split
    return _load_ck48(arguments).validation, f"fold {arguments.fold}"


def describe_source(arguments: argparse.Namespace) -> str:
    """Return the source's options as typed, with local paths replaced by DIR."""
    if arguments.fer2013:
        usage = getattr(arguments, "usage", PUBLIC_TEST)
        return "--fer2013 DIR" if usage == PUBLIC_TEST else f"--fer2013 DIR --usage {usage}"
    if arguments.ck48:
        return f"--ck48 DIR --fold {arguments.fold} --folds {arguments.folds}"
    words = ["--folder DIR", f"--split-seed {arguments.split_seed}"]
    if arguments.subject_pattern != SUBJECT_PATTERN:
        words.append(f"--subject-pattern {shlex.quote(arguments.subject_pattern.pattern)}")
    if arguments.skip_unreadable:
        words.append("--skip-unreadable")
    if getattr(arguments, "split", VALIDATION) != VALIDATION:
        words.append(f"--split {arguments.split}")
    return " ".join(words)


def _load_folder(arguments: argparse.Namespace) -> FolderData:
    return load_class_folders(
        arguments.folder,
        seed=arguments.split_seed,
        subject_pattern=arguments.subject_pattern,
        skip_unreadable=arguments.skip_unreadable,
    )


def _load_ck48(arguments: argparse.Namespace) -> TrainingData:
    return load_ck48(arguments.ck48, fold=arguments.fold, folds=arguments.folds)
