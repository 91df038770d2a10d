"""Measures a trained classifier on labelled faces.

    python -m fer_training.evaluate --onnx training/release/fer_classifier.onnx --fer2013 DIR
    python -m fer_training.evaluate --checkpoint runs/compact/checkpoint.pt --fer2013 DIR --json
    python -m fer_training.evaluate --server localhost:8000 --fer2013 DIR --plots plots --predictions predictions.csv

DIR holds `fer2013.csv`; `--folder` and `--ck48` are for other data. All images of the usage or split are measured, of
FER2013 PublicTest unless told otherwise: of a checkpoint the averaged weights without calibration, of an ONNX file what
it answers, of a server what its `fer_cropped` answers.
"""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from fer_client import ContractError, FerClient, FerClientError, ServerUnreachableError
from fer_contract import LABELS
from fer_training.calibration import UncertainThreshold, recommend_threshold
from fer_training.checkpoint import load_checkpoint
from fer_training.command import EXIT_USAGE, run_command
from fer_training.errors import DataError
from fer_training.faces import LabelledFaces
from fer_training.metrics import Figures, Floats, Interval, compute_figures
from fer_training.plots import plot_confusion, plot_reliability, plot_risk_coverage, require_matplotlib
from fer_training.prediction import build_network, open_onnx, predict_logits, predict_onnx, softmax
from fer_training.served_prediction import predict_served
from fer_training.sources import add_source_options, check_source_options, load_for_measuring

EXIT_FAILED: Final = 1
EXIT_UNREACHABLE: Final = 3
EXIT_CODES: Final = f"""\
exit codes:
  0  done
  {EXIT_FAILED}  the server failed, is overloaded, or took too long
  {EXIT_USAGE}  wrong usage, a file that cannot be used, or a server of something else
  {EXIT_UNREACHABLE}  no server answers at the URL
  130  Ctrl-C
"""
SERVER_EXIT_CODES: Final[dict[type[Exception], int]] = {
    ContractError: EXIT_USAGE,
    ServerUnreachableError: EXIT_UNREACHABLE,
    FerClientError: EXIT_FAILED,
}
"""See `command.run_command`."""


@dataclass(frozen=True)
class Evaluation(Figures):
    """The figures of a classifier on labelled faces, and what follows from them."""

    uncertain: UncertainThreshold
    """From `recommend_threshold`, on these faces."""
    without_seen_elsewhere: Figures | None
    """Without the faces that are `seen_elsewhere`; None where there is no such face, or no other."""


def evaluate(probabilities: Floats, faces: LabelledFaces) -> Evaluation:
    """Computes everything that `--json` prints.

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
    """Figures of an ONNX file in ONNX Runtime on the CPU. Raises as `predict_with_onnx`."""
    return evaluate(predict_with_onnx(path, faces), faces)


def evaluate_checkpoint(path: Path, faces: LabelledFaces) -> Evaluation:
    """Figures of a checkpoint's averaged weights in PyTorch on the CPU. Raises as `predict_with_checkpoint`."""
    return evaluate(predict_with_checkpoint(path, faces), faces)


def predict_with_onnx(path: Path, faces: LabelledFaces) -> Floats:
    """Probabilities of an ONNX file in ONNX Runtime on the CPU: float32, (N, 7).

    Raises:
        ModelFileError: the file is missing or does not fit the contract.
        DataError: the faces have other classes than the contract.
    """
    _require_classes(str(path), LABELS, faces)
    return predict_onnx(open_onnx(path), faces.images)


def predict_with_checkpoint(path: Path, faces: LabelledFaces) -> Floats:
    """Probabilities of a checkpoint's averaged weights in PyTorch on the CPU, at temperature 1: float64, (N, C).

    Raises:
        CheckpointError: the file is missing or no checkpoint.
        DataError: the faces have other classes than the checkpoint.
    """
    checkpoint = load_checkpoint(path)
    _require_classes(str(path), checkpoint.class_names, faces)
    return softmax(predict_logits(build_network(checkpoint), faces.images))


def predict_with_server(url: str, faces: LabelledFaces) -> Floats:
    """Probabilities of a running server's `fer_cropped`: float32, (N, 7).

    Raises:
        ValueError, FerClientError: as `served_prediction.predict_served`.
        DataError: the faces have other classes than the contract.
    """
    _require_classes(url, LABELS, faces)
    return predict_served(url, faces.images)


def _require_classes(model: str, class_names: Sequence[str], faces: LabelledFaces) -> None:
    if tuple(class_names) != faces.class_names:
        raise DataError(
            f"{model} tells apart {', '.join(class_names)}, but the images are labelled "
            f"{', '.join(faces.class_names)}. Measure it on images of its own classes."
        )


def format_figures(evaluation: Evaluation, usage: str) -> str:
    """The figures as lines of text, classes in a table at the end."""
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
    """Writes one CSV line for each image: its number from 0, label, answer, confidence, all probabilities."""
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
    """Writes `confusion.png`, `reliability.png` and `risk_coverage.png` into a folder that exists, over older ones.

    Raises:
        MatplotlibMissingError: there is no matplotlib.
    """
    plot_confusion(evaluation, title, directory / "confusion.png")
    plot_reliability(probabilities, faces.labels, title, directory / "reliability.png")
    plot_risk_coverage(probabilities, faces.labels, evaluation.uncertain, title, directory / "risk_coverage.png")


def server_url(text: str) -> str:
    """An argparse type: a server's URL in full.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        with FerClient(text) as client:  # Which asks nothing yet.
            return client.url
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main() -> int:
    """The command. Returns its exit code, see EXIT_CODES."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_training.evaluate",
        description="Measure a trained classifier on labelled faces.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--onnx", type=Path, metavar="FILE", help="a file made by fer_training.export")
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
    arguments = parser.parse_args()
    check_source_options(parser, arguments)
    return run_command("fer_training.evaluate", lambda: _run(arguments), exit_codes=SERVER_EXIT_CODES)


def _run(arguments: argparse.Namespace) -> None:
    if arguments.plots:  # What can fail is tried before an hour may have gone by.
        require_matplotlib()
        arguments.plots.mkdir(parents=True, exist_ok=True)
    faces, usage = load_for_measuring(arguments)
    if arguments.onnx:
        name, probabilities = arguments.onnx.name, predict_with_onnx(arguments.onnx, faces)
    elif arguments.checkpoint:
        name, probabilities = arguments.checkpoint.name, predict_with_checkpoint(arguments.checkpoint, faces)
    else:
        name, probabilities = arguments.server, predict_with_server(arguments.server, faces)
    evaluation = evaluate(probabilities, faces)
    if arguments.predictions:
        write_predictions(arguments.predictions, probabilities, faces)
    if arguments.plots:
        write_plots(arguments.plots, evaluation, probabilities, faces, f"{name} on {usage}")
    if arguments.json:
        print(json.dumps({"usage": usage, **asdict(evaluation)}, indent=2))
    else:
        print(format_figures(evaluation, usage))


if __name__ == "__main__":
    sys.exit(main())
