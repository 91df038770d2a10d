"""`fer-train summarise`: mean and spread of several runs of one recipe, over seeds or over folds.

With data, each run is measured on PublicTest as `export` would: with its own temperature, fitted there. Without, what
the runs themselves noted last is taken, each on its own validation images.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_training.checkpoint import Checkpoint, load_runs
from fer_training.errors import DataError
from fer_training.faces import LabelledFaces
from fer_training.fer2013 import PUBLIC_TEST, load_evaluation_data
from fer_training.metrics import compute_figures
from fer_training.prediction import build_network, predict_logits, softmax
from fer_training.temperature import fit_temperature

FIGURES: Final = ("accuracy", "balanced_accuracy", "macro_f1", "ece", "nll", "aurc")


def measure(checkpoint: Checkpoint, faces: LabelledFaces) -> dict[str, float]:
    """Measure one run's averaged weights, with a temperature fitted on the same faces.

    Raises:
        DataError: The faces have other classes.
    """
    if checkpoint.class_names != faces.class_names:
        raise DataError(
            f"{checkpoint.recipe.name}: its classes are {', '.join(checkpoint.class_names)}, not the data's."
        )
    logits = predict_logits(build_network(checkpoint), faces.images)
    probabilities = softmax(logits / fit_temperature(logits, faces.labels))
    figures = compute_figures(probabilities, faces.labels, faces.class_names)
    return {name: getattr(figures, name) for name in FIGURES}


def recall(checkpoint: Checkpoint) -> dict[str, float]:
    """Return the figures that one run noted after its last epoch."""
    last = checkpoint.history[-1]
    return {"accuracy": last.validation_accuracy, "nll": last.validation_nll}


def format_summary(rows: dict[str, dict[str, float]]) -> str:
    """Format a table with a line per run, then mean and sample standard deviation."""
    names = list(next(iter(rows.values())))
    width = max(len("mean"), *map(len, rows))
    columns = {name: [row[name] for row in rows.values()] for name in names}
    table = dict(rows)
    table["mean"] = {name: statistics.mean(values) for name, values in columns.items()}
    if len(rows) > 1:
        table["std"] = {name: statistics.stdev(values) for name, values in columns.items()}
    lines = ["  ".join([" " * width, *(f"{name:>17}" for name in names)])]
    lines += ["  ".join([run.ljust(width), *(f"{row[name]:>17.4f}" for name in names)]) for run, row in table.items()]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Run `fer-train summarise` and return its exit code."""
    parser = subcommand_parser(
        "fer-train summarise",
        description="Print mean and spread of several training runs.",
        examples="""\
  fer-train summarise runs/compact runs/compact-seed2 runs/compact-seed3 --fer2013 DIR
  fer-train summarise runs/posed-fold*""",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a finished run")
    parser.add_argument("--fer2013", type=Path, metavar="DIR", help="folder with fer2013.csv, to measure them all on")
    options = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    runs = load_runs(options.runs)
    if options.fer2013:
        faces = load_evaluation_data(options.fer2013, PUBLIC_TEST)
        rows = {name: measure(checkpoint, faces) for name, checkpoint in runs.items()}
    else:
        rows = {name: recall(checkpoint) for name, checkpoint in runs.items()}
    print(format_summary(rows))
