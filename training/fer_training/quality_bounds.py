"""Measures what bounds of a face's quality are worth, and which ones: where `quality_bounds` of the server come from.

    python -m fer_training.quality_bounds --onnx training/release/fer_classifier.onnx --fer2013 DIR

DIR holds `fer2013.csv`; `--folder` and `--ck48` are for other data. Each image of the usage or split, of FER2013
PublicTest unless told otherwise, and each damaged copy of it that `damage` makes, is answered twice: as a crop, which
`fer_cropped` takes as it is, and as a photo, in which `fer` has to find the face first. Bounds are chosen on the images
in even rows, of both together, and measured on those in odd rows. The tables are: what the served bounds, or those of
`--bounds`, do to each kind of copies; what each column is worth; and what becomes of answers as faces get smaller, turn
away, or are cut off.
"""

import argparse
import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

import fer_contract as contract
from fer_client import QualityBound
from fer_quality import measure_crop
from fer_training.command import run_command
from fer_training.damage import CLEAN, DAMAGES
from fer_training.errors import DataError
from fer_training.evaluate import predict_with_onnx
from fer_training.faces import LabelledFaces
from fer_training.quality_sweeps import sweep_cuts, sweep_sizes, tabulate_turns
from fer_training.robustness import damage_faces, read_uncertain_below
from fer_training.shown_faces import open_detector, show_faces
from fer_training.sources import add_source_options, check_source_options, load_for_measuring

COVERAGE: Final = 0.7
"""Part of the faces, the surest first, whose accuracy the choice is about."""
CLEAN_COST: Final = 0.01
"""A bound may call at most this part of the undamaged faces uncertain."""
LEAST_GAIN: Final = 0.001
"""A bound is worth having from this gain in accuracy on."""

_Booleans = npt.NDArray[np.bool_]
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """Answers to N faces that were found, of one or several kinds of copies."""

    confidence: _Floats
    """float64, (N,), 0..1."""
    right: _Booleans
    """bool, (N,)."""
    quality: _Floats
    """float64, (N, 8), the columns of `fer_contract.QUALITY_COLUMNS`; what a crop doesn't tell is not a number."""
    rows: npt.NDArray[np.int64]
    """int64, (N,): which image it is a copy of."""
    weights: _Floats
    """float64, (N,): how often it counts."""

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, chosen: _Booleans) -> "Answers":
        """A part of them."""
        return Answers(*(values[chosen] for values in vars(self).values()))

    def sorted(self) -> "Answers":
        """The surest first."""
        order = np.argsort(-self.confidence, kind="stable")
        return Answers(*(values[order] for values in vars(self).values()))

    def column(self, name: str) -> _Floats:
        """float64, (N,): the values of one column."""
        return self.quality[:, contract.QUALITY_COLUMNS.index(name)]


@dataclass(frozen=True)
class Side:
    """One way in which a column can be out of bounds."""

    column: str
    sign: int
    """1 where too much is bad, -1 where too little is, 0 where too much either way is."""

    def badness(self, answers: Answers) -> _Floats:
        """The higher, the worse: float64, (N,)."""
        values = answers.column(self.column)
        return self.sign * values if self.sign else np.abs(values)

    def bound(self, badness: float) -> QualityBound:
        """The bound that leaves out what is worse."""
        low = -badness if self.sign <= 0 else -np.inf
        return QualityBound(self.column, low, badness if self.sign >= 0 else np.inf, "")


SIDES: Final = (
    *(Side(column, sign) for column in contract.CROP_QUALITY_COLUMNS for sign in (-1, 1)),
    *(Side(column, 0) for column in ("yaw_deg", "pitch_deg", "roll_deg")),
    Side("outside", 1),
)
"""What is chosen from. How large a face was in its photo, nothing that is 48 px says: see `quality_sweeps`."""


@dataclass(frozen=True)
class ColumnGain:
    """What bounding one side of a column is worth, in accuracy at COVERAGE, -1..1."""

    bound: QualityBound | None
    """The best one on the even rows; None where none gains anything there."""
    alone: float
    """On the odd rows, by this bound alone."""
    added: float | None
    """On the odd rows, added to those chosen before it; None where it was not chosen."""
    clean_out: float
    """Part of the undamaged faces beyond it, 0..1."""


def answer_photos(onnx: Path, faces: LabelledFaces) -> dict[str, Answers]:
    """Answers to every kind of copies as `fer` gives them, the undamaged faces first. See `shown_faces`."""
    detector = open_detector()
    answers = {}
    for name in DAMAGES:
        shown = show_faces(damage_faces(faces, name).images, detector)
        rows = np.flatnonzero(shown.found)
        found = LabelledFaces(shown.crops[rows], faces.labels[rows], faces.class_names)
        answers[name] = _answer(onnx, name, found, shown.quality[rows].astype(np.float64), rows)
    return answers


