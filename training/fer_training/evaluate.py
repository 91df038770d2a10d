"""`fer-train evaluate`: measure a trained classifier on labelled faces.

All images of the usage or split are measured, of FER2013 PublicTest unless told otherwise: of a checkpoint the averaged
weights without a temperature, of an ONNX file what it answers, of a server what its `fer_cropped` answers.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from fer_client import FerClient
from fer_commands.exit_codes import ExitCode
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_training.faces import LabelledFaces
from fer_training.metrics import Figures, Floats, Interval, compute_figures
from fer_training.plots import plot_confusion, plot_reliability, plot_risk_coverage, require_matplotlib
from fer_training.prediction import predict_with_checkpoint, predict_with_onnx, predict_with_server
from fer_training.sources import add_source_options, load_for_measuring, parse_options
from fer_training.temperature import UncertainThreshold, recommend_threshold

EXIT_CODES: Final = (
    ExitCode.OK,
    ExitCode.FAILED,
    ExitCode.USAGE,
    ExitCode.UNREACHABLE,
    ExitCode.REFUSED,
    ExitCode.FORBIDDEN,
    ExitCode.INTERRUPTED,
)
"""Exit codes of the commands that may ask a server."""


@dataclass(frozen=True)
class Evaluation(Figures):
    """The figures of a classifier on labelled faces, and what follows from them."""

    uncertain: UncertainThreshold
    """Threshold of `recommend_threshold` on these faces."""
    without_seen_elsewhere: Figures | None
    """Figures without the faces that are `seen_elsewhere`; None where there is no such face, or no other."""


def evaluate(probabilities: Floats, faces: LabelledFaces) -> Evaluation:
    """Compute everything that `--json` prints.

    Args:
        probabilities: float, (N, C), rows sum to 1, of these faces in their order.
        faces: N of them, at least one, of C classes.
    """
    figures = compute_figures(probabilities, faces.labels, faces.class_names)
    new = np.ones(len(faces), dtype=np.bool_) if faces.seen_elsewhere is None else ~faces.seen_elsewhere
    return Evaluation(
        **vars(figures),
        uncertain=recommend_threshold(probabilities, faces.labels),
        without_seen_elsewhere=(
            compute_figures(probabilities[new], faces.labels[new], faces.class_names)
            if 0 < new.sum() < len(faces)
            else None
        ),
    )


def evaluate_onnx(path: Path, faces: LabelledFaces) -> Evaluation:
    """Return figures of an ONNX file in ONNX Runtime on the CPU. Raises as `predict_with_onnx`."""
    return evaluate(predict_with_onnx(path, faces), faces)


def format_figures(evaluation: Evaluation, usage: str) -> str:
    """Return the figures as lines of text, classes in a table at the end."""
    selective, uncertain, unseen = evaluation.selective, evaluation.uncertain, evaluation.without_seen_elsewhere
    lines = [
        f"{usage}: {evaluation.images} images",
        f"accuracy           {evaluation.accuracy:.2%}  (95 % interval {_format(evaluation.accuracy_95, '.2%')})",
        f"balanced accuracy  {evaluation.balanced_accuracy:.2%}  ({_format(evaluation.balanced_accuracy_95, '.2%')})",
        f"macro-F1           {evaluation.macro_f1:.4f}  ({_format(evaluation.macro_f1_95, '.4f')})",
        f"ECE (15 bins)      {evaluation.ece:.4f}  ({_format(evaluation.ece_95, '.4f')}; "
        f"chance alone makes {evaluation.ece_of_calibrated:.4f})",
        f"classwise ECE      {evaluation.classwise_ece:.4f}",
        f"NLL                {evaluation.nll:.4f}  ({_format(evaluation.nll_95, '.4f')})",
        f"AURC               {evaluation.aurc:.4f}",
        "surest             " + "".join(f"{point.coverage:>8.0%}" for point in selective),
        "their accuracy     " + "".join(f"{point.accuracy:>8.2%}" for point in selective),
        f"{f'{uncertain.target_accuracy:.0%} right':<19}{_format_threshold(uncertain)}",
    ]
    if unseen:
        lines += [
            f"without the {evaluation.images - unseen.images} images that are also in another evaluation split: "
            f"accuracy {unseen.accuracy:.2%} ({_format(unseen.accuracy_95, '.2%')}), macro-F1 {unseen.macro_f1:.4f}, "
            f"NLL {unseen.nll:.4f}"
        ]
    width = max(9, *(len(name) + 1 for name in evaluation.classes))
    lines += [f"{'class':<{width}}{'images':>8}{'precision':>11}{'recall':>8}{'F1':>7}"]
    lines += [
        f"{name:<{width}}{one.images:>8}{one.precision:>11.3f}{one.recall:>8.3f}{one.f1:>7.3f}"
        for name, one in evaluation.classes.items()
    ]
    return "\n".join(lines)


def _format(interval: Interval, form: str) -> str:
    return f"{interval[0]:{form}} to {interval[1]:{form}}"


def _format_threshold(uncertain: UncertainThreshold) -> str:
    if uncertain.threshold is None:
        return "at no confidence"
    return f"from a confidence of {uncertain.threshold:.3f} on, which {uncertain.coverage:.2%} of the images have"


def write_predictions(path: Path, probabilities: Floats, faces: LabelledFaces) -> None:
    """Write one CSV line for each image: its number from 0, label, answer, confidence, all probabilities."""
    names = faces.class_names
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "label", "predicted", "confidence", *(f"p_{name}" for name in names)])
        for row, (label, values) in enumerate(zip(faces.labels.tolist(), probabilities.tolist(), strict=True)):
            predicted = values.index(max(values))
            numbers = (f"{value:.7f}" for value in (values[predicted], *values))
            writer.writerow([row, names[label], names[predicted], *numbers])


def write_plots(
    directory: Path, evaluation: Evaluation, probabilities: Floats, faces: LabelledFaces, title: str
) -> None:
    """Write `confusion.png`, `reliability.png` and `risk_coverage.png` into a folder that exists, over older ones.

    Raises:
        MatplotlibMissingError: There is no matplotlib.
    """
    plot_confusion(evaluation, title, directory / "confusion.png")
    plot_reliability(probabilities, faces.labels, title, directory / "reliability.png")
    plot_risk_coverage(probabilities, faces.labels, evaluation.uncertain, title, directory / "risk_coverage.png")


def server_url(text: str) -> str:
    """Return a server's URL in full. An argparse type.

    Raises:
        argparse.ArgumentTypeError: The text is no URL of a server.
    """
    try:
        with FerClient(text) as client:  # Which asks nothing yet.
            return client.url
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main(arguments: Sequence[str]) -> int:
    """Run `fer-train evaluate` and return its exit code."""
    parser = subcommand_parser(
        "fer-train evaluate",
        description="Measure a trained classifier on labelled faces.",
        examples="""\
  fer-train evaluate --onnx training/release/fer_classifier.onnx --fer2013 DIR
  fer-train evaluate --checkpoint runs/compact/checkpoint.pt --fer2013 DIR --json
  fer-train evaluate --server localhost:8000 --folder DIR --plots plots""",
        exit_codes=EXIT_CODES,
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--onnx", type=Path, metavar="FILE", help="a file made by fer-train export")
    model.add_argument("--checkpoint", type=Path, metavar="FILE", help="checkpoint.pt of a run")
    model.add_argument(
        "--server", type=server_url, metavar="URL", help="host:port, http://host:port or grpc://host:port of a Triton"
    )
    add_source_options(parser, to_measure=True)
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead of a table")
    parser.add_argument(
        "--plots", type=Path, metavar="DIR", help="also write confusion.png, reliability.png and risk_coverage.png"
    )
    parser.add_argument(
        "--predictions", type=Path, metavar="FILE", help="also write a CSV with each image's probabilities"
    )
    options = parse_options(parser, arguments)
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    if options.plots:  # What can fail is tried before an hour may have gone by.
        require_matplotlib()
        options.plots.mkdir(parents=True, exist_ok=True)
    faces, usage = load_for_measuring(options)
    if options.onnx:
        name, probabilities = options.onnx.name, predict_with_onnx(options.onnx, faces)
    elif options.checkpoint:
        name, probabilities = options.checkpoint.name, predict_with_checkpoint(options.checkpoint, faces)
    else:
        name, probabilities = options.server, predict_with_server(options.server, faces)
    evaluation = evaluate(probabilities, faces)
    if options.predictions:
        write_predictions(options.predictions, probabilities, faces)
    if options.plots:
        write_plots(options.plots, evaluation, probabilities, faces, f"{name} on {usage}")
    if options.json:
        print(json.dumps({"usage": usage, **asdict(evaluation)}, indent=2))
    else:
        print(format_figures(evaluation, usage))
