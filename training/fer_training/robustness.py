"""`fer-train robustness`: measure a trained classifier on damaged copies of faces.

`damage` makes the copies, always the same ones, of all images of the usage or split, of FER2013 PublicTest unless told
otherwise. An answer is given where its confidence reaches what the ONNX file says of itself; for a checkpoint, which
has no temperature, where it reaches the threshold that is recommended on the clean images. What `--json` prints of the
release is kept in `training/release/robustness.json`; a test compares the documents with it.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from tqdm import tqdm

from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_training.damage import CLEAN, DAMAGES, damage
from fer_training.faces import LabelledFaces
from fer_training.metrics import Floats, Labels, compute_figures, risk_coverage_curve
from fer_training.onnx_classifier import read_uncertain_below
from fer_training.prediction import predict_with_checkpoint, predict_with_onnx
from fer_training.sources import add_source_options, load_for_measuring, parse_options
from fer_training.temperature import recommend_threshold

COVERAGE: Final = 0.7
"""Part of the images, the surest first, whose errors `DamageFigures.risk` counts."""
COLUMNS: Final = ("accuracy", "macro-F1", "confidence", "ECE", "answered", "of these right", "risk at 70 %")


@dataclass(frozen=True)
class DamageFigures:
    """Figures of the answers to one kind of copies, all from 0 to 1."""

    accuracy: float
    macro_f1: float
    confidence: float
    """Mean of each answer's probability. Above the accuracy where the classifier is too sure of itself."""
    ece: float
    """See `metrics.expected_calibration_error`."""
    answered: float
    """Part of the images whose confidence reaches the threshold: not called uncertain."""
    answered_accuracy: float
    """Accuracy of these; 0 where there are none."""
    risk: float
    """Part of wrong answers among the COVERAGE surest: how well the confidence tells right from wrong."""


@dataclass(frozen=True)
class Robustness:
    """A classifier on all kinds of copies."""

    images: int
    uncertain_below: float
    """The confidence that an answer must reach, the same for all copies."""
    damages: dict[str, DamageFigures]
    """Figures by the name of the damage, the clean images first."""
    mean: DamageFigures
    """Mean figures of the damaged copies, without the clean images."""


def measure_robustness(probabilities: Mapping[str, Floats], faces: LabelledFaces, uncertain_below: float) -> Robustness:
    """Compute the figures of each kind of copies, and their mean.

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
    """Replace the faces' pixels by those of their damaged copies."""
    return replace(faces, images=damage(faces.images[:, np.newaxis], name)[:, 0])


def read_robustness(text: str) -> Robustness:
    """Read the output of `--json`."""
    table = json.loads(text)
    return Robustness(
        images=table["images"],
        uncertain_below=table["uncertain_below"],
        damages={name: DamageFigures(**one) for name, one in table["damages"].items()},
        mean=DamageFigures(**table["mean"]),
    )


def format_robustness(found: Robustness) -> str:
    """Format the figures as a Markdown table, a row for each kind of copies."""
    rows = [("damage", *COLUMNS), ("---",) * (1 + len(COLUMNS))]
    rows += [(DAMAGES[name].description, *_format(one)) for name, one in found.damages.items()]
    rows += [("**mean of the damaged ones**", *_format(found.mean))]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _format(one: DamageFigures) -> tuple[str, ...]:
    percents = (f"{100 * part:.1f} %" for part in (one.answered, one.answered_accuracy, one.risk))
    return (f"{100 * one.accuracy:.2f} %", f"{one.macro_f1:.3f}", f"{one.confidence:.2f}", f"{one.ece:.3f}", *percents)


def main(arguments: Sequence[str]) -> int:
    """Run `fer-train robustness` and return its exit code."""
    parser = subcommand_parser(
        "fer-train robustness",
        description="Measure a trained classifier on copies of faces: dark, noisy, blurred, misplaced, covered.",
        examples="""\
  fer-train robustness --onnx training/release/fer_classifier.onnx --fer2013 DIR
  fer-train robustness --checkpoint runs/compact/checkpoint.pt --fer2013 DIR --json""",
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--onnx", type=Path, metavar="FILE", help="a file made by fer-train export")
    model.add_argument("--checkpoint", type=Path, metavar="FILE", help="checkpoint.pt of a run")
    add_source_options(parser, to_measure=True)
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead of a table")
    options = parse_options(parser, arguments)
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    faces, usage = load_for_measuring(options)
    if options.onnx:
        path, predict, uncertain_below = options.onnx, predict_with_onnx, read_uncertain_below(options.onnx)
    else:
        path, predict, uncertain_below = options.checkpoint, predict_with_checkpoint, None
    watched = tqdm(DAMAGES, unit="damage", leave=False, disable=None)
    probabilities = {name: predict(path, damage_faces(faces, name)) for name in watched}
    if uncertain_below is None:
        threshold = recommend_threshold(probabilities[CLEAN], faces.labels).threshold
        uncertain_below = 1.0 if threshold is None else threshold
    found = measure_robustness(probabilities, faces, uncertain_below)
    if options.json:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        print(json.dumps({"file": path.name, "sha256": sha256, "usage": usage, **asdict(found)}, indent=2))
    else:
        print(f"{usage}: {found.images} images, answered from a confidence of {found.uncertain_below:.4f} on")
        print(format_robustness(found))
