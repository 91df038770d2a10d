"""What a smaller file must keep of the float32 one's accuracy before it ships."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

import fer_contract as contract
from fer_build.errors import GateError
from fer_build.faces_file import LabelledCrops
from fer_build.release import FP16, INT8
from fer_runtimes import RUNTIMES

_ROW: Final = "{:<28}{:>12}{:>14}  {}"


@dataclass(frozen=True)
class Gate:
    """The limits of a precision; None where there is none."""

    least_agreement: float | None = None
    most_accuracy_lost: float | None = None
    most_macro_f1_lost: float | None = None


GATES: Final = {
    FP16: Gate(least_agreement=0.999),
    INT8: Gate(most_accuracy_lost=0.003, most_macro_f1_lost=0.005),
}
"""The gates by precision."""

LEAST_FACES: Final = 500
"""Fewer cannot tell losses of 0.3 points: one face of them is 0.2."""


@dataclass(frozen=True)
class Comparison:
    """A classifier beside the float32 one, on the same faces."""

    source: str
    faces_sha256: str
    images: int
    accuracy: float
    macro_f1: float
    accuracy_lost: float
    """The float32 file's accuracy less this one's; negative where it gained."""
    macro_f1_lost: float
    agreement: float
    """Share of the faces that both give the same class, 0..1."""
    largest_difference: float
    """The largest difference of a probability."""
    mean_difference: float


def compare(fp32: npt.NDArray[np.float32], smaller: npt.NDArray[np.float32], crops: LabelledCrops) -> Comparison:
    """Compare two classifiers' answers.

    Args:
        fp32: Probabilities of the float32 file, float32, (N, 7).
        smaller: Probabilities of the other file, float32, (N, 7).
        crops: The N faces, labelled.
    """
    answers = [probabilities.argmax(axis=1) for probabilities in (fp32, smaller)]
    right = [int(np.sum(answer == crops.labels)) for answer in answers]
    images = len(crops.labels)
    scores = [macro_f1(answer, crops.labels) for answer in answers]
    differences = np.abs(fp32 - smaller)
    return Comparison(
        source=crops.source,
        faces_sha256=crops.sha256(),
        images=images,
        accuracy=right[1] / images,
        macro_f1=scores[1],
        accuracy_lost=(right[0] - right[1]) / images,
        macro_f1_lost=scores[0] - scores[1],
        agreement=float(np.mean(answers[0] == answers[1])),
        largest_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
    )


def macro_f1(answers: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> float:
    """Return the mean over the classes of F1 = 2 TP / (answered + labelled); a class that is in neither counts 0."""
    scores = []
    for label in range(len(contract.LABELS)):
        answered, labelled = answers == label, labels == label
        scores.append(2 * np.sum(answered & labelled) / max(1, np.sum(answered) + np.sum(labelled)))
    return float(np.mean(scores))


def require(precision: str, found: Mapping[str, Comparison]) -> None:
    """Make sure that a smaller file keeps what its gate demands.

    Args:
        precision: The file's precision.
        found: How it compares, by runtime.

    Raises:
        GateError: A runtime is missing, there were too few faces, or the file lost more than its gate allows; the
            details have a table of all limits for each runtime.
    """
    missing = [runtime for runtime in RUNTIMES if runtime not in found]
    if missing:
        raise GateError(f"the gate of {precision} was not measured by {', '.join(missing)}: measure it with --faces")
    few = min(comparison.images for comparison in found.values())
    if few < LEAST_FACES:
        raise GateError(f"the gate of {precision} was measured on {few} faces, and takes {LEAST_FACES} at least")
    failed = [
        f"{name} by {runtime}"
        for runtime, comparison in found.items()
        for name, _, _, kept in _check(precision, comparison)
        if not kept
    ]
    if failed:
        tables = [format_table(precision, runtime, comparison) for runtime, comparison in found.items()]
        lines = [line for table in tables for line in table.splitlines()]
        raise GateError(f"{precision} does not pass its gate: {', '.join(failed)}", lines)


def read_gate(written: str) -> dict[str, Comparison]:
    """Read what `write_gate` wrote.

    Raises:
        ValueError: It is something else.
    """
    try:
        return {runtime: Comparison(**found) for runtime, found in json.loads(written).items()}
    except (AttributeError, TypeError) as error:
        raise ValueError(str(error)) from None


def write_gate(found: Mapping[str, Comparison]) -> str:
    """Return a file's comparisons by runtime as JSON, for its metadata."""
    return json.dumps({runtime: asdict(comparison) for runtime, comparison in found.items()})


def format_table(precision: str, runtime: str, found: Comparison) -> str:
    """Return a table for people: what was measured, what the gate allows, and whether it was kept."""
    rows = [f"{precision} by {runtime}, {found.images} faces of {found.source}"]
    rows.append(_ROW.format("", "measured", "allowed", "").rstrip())
    for name, value, limit, kept in _check(precision, found):
        verdict = "passes" if kept else f"fails by {abs(value - limit):.4f}"
        rows.append(_ROW.format(name, f"{value:.4f}", f"{limit:.4f}", verdict))
    for name, value in (
        ("accuracy", found.accuracy),
        ("macro-F1", found.macro_f1),
        ("largest difference", found.largest_difference),
    ):
        rows.append(_ROW.format(name, f"{value:.4f}", "", "").rstrip())
    return "\n".join(rows)


def _check(precision: str, found: Comparison) -> list[tuple[str, float, float, bool]]:
    """Return name, value, limit, and whether it is kept, for each limit of the precision's gate."""
    gate = GATES[precision]
    checks = []
    if gate.least_agreement is not None:
        limit = gate.least_agreement
        checks.append(("same answer as float32", found.agreement, limit, found.agreement >= limit))
    for name, value, most in (
        ("accuracy lost", found.accuracy_lost, gate.most_accuracy_lost),
        ("macro-F1 lost", found.macro_f1_lost, gate.most_macro_f1_lost),
    ):
        if most is not None:
            checks.append((name, value, most, value <= most))
    return checks
