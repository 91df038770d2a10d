"""Measures what INT8 has to know of the training images: the ranges of the classifier's features.

    python -m fer_build.calibrate --faces calibration.npz [--method percentile] [--onnx FILE] [--out FILE]

The result is a small JSON file without any image, so that `fer_build.quantize` can be run by anybody.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fer_build.command import EXIT_STATUSES, run_command
from fer_build.errors import CalibrationError
from fer_build.faces_file import LabelledCrops, read_faces
from fer_build.int8 import METHODS, PERCENTILE, calibrate, read_calibration
from fer_build.onnx_file import read_whole_classifier
from fer_build.release import RELEASED_ONNX, name_calibration


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_build.calibrate",
        description="Measure the ranges of a classifier's features, for INT8.",
        epilog=EXIT_STATUSES,
    )
    parser.add_argument("--onnx", type=Path, default=RELEASED_ONNX, metavar="FILE", help="default: the released one")
    parser.add_argument(
        "--faces", type=Path, required=True, metavar="FILE", help="training faces, by fer-train save-faces"
    )
    parser.add_argument("--method", choices=METHODS, default=PERCENTILE, help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: calibration.json beside --onnx")
    parser.add_argument("--dry-run", action="store_true", help="say what would be measured, and write nothing")
    options = parser.parse_args(arguments)
    return run_command("fer_build.calibrate", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    classifier = read_whole_classifier(options.onnx)
    crops = read_faces(options.faces)
    out = options.out or name_calibration(options.onnx)
    what = f"{options.method} over {len(crops.faces)} faces of {crops.source}"
    if _is_there(out, classifier.sha256, crops, options.method):
        print(f"{out} is up to date: {what}")
    elif options.dry_run:
        print(f"would write {out}: {what}")
    else:
        calibration = calibrate(classifier.path, classifier.sha256, crops, options.method)
        calibration.write(out)
        print(f"wrote {out}: {what}, ranges of {len(calibration.ranges)} tensors")


def _is_there(path: Path, onnx_sha256: str, crops: LabelledCrops, method: str) -> bool:
    try:
        present = read_calibration(path)
    except CalibrationError:
        return False
    return (present.onnx_sha256, present.faces_sha256, present.method) == (onnx_sha256, crops.sha256(), method)


if __name__ == "__main__":
    sys.exit(main())
