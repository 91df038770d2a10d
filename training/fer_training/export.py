"""Turns a checkpoint into the release: the calibrated ONNX file and its figures.

    python -m fer_training.export --checkpoint runs/compact/checkpoint.pt --fer2013 DIR --out training/release

DIR holds `fer2013.csv`: the temperature is fitted, the file compared with PyTorch and measured, all on PublicTest. The
output folder gets `fer_classifier.onnx` and `metrics.json`; neither holds a path of this machine, both say which recipe
they are of. Half precision and INT8 are made of the file by `fer_build.quantize`.
"""

import argparse
import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from fer_contract import FACE_SIZE_PX, LABELS, ONNX_LABELS_KEY, ONNX_UNCERTAIN_BELOW_KEY, ONNX_VERSION_KEY
from fer_training.calibration import fit_temperature
from fer_training.checkpoint import Checkpoint, Ingredient, load_finished
from fer_training.command import run_command
from fer_training.complexity import count_macs, count_parameters
from fer_training.damage import damage_in_turn
from fer_training.errors import CheckpointError
from fer_training.evaluate import Evaluation, evaluate, evaluate_onnx, format_figures
from fer_training.faces import LabelledFaces
from fer_training.fer2013 import PUBLIC_TEST
from fer_training.metrics import compute_figures
from fer_training.network import Classifier
from fer_training.onnx_file import check_parity, write_onnx
from fer_training.prediction import build_network, predict_logits, softmax
from fer_training.provenance import describe_hardware, list_versions, utc_now
from fer_training.sources import add_source_options, check_source_options, describe_source, load_for_measuring
from fer_training.speed import SPEED_BATCH, measure_images_per_s

ONNX_NAME: Final = "fer_classifier.onnx"
METRICS_NAME: Final = "metrics.json"


def export(
    checkpoint_path: Path,
    validation: LabelledFaces,
    out_dir: Path,
    *,
    usage: str = PUBLIC_TEST,
    source: str = "--fer2013 DIR",
) -> Path:
    """Makes the release out of a finished run.

    Args:
        checkpoint_path: written by `train`, `prune` or `soup`.
        validation: what to calibrate, compare and measure on.
        usage: what these faces are called in the figures.
        source: the options of the command that load them, for the record.
        out_dir: made if need be; gets the ONNX file and `metrics.json`, over older ones.

    Returns:
        The path of the ONNX file.

    Raises:
        CheckpointError: the checkpoint is missing, unreadable, or of an unfinished run.
        ModelFileError: the ONNX file computes something else than the network. No file is left then.
    """
    checkpoint = load_finished(checkpoint_path)
    if checkpoint.class_names != LABELS:
        raise CheckpointError(
            f"{checkpoint_path}: its classes are {', '.join(checkpoint.class_names)}, but the server's are "
            f"{', '.join(LABELS)}."
        )
    name = checkpoint.recipe.name
    papers = Papers(
        version=name,
        metadata={
            "fer.recipe": json.dumps(_describe_recipe(checkpoint)),
            "fer.commit": checkpoint.origin.commit,
            "fer.data_sha256": checkpoint.origin.data_sha256,
        },
        training=_describe_training(checkpoint),
        command=f"python -m fer_training.export --checkpoint runs/{name}/checkpoint.pt {source} --out training/release",
    )
    return write_release(build_network(checkpoint), papers, validation, out_dir, usage=usage)


@dataclass(frozen=True)
class Papers:
    """What a release says of its origin."""

    version: str
    metadata: dict[str, str]
    """Of the ONNX file: recipe, commit and data."""
    training: dict[str, Any]
    """Of `metrics.json`."""
    command: str
    """Which made the release, without a path of this machine."""


