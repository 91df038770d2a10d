"""Writes faces for the build: what INT8 is calibrated on, and what its accuracy is measured on.

    python -m fer_training.save_faces --fer2013 DIR --out DIR

The output folder gets `calibration.npz`, a random part of what is trained on, and `validation.npz`, all of PublicTest:
FACES uint8 (N, 1, 48, 48), LABELS int64 (N,), CLASSES and SOURCE. They hold FER2013's pictures: don't pass them on.
`--folder` and `--ck48` are for other data.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

import numpy as np

from fer_training.command import run_command
from fer_training.faces import LabelledFaces
from fer_training.fer2013 import PUBLIC_TEST, load_training_data
from fer_training.sources import add_source_options, check_source_options, describe_source, load_split_source

CALIBRATION_NAME: Final = "calibration.npz"
VALIDATION_NAME: Final = "validation.npz"
CALIBRATION_FACES: Final = 1024


def save_faces(faces: LabelledFaces, source: str, path: Path) -> None:
    """Writes one file; the same faces give the same bytes.

    Args:
        faces: what to write.
        source: what to call them in a report.
        path: where to; its folder is made if need be.
    """
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


def choose_faces(faces: LabelledFaces, count: int, seed: int) -> LabelledFaces:
    """A random part of some faces, all of them if there are no more, in their own order."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(faces))[:count])
    return LabelledFaces(faces.images[chosen], faces.labels[chosen], faces.class_names)


def main() -> int:
    """The command. Returns its exit code, see `command.run_command`."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_training.save_faces", description="Write the faces that fer_build works with."
    )
    add_source_options(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the two files")
    parser.add_argument("--seed", type=int, default=0, help="chooses the faces for calibration (default: %(default)s)")
    arguments = parser.parse_args()
    check_source_options(parser, arguments)
    return run_command("fer_training.save_faces", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    if arguments.fer2013:
        data, name, split = load_training_data(arguments.fer2013), "FER2013", PUBLIC_TEST
    else:
        data, name, split = load_split_source(arguments), describe_source(arguments), "validation"
    part = choose_faces(data.training, CALIBRATION_FACES, arguments.seed)
    for file, faces, source in (
        (CALIBRATION_NAME, part, f"{name} training, {len(part)} drawn with seed {arguments.seed}"),
        (VALIDATION_NAME, data.validation, f"{name} {split}"),
    ):
        save_faces(faces, source, arguments.out / file)
        print(f"wrote {arguments.out / file}: {len(faces)} faces of {source}")


if __name__ == "__main__":
    sys.exit(main())
