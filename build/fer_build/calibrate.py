"""Measures what INT8 has to know of the training images: the ranges of the classifier's features.

    python -m fer_build.calibrate --faces calibration.npz [--method percentile] [--onnx FILE] [--out FILE]

The result is a small JSON file without any image, so that `fer_build.quantize` can be run by anybody.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fer_build.command import EXIT_STATUSES, run_command
from fer_build.faces_file import read_faces
from fer_build.int8 import METHODS, PERCENTILE, calibrate
from fer_build.onnx_file import read_classifier
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
        "--faces", type=Path, required=True, metavar="FILE", help="training faces, by fer_training.save_faces"
    )
    parser.add_argument("--method", choices=METHODS, default=PERCENTILE, help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: calibration.json beside --onnx")
    options = parser.parse_args(arguments)
    return run_command("fer_build.calibrate", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    classifier = read_classifier(options.onnx)
    crops = read_faces(options.faces)
    calibration = calibrate(classifier.path, classifier.sha256, crops, options.method)
    out = options.out or name_calibration(options.onnx)
    calibration.write(out)
    print(f"wrote {out}: ranges of {len(calibration.ranges)} tensors over {calibration.images} faces")


if __name__ == "__main__":
    sys.exit(main())