def answer_crops(onnx: Path, faces: LabelledFaces) -> dict[str, Answers]:
    """Answers to every kind of copies as `fer_cropped` gives them, the undamaged faces first."""
    answers = {}
    columns = [contract.QUALITY_COLUMNS.index(name) for name in contract.CROP_QUALITY_COLUMNS]
    for name in DAMAGES:
        copies = damage_faces(faces, name)
        quality = np.full((len(faces), len(contract.QUALITY_COLUMNS)), np.nan)
        quality[:, columns] = [measure_crop(image) for image in copies.images]
        answers[name] = _answer(onnx, name, copies, quality, np.arange(len(faces)))
    return answers


def _answer(onnx: Path, name: str, faces: LabelledFaces, quality: _Floats, rows: npt.NDArray[np.int64]) -> Answers:
    """An undamaged face counts as much as all of its copies together: half of what is measured is as it should be."""
    probabilities = predict_with_onnx(onnx, faces).astype(np.float64)
    weights = np.full(len(rows), len(DAMAGES) - 1.0 if name == CLEAN else 1.0)
    return Answers(probabilities.max(axis=1), probabilities.argmax(axis=1) == faces.labels, quality, rows, weights)


def pool(answers: Sequence[Answers]) -> Answers:
    """All of them together."""
    return Answers(*(np.concatenate(values) for values in zip(*(vars(one).values() for one in answers), strict=True)))


def find_out_of_bounds(answers: Answers, bounds: Sequence[QualityBound]) -> _Booleans:
    """Which faces are beyond one of the bounds: bool, (N,). Bounds of the eyes' distance are left alone."""
    out = np.zeros(len(answers), np.bool_)
    for bound in bounds:
        if bound.column != "eye_distance_px":
            values = answers.column(bound.column)
            out |= (values < bound.minimum) | (values > bound.maximum)
    return out


def accuracy_at_coverage(answers: Answers, out: _Booleans) -> float:
    """Accuracy of the COVERAGE surest answers: those within bounds by their confidence, then the others by theirs."""
    order = np.argsort(-answers.confidence, kind="stable")
    order = np.concatenate([order[~out[order]], order[out[order]]])
    weights = answers.weights[order]
    reached = weights.cumsum()
    counted = np.clip(COVERAGE * reached[-1] - (reached - weights), 0, weights)  # the last one counts in part
    return float((counted * answers.right[order]).sum() / counted.sum())


def choose_bounds(everything: Answers, clean: Answers) -> dict[Side, ColumnGain]:
    """Chooses bounds one after the other, always the one that gains most on the even rows, while one gains enough.

    Args:
        everything: to all copies.
        clean: to the undamaged faces among them.

    Returns:
        What each side is worth: the chosen ones first, in the order of choice.
    """
    everything = everything.sorted()  # Sorted once, it is quickly sorted again.
    fit, held = (everything.where(everything.rows % 2 == parity) for parity in (0, 1))
    gains: dict[Side, ColumnGain] = {}
    chosen: list[QualityBound] = []
    accuracy = accuracy_at_coverage(fit, find_out_of_bounds(fit, chosen))
    while True:
        found = {side: _best_bound(side, fit, clean, chosen) for side in SIDES if side not in gains}
        side = max(found, key=lambda one: found[one][1], default=None)
        if side is None or found[side][1] < accuracy + LEAST_GAIN:
            break
        accuracy = found[side][1]
        bound = side.bound(found[side][0])
        gains[side] = _gain(bound, held, clean, chosen)
        chosen.append(bound)
    start = accuracy_at_coverage(fit, find_out_of_bounds(fit, []))
    for side in SIDES:
        if side not in gains:
            badness, alone = _best_bound(side, fit, clean, [])
            gains[side] = (
                replace(_gain(side.bound(badness), held, clean, []), added=None)
                if alone > start
                else ColumnGain(None, 0.0, None, 0.0)
            )
    return gains


def _best_bound(side: Side, fit: Answers, clean: Answers, chosen: Sequence[QualityBound]) -> tuple[float, float]:
    """The badness from which faces are best left out besides those beyond the chosen bounds, and the accuracy then."""
    already, badness = find_out_of_bounds(fit, chosen), side.badness(fit)
    least = float(np.nanquantile(side.badness(clean), 1 - CLEAN_COST))
    candidates = np.nanquantile(badness, np.linspace(0.3, 0.999, 80))
    tried = [(accuracy_at_coverage(fit, already | (badness > one)), float(one)) for one in candidates if one >= least]
    accuracy, best = max(tried, default=(0.0, np.inf))
    return best, accuracy


def _gain(bound: QualityBound, held: Answers, clean: Answers, chosen: Sequence[QualityBound]) -> ColumnGain:
    def accuracy(bounds: Sequence[QualityBound]) -> float:
        return accuracy_at_coverage(held, find_out_of_bounds(held, bounds))

    return ColumnGain(
        bound,
        accuracy([bound]) - accuracy([]),
        accuracy([*chosen, bound]) - accuracy(chosen),
        float(find_out_of_bounds(clean, [bound]).mean()),
    )