def write_release(
    network: Classifier, papers: Papers, validation: LabelledFaces, out_dir: Path, *, usage: str = PUBLIC_TEST
) -> Path:
    """Calibrates a network, writes and measures its ONNX file, and writes `metrics.json` beside it.

    The temperature is fitted on the images and as many damaged copies, one of each: what is served is not all clean.

    Args:
        network: of the contract's classes, on the CPU, without any temperature.
        papers: where it comes from.
        validation: what to calibrate, compare and measure on.
        out_dir: made if need be.
        usage: what the faces are called in the figures.

    Raises:
        ModelFileError: the ONNX file computes something else than the network. No file is left then.
    """
    logits = predict_logits(network, validation.images)
    copies = predict_logits(network, damage_in_turn(validation.images[:, np.newaxis])[:, 0])
    temperature = fit_temperature(np.concatenate([logits, copies]), np.tile(validation.labels, 2))
    uncalibrated = compute_figures(softmax(logits), validation.labels)
    calibrated = evaluate(softmax(logits / temperature), validation)

    out_dir.mkdir(parents=True, exist_ok=True)
    path = out_dir / ONNX_NAME
    aside = path.with_suffix(".tmp")
    try:
        write_onnx(network, temperature, _describe_for_onnx(papers, temperature, calibrated, usage), aside)
        difference = check_parity(aside, network, temperature, validation.images)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    metrics = {
        "model": {
            "version": papers.version,
            **_describe_file(path),
            "parameters": count_parameters(network),
            "macs": count_macs(network),
        },
        "evaluation": {"usage": usage, **asdict(evaluate_onnx(path, validation))},
        "calibration": {
            "temperature": temperature,
            "fitted_on": f"{usage} and a damaged copy of each image",
            "ece_before": uncalibrated.ece,
            "nll_before": uncalibrated.nll,
        },
        "speed": {
            "runtime": "onnxruntime",
            "threads": 1,
            "batch": SPEED_BATCH,
            "images_per_s": measure_images_per_s(path),
        },
        "training": papers.training,
        "export": {
            "command": papers.command,
            "finished": utc_now(),
            "hardware": describe_hardware("cpu"),
            "versions": list_versions(["torch", "onnx", "onnxruntime", "numpy"]),
            "largest_difference_from_pytorch": difference,
        },
    }
    (out_dir / METRICS_NAME).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return path


def _describe_for_onnx(papers: Papers, temperature: float, figures: Evaluation, usage: str) -> dict[str, str]:
    """Metadata for the ONNX file. No time in it, so that the same network gives the same bytes.

    What serves the file adds the beginning of its hash to the version.
    """
    threshold = figures.uncertain.threshold
    summary: dict[str, Any] = {"usage": usage, "images": figures.images}
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "ece", "nll"):
        summary[name] = round(getattr(figures, name), 4)
    return {
        ONNX_LABELS_KEY: ",".join(LABELS),
        ONNX_VERSION_KEY: papers.version,
        "fer.input_size": f"{FACE_SIZE_PX}x{FACE_SIZE_PX}",
        **papers.metadata,
        "fer.temperature": f"{temperature:.4f}",
        # Where no threshold makes the answers good enough, all of them are uncertain.
        ONNX_UNCERTAIN_BELOW_KEY: f"{1.0 if threshold is None else threshold:.4f}",
        "fer.metrics": json.dumps(summary),
    }


def _describe_recipe(checkpoint: Checkpoint) -> dict[str, Any]:
    """The recipe's fields; of a soup its name, and those of each run's recipe."""
    runs = {name: asdict(run.recipe) for name, run in checkpoint.origin.mean_of.items()}
    return {"name": checkpoint.recipe.name, "mean_of": runs} if runs else asdict(checkpoint.recipe)


def _describe_file(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"file": path.name, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}


def _describe_training(checkpoint: Checkpoint) -> dict[str, Any]:
    last = checkpoint.history[-1]
    return {
        **asdict(checkpoint.origin),
        "mean_of": {name: _describe_ingredient(run) for name, run in checkpoint.origin.mean_of.items()},
        "images": checkpoint.origin.dropped.kept,
        "seed": checkpoint.recipe.seed,
        "epochs": last.epoch,
        "elapsed_s": round(last.elapsed_s),
        "cpu_s": round(last.cpu_s),
    }


def _describe_ingredient(run: Ingredient) -> dict[str, Any]:
    parts = ("command", "commit", "started", "hardware", "precision", "teachers")
    origin = {part: getattr(run.origin, part) for part in parts}
    return {"recipe": run.recipe.name, "weights_sha256": run.weights_sha256, **origin}


def main() -> int:
    """The command. Returns its exit code, see `command.run_command`."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_training.export", description="Turn a checkpoint into a calibrated ONNX file."
    )
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="FILE", help="checkpoint.pt of a finished run"
    )
    add_source_options(parser, to_measure=True)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the ONNX file and figures")
    arguments = parser.parse_args()
    check_source_options(parser, arguments)
    return run_command("fer_training.export", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    validation, usage = load_for_measuring(arguments)
    path = export(arguments.checkpoint, validation, arguments.out, usage=usage, source=describe_source(arguments))
    print(format_figures(evaluate_onnx(path, validation), usage))
    print(f"wrote {path} and {path.with_name(METRICS_NAME)}")


if __name__ == "__main__":
    sys.exit(main())
