"""`fer-train save-faces`: write the faces that `fer-build` calibrates INT8 on, and measures accuracy on.

The output folder gets `calibration.npz`, a random part of what is trained on, and `validation.npz`, all of PublicTest:
FACES uint8 (N, 1, 48, 48), LABELS int64 (N,), CLASSES and SOURCE. With FER2013 they hold its pictures, which may not be
passed on.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_training.faces import LabelledFaces, choose_faces
from fer_training.fer2013 import PUBLIC_TEST, load_training_data
from fer_training.sources import add_source_options, describe_source, load_split_source, parse_options

CALIBRATION_NAME: Final = "calibration.npz"
VALIDATION_NAME: Final = "validation.npz"
CALIBRATION_FACES: Final = 1024


def save_faces(faces: LabelledFaces, source: str, path: Path) -> None:
    """Write one file; the same faces give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp.npz")
    np.savez_compressed(
        aside,
        FACES=faces.images[:, np.newaxis],
        LABELS=faces.labels,
        CLASSES=np.array(faces.class_names),
        SOURCE=np.array(source),
    )
    aside.replace(path)


def main(arguments: Sequence[str]) -> int:
    """Run `fer-train save-faces` and return its exit code."""
    parser = subcommand_parser(
        "fer-train save-faces",
        description="Write the faces that fer-build calibrates INT8 on, and measures accuracy on.",
        examples="  fer-train save-faces --fer2013 DIR --out .cache/faces",
    )
    add_source_options(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the two files")
    parser.add_argument("--seed", type=int, default=0, help="chooses the faces for calibration (default: %(default)s)")
    options = parse_options(parser, arguments)
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    if options.fer2013:
        data, name, split = load_training_data(options.fer2013), "FER2013", PUBLIC_TEST
    else:
        data, name, split = load_split_source(options), describe_source(options), "validation"
    part = choose_faces(data.training, CALIBRATION_FACES, options.seed)
    for file, faces, source in (
        (CALIBRATION_NAME, part, f"{name} training, {len(part)} drawn with seed {options.seed}"),
        (VALIDATION_NAME, data.validation, f"{name} {split}"),
    ):
        save_faces(faces, source, options.out / file)
        print(f"wrote {options.out / file}: {len(faces)} faces of {source}")
