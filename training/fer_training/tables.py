"""`fer-train tables`: print a release's figures as the Markdown tables of RESULTS.md and MODEL_CARD.md.

A test compares the documents with these tables.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_training.errors import ModelFileError
from fer_training.provenance import recipe_of

RESULT_COLUMNS: Final = (
    "recipe",
    "accuracy (95 % interval)",
    "balanced",
    "macro-F1",
    "ECE",
    "NLL",
    "parameters",
    "MACs",
    "ONNX",
    "images/s",
    "training",
)


def format_result(metrics: Mapping[str, Any]) -> str:
    """Format the run's row in the table of RESULTS.md, with `RESULT_COLUMNS`."""
    model, figures, training = metrics["model"], metrics["evaluation"], metrics["training"]
    low, high = figures["accuracy_95"]
    return _row(
        _link_recipes(model["version"], training.get("mean_of", {})),
        f"{_percent(figures['accuracy'])} ({_percent(low)} to {_percent(high)})",
        _percent(figures["balanced_accuracy"]),
        f"{figures['macro_f1']:.4f}",
        f"{figures['ece']:.4f}",
        f"{figures['nll']:.4f}",
        f"{model['parameters']:,}",
        f"{model['macs'] / 1e6:.1f} M",
        f"{model['size_bytes'] / 1e6:.1f} MB",
        f"{metrics['speed']['images_per_s']:.0f}",
        f"{training['epochs']} epochs, {_duration(training['elapsed_s'])}",
    )


def _link_recipes(version: str, mean_of: Mapping[str, Any]) -> str:
    """Link the version to its recipe; for a soup, the version is followed by links to its runs' recipes."""
    recipes = dict.fromkeys(recipe_of(run["recipe"]) for run in mean_of.values())
    if not recipes:
        return f"[{version}](recipes/{recipe_of(version)}.toml)"
    return f"{version}: " + ", ".join(f"[{recipe}](recipes/{recipe}.toml)" for recipe in recipes)


def format_classes(metrics: Mapping[str, Any]) -> str:
    """Format precision, recall and F1 of each class."""
    rows = [
        _row(name, one["images"], *(f"{one[figure]:.3f}" for figure in ("precision", "recall", "f1")))
        for name, one in metrics["evaluation"]["classes"].items()
    ]
    return _table(("class", "images", "precision", "recall", "F1"), rows)


def format_confusion(metrics: Mapping[str, Any]) -> str:
    """Format the confusion matrix: how many images of each label got each answer."""
    names = list(metrics["evaluation"]["classes"])
    rows = [
        _row(f"**{name}**", *counts) for name, counts in zip(names, metrics["evaluation"]["confusion"], strict=True)
    ]
    return _table(("labelled, answered", *names), rows)


def format_coverage(metrics: Mapping[str, Any]) -> str:
    """Format the accuracy of the surest answers."""
    points = metrics["evaluation"]["selective"]
    return _table(
        ("answers given", *(f"{point['coverage']:.0%}".replace("%", " %") for point in points)),
        [_row("their accuracy", *(_percent(point["accuracy"]) for point in points))],
    )


def _table(header: tuple[str, ...], rows: list[str]) -> str:
    return "\n".join([_row(*header), "|" + "---|" * len(header), *rows])


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _percent(part: float) -> str:
    return f"{100 * part:.2f} %"


def _duration(seconds: int) -> str:
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"


def main(arguments: Sequence[str]) -> int:
    """Run `fer-train tables` and return its exit code."""
    parser = subcommand_parser(
        "fer-train tables",
        description="Print a release's figures as Markdown tables.",
        examples="  fer-train tables training/release/metrics.json",
    )
    parser.add_argument("metrics", type=Path, metavar="FILE", help="metrics.json, made by fer-train export")
    options = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    try:
        metrics = json.loads(options.metrics.read_text(encoding="utf-8"))
        tables = [
            _table(RESULT_COLUMNS, [format_result(metrics)]),
            *(form(metrics) for form in (format_classes, format_confusion, format_coverage)),
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{options.metrics}: not made by fer-train export: {error!r}") from error
    print("\n\n".join(tables))
