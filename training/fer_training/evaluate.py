"""Measures a trained classifier on FER2013.

    python -m fer_training.evaluate --onnx training/release/fer_first.onnx --fer2013 DIR
    python -m fer_training.evaluate --checkpoint runs/first/checkpoint.pt --fer2013 DIR --json

DIR holds `fer2013.csv`. All images of the usage are measured, PublicTest unless told otherwise: of a checkpoint the
averaged weights without calibration, of an ONNX file what it answers.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from fer_training.checkpoint import load_checkpoint
from fer_training.errors import TrainingRoomError
from fer_training.faces import LabelledFaces
from fer_training.fer2013 import PUBLIC_TEST, USAGES, load_evaluation_data
from fer_training.metrics import Figures, compute_figures
from fer_training.prediction import build_network, open_onnx, predict_logits, predict_onnx, softmax


def evaluate_onnx(path: Path, faces: LabelledFaces) -> Figures:
    """Figures of an ONNX file in ONNX Runtime on the CPU.

    Raises:
        ModelFileError: the file is missing or does not fit the contract.
    """
    return compute_figures(predict_onnx(open_onnx(path), faces.images), faces.labels)


def evaluate_checkpoint(path: Path, faces: LabelledFaces) -> Figures:
    """Figures of a checkpoint's averaged weights in PyTorch on the CPU, at temperature 1.

    Raises:
        CheckpointError: the file is missing or no checkpoint.
    """
    return compute_figures(softmax(predict_logits(build_network(load_checkpoint(path)), faces.images)), faces.labels)


def format_figures(figures: Figures, usage: str) -> str:
    """The figures as lines of text, classes in a table."""
    low, high = figures.accuracy_95
    lines = [
        f"{usage}: {figures.images} images",
        f"accuracy           {figures.accuracy:.2%}  (95 % interval {low:.2%} to {high:.2%})",
        f"balanced accuracy  {figures.balanced_accuracy:.2%}",
        f"macro-F1           {figures.macro_f1:.4f}",
        f"ECE (15 bins)      {figures.ece:.4f}",
        f"NLL                {figures.nll:.4f}",
        "class      images  precision  recall     F1",
    ]
    lines += [
        f"{name:<9}{one.images:>8}{one.precision:>11.3f}{one.recall:>8.3f}{one.f1:>7.3f}"
        for name, one in figures.classes.items()
    ]
    return "\n".join(lines)


def main() -> int:
    """The command. Returns its exit code: 2 for what the user can put right, with one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_training.evaluate", description="Measure a trained classifier on FER2013."
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--onnx", type=Path, metavar="FILE", help="a file made by fer_training.export")
    model.add_argument("--checkpoint", type=Path, metavar="FILE", help="a checkpoint.pt made by fer_training.train")
    parser.add_argument("--fer2013", type=Path, required=True, metavar="DIR", help="folder with fer2013.csv")
    parser.add_argument("--usage", choices=USAGES, default=PUBLIC_TEST, help=f"default: {PUBLIC_TEST}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    try:
        faces = load_evaluation_data(arguments.fer2013, arguments.usage)
        if arguments.onnx:
            figures = evaluate_onnx(arguments.onnx, faces)
        else:
            figures = evaluate_checkpoint(arguments.checkpoint, faces)
    except TrainingRoomError as error:
        print(f"fer_training.evaluate: {error}", file=sys.stderr)
        return 2
    text = format_figures(figures, arguments.usage)
    print(json.dumps({"usage": arguments.usage, **asdict(figures)}, indent=2) if arguments.json else text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
