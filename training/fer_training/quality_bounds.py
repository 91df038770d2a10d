"""`fer-train quality-bounds`: measure what bounds of a face's quality do to the answers.

Each image of the usage or split, of FER2013 PublicTest unless told otherwise, and each damaged copy of it that `damage`
makes, is answered twice: as a crop, which `fer_cropped` takes as it is, and as a photo, in which `fer` has to find the
face first. The tables are: what the served bounds, or those of `--bounds`, do to each kind of copies; and what becomes
of answers as faces get smaller, turn away, or are cut off at the picture's edge.
"""

import argparse
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

import fer_contract as contract
from fer_client import QualityBound
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_contract import FACE_SIZE_PX
from fer_faces import FER2013_LANDMARKS
from fer_quality import measure_crop
from fer_training.damage import CLEAN, DAMAGES
from fer_training.errors import DataError
from fer_training.faces import LabelledFaces
from fer_training.onnx_classifier import read_uncertain_below
from fer_training.prediction import predict_with_onnx
from fer_training.robustness import damage_faces
from fer_training.shown_faces import open_detector, show_faces
from fer_training.sources import add_source_options, load_for_measuring, parse_options

COVERAGE: Final = 0.7
"""Part of the faces, the surest first, whose accuracy the tables show."""
SIDES_PX: Final = (48, 40, 32, 28, 24, 20, 16, 12)
"""Heights that a face has in its photo before it is enlarged to a crop."""
CUT_PARTS: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Parts of a crop that lie beyond the picture's edge."""
TURNS_DEG: Final = (0, 10, 20, 30, 40, 50, 90)
SEED: Final = 0
SWEEP_COLUMNS: Final = ("faces", "right", "mean confidence", "not uncertain", "of these right")

_Booleans = npt.NDArray[np.bool_]
_Floats = npt.NDArray[np.float64]
_Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Answers:
    """Answers to N faces that were found, of one or several kinds of copies."""

    confidence: _Floats
    """float64, (N,), 0..1."""
    right: _Booleans
    """bool, (N,)."""
    quality: _Floats
    """float64, (N, 8), the columns of `fer_contract.QUALITY_COLUMNS`; NaN where a crop does not tell."""
    weights: _Floats
    """float64, (N,): how often each answer counts."""

    def __len__(self) -> int:
        return len(self.confidence)

    def column(self, name: str) -> _Floats:
        """Return the values of one column: float64, (N,)."""
        return self.quality[:, contract.QUALITY_COLUMNS.index(name)]


def answer_photos(onnx: Path, faces: LabelledFaces) -> dict[str, Answers]:
    """Answer every kind of copies as `fer` does, the undamaged faces first. See `shown_faces`."""
    detector = open_detector()
    answers = {}
    for name in DAMAGES:
        shown = show_faces(damage_faces(faces, name).images, detector)
        rows = np.flatnonzero(shown.found)
        found = LabelledFaces(shown.crops[rows], faces.labels[rows], faces.class_names)
        answers[name] = _answer_copies(onnx, name, found, shown.quality[rows].astype(np.float64))
    return answers


def answer_crops(onnx: Path, faces: LabelledFaces) -> dict[str, Answers]:
    """Answer every kind of copies as `fer_cropped` does, the undamaged faces first."""
    answers = {}
    columns = [contract.QUALITY_COLUMNS.index(name) for name in contract.CROP_QUALITY_COLUMNS]
    for name in DAMAGES:
        copies = damage_faces(faces, name)
        quality = np.full((len(faces), len(contract.QUALITY_COLUMNS)), np.nan)
        quality[:, columns] = [measure_crop(image) for image in copies.images]
        answers[name] = _answer_copies(onnx, name, copies, quality)
    return answers


def _answer_copies(onnx: Path, name: str, faces: LabelledFaces, quality: _Floats) -> Answers:
    """Answer one kind of copies. An undamaged face counts as much as all of its damaged copies together."""
    confidence, right = _answer(onnx, faces, faces.images)
    weights = np.full(len(faces), len(DAMAGES) - 1.0 if name == CLEAN else 1.0)
    return Answers(confidence, right, quality, weights)


