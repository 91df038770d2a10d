"""Measures a trained classifier on damaged copies of faces: dark, noisy, blurred, misplaced, covered ones.

    python -m fer_training.robustness --onnx training/release/fer_classifier.onnx --fer2013 DIR
    python -m fer_training.robustness --checkpoint runs/compact/checkpoint.pt --fer2013 DIR --json

DIR holds `fer2013.csv`; `--folder` and `--ck48` are for other data. `damage` makes the copies, always the same ones, of
all images of the usage or split, of FER2013 PublicTest unless told otherwise. An answer is given where its confidence
reaches what the ONNX file says of itself; for a checkpoint, which is not calibrated, where it reaches the threshold
that is recommended on the clean images. What `--json` prints of the release is kept in
`training/release/robustness.json`; a test compares the documents with it.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from tqdm import tqdm

from fer_contract import ONNX_UNCERTAIN_BELOW_KEY
from fer_training.calibration import recommend_threshold
from fer_training.command import run_command
from fer_training.damage import CLEAN, DAMAGES, damage
from fer_training.errors import ModelFileError
from fer_training.evaluate import predict_with_checkpoint, predict_with_onnx
from fer_training.faces import LabelledFaces
from fer_training.metrics import Floats, Labels, compute_figures, risk_coverage_curve
from fer_training.prediction import open_onnx
from fer_training.sources import add_source_options, check_source_options, load_for_measuring

COVERAGE: Final = 0.7
"""Part of the images, the surest first, whose errors `DamageFigures.risk` counts."""
COLUMNS: Final = ("accuracy", "macro-F1", "confidence", "ECE", "answered", "of these right", "risk at 70 %")


@dataclass(frozen=True)
class DamageFigures:
    """How good the answers to one kind of copies are, all from 0 to 1."""

    accuracy: float
    macro_f1: float
    confidence: float
    """Mean of each answer's probability. Above the accuracy where the classifier is too sure of itself."""
    ece: float
    """See `metrics.expected_calibration_error`."""
    answered: float
    """Part of the images whose confidence reaches the threshold: not called uncertain."""
    answered_accuracy: float
    """Of these; 0 where there are none."""
    risk: float
    """Part of wrong answers among the COVERAGE surest: how well the confidence tells right from wrong."""


@dataclass(frozen=True)
class Robustness:
    """A classifier on all kinds of copies."""

    images: int
    uncertain_below: float
    """The confidence that an answer must reach, the same for all copies."""
    damages: dict[str, DamageFigures]
    """By the name of the damage, the clean images first."""
    mean: DamageFigures
    """Of the damaged copies, without the clean images."""


def measure_robustness(probabilities: Mapping[str, Floats], faces: LabelledFaces, uncertain_below: float) -> Robustness:
    """Computes the figures.

    Args:
        probabilities: float, (N, C), by the name of the damage; `damage.CLEAN` is among them.
        faces: N of them, the undamaged ones.
        uncertain_below: 0..1.
    """
    figures = {
        name: _measure(answers, faces.labels, faces.class_names, uncertain_below)
        for name, answers in probabilities.items()
    }
    columns = zip(*(vars(one).values() for name, one in figures.items() if name != CLEAN), strict=True)
    return Robustness(len(faces), uncertain_below, figures, DamageFigures(*(float(np.mean(one)) for one in columns)))


def _measure(answers: Floats, labels: Labels, class_names: tuple[str, ...], uncertain_below: float) -> DamageFigures:
    figures = compute_figures(answers, labels, class_names)
    confidence, right = answers.max(axis=1), answers.argmax(axis=1) == labels
    answered = confidence >= uncertain_below
    _, accuracies = risk_coverage_curve(answers, labels)
    return DamageFigures(
        accuracy=figures.accuracy,
        macro_f1=figures.macro_f1,
        confidence=float(confidence.mean()),
        ece=figures.ece,
        answered=float(answered.mean()),
        answered_accuracy=float(right[answered].mean()) if answered.any() else 0.0,
        risk=float(1 - accuracies[int(np.ceil(COVERAGE * len(labels))) - 1]),
    )


def damage_faces(faces: LabelledFaces, name: str) -> LabelledFaces:
    """The same faces with the pixels of their damaged copies."""
    return replace(faces, images=damage(faces.images[:, np.newaxis], name)[:, 0])


def read_robustness(text: str) -> Robustness:
    """Reads what `--json` printed."""
    table = json.loads(text)
    return Robustness(
        images=table["images"],
        uncertain_below=table["uncertain_below"],
        damages={name: DamageFigures(**one) for name, one in table["damages"].items()},
        mean=DamageFigures(**table["mean"]),
    )


def format_robustness(found: Robustness) -> str:
    """The figures as a Markdown table, a row for each kind of copies."""
    rows = [("damage", *COLUMNS), ("---",) * (1 + len(COLUMNS))]
    rows += [(DAMAGES[name].description, *_format(one)) for name, one in found.damages.items()]
    rows += [("**mean of the damaged ones**", *_format(found.mean))]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _format(one: DamageFigures) -> tuple[str, ...]:
    percents = (f"{100 * part:.1f} %" for part in (one.answered, one.answered_accuracy, one.risk))
    return (f"{100 * one.accuracy:.2f} %", f"{one.macro_f1:.3f}", f"{one.confidence:.2f}", f"{one.ece:.3f}", *percents)


def main() -> int:
    """The command. Returns its exit code, see `command.run_command`."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_training.robustness", description="Measure a trained classifier on damaged copies of faces."
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--onnx", type=Path, metavar="FILE", help="a file made by fer_training.export")
    model.add_argument("--checkpoint", type=Path, metavar="FILE", help="checkpoint.pt of a run")
    add_source_options(parser, to_measure=True)
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead of a table")
    arguments = parser.parse_args()
    check_source_options(parser, arguments)
    return run_command("fer_training.robustness", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    faces, usage = load_for_measuring(arguments)
    if arguments.onnx:
        path, predict, uncertain_below = arguments.onnx, predict_with_onnx, read_uncertain_below(arguments.onnx)
    else:
        path, predict, uncertain_below = arguments.checkpoint, predict_with_checkpoint, None
    watched = tqdm(DAMAGES, unit="damage", leave=False, disable=None)
    probabilities = {name: predict(path, damage_faces(faces, name)) for name in watched}
    if uncertain_below is None:
        threshold = recommend_threshold(probabilities[CLEAN], faces.labels).threshold
        uncertain_below = 1.0 if threshold is None else threshold
    found = measure_robustness(probabilities, faces, uncertain_below)
    if arguments.json:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        print(json.dumps({"file": path.name, "sha256": sha256, "usage": usage, **asdict(found)}, indent=2))
    else:
        print(f"{usage}: {found.images} images, answered from a confidence of {found.uncertain_below:.4f} on")
        print(format_robustness(found))


def read_uncertain_below(path: Path) -> float:
    """The confidence below which an ONNX file calls its answers uncertain, 0..1.

    Raises:
        ModelFileError: it does not say, or is missing.
    """
    metadata = open_onnx(path).get_modelmeta().custom_metadata_map
    try:
        return float(metadata[ONNX_UNCERTAIN_BELOW_KEY])
    except (KeyError, ValueError):
        raise ModelFileError(
            f"{path}: its metadata {ONNX_UNCERTAIN_BELOW_KEY} must be a number from 0 to 1, but is "
            f"{metadata.get(ONNX_UNCERTAIN_BELOW_KEY)!r}. Export it with fer_training.export."
        ) from None


if __name__ == "__main__":
    sys.exit(main())