def format_copies(answers: dict[str, Answers], images: int, bounds: Sequence[QualityBound], threshold: float) -> str:
    """What bounds do to each kind of copies, and to all of them together, as a Markdown table."""
    table = [
        "| copies | found | right | at 70 %: by probability | with bounds | not uncertain: by probability, right "
        "| with bounds, right |",
        "|" + " --- |" * 7,
    ]
    everything = pool(list(answers.values()))
    named = [(DAMAGES[name].description, one, len(one) / images) for name, one in answers.items()]
    for name, one, found in [*named, ("**all, half of them as they are**", everything, None)]:
        out, sure = find_out_of_bounds(one, bounds), one.confidence >= threshold
        cells = [
            "" if found is None else f"{found:.1%}",
            f"{np.average(one.right, weights=one.weights):.1%}",
            f"{accuracy_at_coverage(one, np.zeros_like(out)):.1%}",
            f"{accuracy_at_coverage(one, out):.1%}",
            *(_format_part(one, part) for part in (sure, sure & ~out)),
        ]
        table.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(table)


def _format_part(answers: Answers, part: _Booleans) -> str:
    if not part.any():
        return "none"
    weights = answers.weights
    share, right = weights[part].sum() / weights.sum(), np.average(answers.right[part], weights=weights[part])
    return f"{share:.1%}, {right:.1%}"


def format_columns(gains: dict[Side, ColumnGain]) -> str:
    """What each column is worth, as a Markdown table."""
    table = ["| column | best bound | gain alone | gain added | undamaged beyond it |", "|" + " --- |" * 5]
    for side, gain in gains.items():
        if gain.bound is None:
            cells = ["none gains", "", "", ""]
        else:
            low, high = gain.bound.minimum, gain.bound.maximum
            limits = [f"at least {low:.4g}"] * math.isfinite(low) + [f"at most {high:.4g}"] * math.isfinite(high)
            added = "not chosen" if gain.added is None else f"{100 * gain.added:+.2f}"
            cells = [" and ".join(limits), f"{100 * gain.alone:+.2f}", added, f"{gain.clean_out:.1%}"]
        table.append(f"| `{side.column}` | {' | '.join(cells)} |")
    return "\n".join(table)


def read_served_bounds() -> str:
    """`quality_bounds` of the model `fer`, as it stands in the sources."""
    config = Path(contract.__file__).with_name(contract.FER_MODEL) / "config.pbtxt"
    found = re.search(
        rf'key: "{contract.QUALITY_BOUNDS_PARAMETER}"\s+value {{ string_value: "([^"]*)"', config.read_text()
    )
    if found is None:
        raise DataError(f"{config}: it has no parameter {contract.QUALITY_BOUNDS_PARAMETER}; name bounds with --bounds")
    return found[1]


def _parse_bounds(text: str) -> Iterator[QualityBound]:
    for part in filter(None, text.split(",")):
        try:
            bound = QualityBound.parse(part)
        except ValueError:
            raise DataError(f"--bounds: {part.strip()!r} is no column:min:max:reason") from None
        if bound.column not in contract.QUALITY_COLUMNS:
            raise DataError(f"--bounds: a column is one of {', '.join(contract.QUALITY_COLUMNS)}, not {bound.column!r}")
        yield bound


def main() -> int:
    """The command. Returns its exit code, see `command.run_command`."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_training.quality_bounds",
        description="Measure what bounds of a face's quality are worth, and choose some.",
    )
    parser.add_argument("--onnx", type=Path, required=True, metavar="FILE", help="a file made by fer_training.export")
    parser.add_argument("--bounds", metavar="LIST", help="column:min:max:reason,... (default: those that are served)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth image only (default: 1)")
    add_source_options(parser, to_measure=True)
    arguments = parser.parse_args()
    check_source_options(parser, arguments)
    return run_command("fer_training.quality_bounds", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    bounds = list(_parse_bounds(read_served_bounds() if arguments.bounds is None else arguments.bounds))
    threshold = read_uncertain_below(arguments.onnx)
    faces, usage = load_for_measuring(arguments)
    if arguments.every > 1:
        faces = LabelledFaces(
            faces.images[:: arguments.every], faces.labels[:: arguments.every], class_names=faces.class_names
        )
    photos, crops = answer_photos(arguments.onnx, faces), answer_crops(arguments.onnx, faces)
    print(f"{usage}: {len(faces)} images, uncertain below a confidence of {threshold:.4f}")
    print(f"\nAs photos:\n\n{format_copies(photos, len(faces), bounds, threshold)}")
    print(f"\nAs crops:\n\n{format_copies(crops, len(faces), bounds, threshold)}")
    gains = choose_bounds(pool([*photos.values(), *crops.values()]), pool([photos[CLEAN], crops[CLEAN]]))
    print(f"\n{format_columns(gains)}")
    clean = photos[CLEAN]
    print(f"\n{sweep_sizes(arguments.onnx, faces, threshold)}")
    print(f"\n{sweep_cuts(arguments.onnx, faces, threshold)}")
    print(f"\n{tabulate_turns(clean.column('yaw_deg'), clean.confidence, clean.right, threshold)}")


if __name__ == "__main__":
    sys.exit(main())