def _answer(onnx: Path, faces: LabelledFaces, images: npt.NDArray[np.uint8]) -> tuple[_Floats, _Booleans]:
    """Return each image's confidence, float64 (N,), and whether its answer is right, bool (N,)."""
    probabilities = predict_with_onnx(onnx, replace(faces, images=images)).astype(np.float64)
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == faces.labels


def pool(answers: Sequence[Answers]) -> Answers:
    """Join several sets of answers."""
    return Answers(*(np.concatenate(values) for values in zip(*(vars(one).values() for one in answers), strict=True)))


def find_out_of_bounds(answers: Answers, bounds: Sequence[QualityBound]) -> _Booleans:
    """Tell which faces are beyond one of the bounds: bool, (N,). Bounds of the eyes' distance are left out.

    All faces here are of one size: `sweep_sizes` has what smaller ones are worth.
    """
    out = np.zeros(len(answers), np.bool_)
    for bound in bounds:
        if bound.column != "eye_distance_px":
            values = answers.column(bound.column)
            out |= (values < bound.minimum) | (values > bound.maximum)
    return out


def accuracy_at_coverage(answers: Answers, out: _Booleans) -> float:
    """Return the accuracy of the COVERAGE surest answers, where those out of bounds come after all others."""
    order = np.argsort(-answers.confidence, kind="stable")
    order = np.concatenate([order[~out[order]], order[out[order]]])
    weights = answers.weights[order]
    reached = weights.cumsum()
    counted = np.clip(COVERAGE * reached[-1] - (reached - weights), 0, weights)  # the last one counts in part
    return float((counted * answers.right[order]).sum() / counted.sum())


def format_copies(answers: dict[str, Answers], images: int, bounds: Sequence[QualityBound], threshold: float) -> str:
    """Tabulate what bounds do to each kind of copies, and to all of them together, in Markdown."""
    table = [
        "| copies | found | right | at 70 %: by probability | with bounds | not uncertain: by probability, right "
        "| with bounds, right |",
        "|" + " --- |" * 7,
    ]
    named = [(DAMAGES[name].description, one, f"{len(one) / images:.1%}") for name, one in answers.items()]
    for name, one, found in [*named, ("**all, half of them as they are**", pool(list(answers.values())), "")]:
        out, sure = find_out_of_bounds(one, bounds), one.confidence >= threshold
        cells = [
            found,
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


def sweep_sizes(onnx: Path, faces: LabelledFaces, threshold: float) -> str:
    """Tabulate answers by the distance between the eyes, of faces shrunk and enlarged again, in Markdown."""
    eye_distance = float(np.linalg.norm(FER2013_LANDMARKS[1] - FER2013_LANDMARKS[0]))
    rows = []
    for side_px in SIDES_PX:
        images = np.array([_shrink(image, side_px) for image in faces.images], np.uint8)
        sharpness = np.median([measure_crop(image)[0] for image in images])
        named = f"{eye_distance * side_px / FACE_SIZE_PX:.1f} px, a face of {side_px} px | {sharpness:.2f}"
        rows.append((named, *_answer(onnx, faces, images)))
    return _format_sweep("distance between the eyes | sharpness, median", rows, threshold)


def sweep_cuts(onnx: Path, faces: LabelledFaces, threshold: float) -> str:
    """Tabulate answers by the part of the crop that the photo does not show, at any of its sides, in Markdown."""
    rows = []
    for part in CUT_PARTS:
        turns = np.random.default_rng(SEED).integers(4, size=len(faces)).tolist()
        pairs = zip(faces.images, turns, strict=True)
        images = np.array([_cut_off(image, part, quarters) for image, quarters in pairs], np.uint8)
        rows.append((f"{part:.0%}", *_answer(onnx, faces, images)))
    return _format_sweep("outside", rows, threshold)


def tabulate_turns(answers: Answers, threshold: float) -> str:
    """Tabulate answers by how far the faces are turned to a side, in Markdown."""
    rows, yaw_deg = [], np.abs(answers.column("yaw_deg"))
    for low, high in itertools.pairwise(TURNS_DEG):
        chosen = (yaw_deg >= low) & (yaw_deg < high)
        rows.append((f"{low} to {high}°", answers.confidence[chosen], answers.right[chosen]))
    return _format_sweep("yaw, either way", rows, threshold)


def _shrink(image: _Image, side_px: int) -> _Image:
    small = cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, image.shape[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def _cut_off(image: _Image, part: float, quarters: int) -> _Image:
    """Repeat the last column or row that the photo shows, as `fer_faces.align_face` does."""
    turned = np.rot90(image, quarters).copy()
    shown = FACE_SIZE_PX - round(part * FACE_SIZE_PX)
    turned[:, shown:] = turned[:, shown - 1 : shown]
    return np.rot90(turned, -quarters)


def _format_sweep(title: str, rows: Iterable[tuple[str, _Floats, _Booleans]], threshold: float) -> str:
    columns = [title, *SWEEP_COLUMNS]
    lines = [f"| {' | '.join(columns)} |", "|" + " --- |" * (title.count("|") + len(columns))]
    for name, confidence, right in rows:
        sure = confidence >= threshold
        figures = [f"{right.mean():.1%}", f"{confidence.mean():.3f}", f"{sure.mean():.1%}"] if len(right) else [""] * 3
        cells = [str(len(right)), *figures, f"{right[sure].mean():.1%}" if sure.any() else ""]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def read_served_bounds() -> str:
    """Read `quality_bounds` of the model `fer`, as the sources have it.

    Raises:
        DataError: The model's configuration has no such parameter.
    """
    config = Path(contract.__file__).with_name(contract.FER_MODEL) / "config.pbtxt"
    found = re.search(
        rf'key: "{contract.QUALITY_BOUNDS_PARAMETER}"\s+value {{ string_value: "([^"]*)"', config.read_text()
    )
    if found is None:
        raise DataError(
            f"{config}: it has no parameter {contract.QUALITY_BOUNDS_PARAMETER}. Name bounds with --bounds."
        )
    return found[1]


def parse_bounds(text: str) -> Iterator[QualityBound]:
    """Parse a list of bounds, `column:min:max:reason,...`.

    Raises:
        DataError: One of them is no bound, or of a column that is not measured.
    """
    for part in filter(None, text.split(",")):
        try:
            bound = QualityBound.parse(part)
        except ValueError:
            raise DataError(f"--bounds: expected column:min:max:reason, but found {part.strip()!r}") from None
        if bound.column not in contract.QUALITY_COLUMNS:
            raise DataError(f"--bounds: a column is one of {', '.join(contract.QUALITY_COLUMNS)}, not {bound.column!r}")
        yield bound


def main(arguments: Sequence[str]) -> int:
    """Run `fer-train quality-bounds` and return its exit code."""
    parser = subcommand_parser(
        "fer-train quality-bounds",
        description="Measure what bounds of a face's quality do to the answers.",
        examples="""\
  fer-train quality-bounds --onnx training/release/fer_classifier.onnx --fer2013 DIR --every 4""",
    )
    parser.add_argument("--onnx", type=Path, required=True, metavar="FILE", help="a file made by fer-train export")
    parser.add_argument("--bounds", metavar="LIST", help="column:min:max:reason,... (default: those that are served)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth image only (default: 1)")
    add_source_options(parser, to_measure=True)
    options = parse_options(parser, arguments)
    if options.every < 1:
        parser.error(f"--every must be 1 or more, but is {options.every}.")
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    bounds = list(parse_bounds(read_served_bounds() if options.bounds is None else options.bounds))
    threshold = read_uncertain_below(options.onnx)
    faces, usage = load_for_measuring(options)
    faces = LabelledFaces(faces.images[:: options.every], faces.labels[:: options.every], faces.class_names)
    photos, crops = answer_photos(options.onnx, faces), answer_crops(options.onnx, faces)
    print(f"{usage}: {len(faces)} images, uncertain below a confidence of {threshold:.4f}")
    print(f"\nAs photos:\n\n{format_copies(photos, len(faces), bounds, threshold)}")
    print(f"\nAs crops:\n\n{format_copies(crops, len(faces), bounds, threshold)}")
    print(f"\n{sweep_sizes(options.onnx, faces, threshold)}")
    print(f"\n{sweep_cuts(options.onnx, faces, threshold)}")
    print(f"\n{tabulate_turns(photos[CLEAN], threshold)}")
