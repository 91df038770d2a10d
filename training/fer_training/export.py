"""Turns a checkpoint into the release: the calibrated ONNX file and its figures.

    python -m fer_training.export --checkpoint runs/first/checkpoint.pt --fer2013 DIR --out training/release

DIR holds `fer2013.csv`: the temperature is fitted, the file compared with PyTorch and measured, all on PublicTest. The
output folder gets `fer_<recipe>.onnx` and `metrics.json`; neither holds a path of this machine.
"""

import argparse
import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from fer_contract import LABELS, ONNX_LABELS_KEY, ONNX_VERSION_KEY
from fer_training.calibration import fit_temperature
from fer_training.checkpoint import Checkpoint, load_checkpoint
from fer_training.errors import CheckpointError, TrainingRoomError
from fer_training.evaluate import evaluate_onnx, format_figures
from fer_training.faces import LabelledFaces
from fer_training.fer2013 import PUBLIC_TEST, load_evaluation_data
from fer_training.metrics import Figures, compute_figures
from fer_training.network import Classifier
from fer_training.onnx_file import check_parity, write_onnx
from fer_training.prediction import build_network, predict_logits, softmax
from fer_training.provenance import describe_hardware, list_versions, utc_now
from fer_training.speed import SPEED_BATCH, measure_images_per_s

METRICS_NAME: Final = "metrics.json"


def export(checkpoint_path: Path, public_test: LabelledFaces, out_dir: Path) -> Path:
    """Makes the release out of a finished run.

    Args:
        checkpoint_path: written by `train`.
        public_test: what to calibrate, compare and measure on.
        out_dir: made if need be; gets the ONNX file and `metrics.json`, over older ones.

    Returns:
        The path of the ONNX file.

    Raises:
        CheckpointError: the checkpoint is missing, unreadable, or of an unfinished run.
        ModelFileError: the ONNX file computes something else than the network. No file is left then.
    """
    checkpoint = load_checkpoint(checkpoint_path)
    checkpoint.require_finished(checkpoint_path)
    if checkpoint.class_names != LABELS:
        raise CheckpointError(
            f"{checkpoint_path}: its classes are {', '.join(checkpoint.class_names)}, but the server's are "
            f"{', '.join(LABELS)}."
        )
    network = build_network(checkpoint)
    logits = predict_logits(network, public_test.images)
    temperature = fit_temperature(logits, public_test.labels)
    uncalibrated = compute_figures(softmax(logits), public_test.labels)
    calibrated = compute_figures(softmax(logits / temperature), public_test.labels)

    out_dir.mkdir(parents=True, exist_ok=True)
    path = out_dir / f"fer_{checkpoint.recipe.name}.onnx"
    aside = path.with_suffix(".tmp")
    try:
        write_onnx(network, temperature, _describe_for_onnx(checkpoint, temperature, calibrated), aside)
        difference = check_parity(aside, network, temperature, public_test.images)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    metrics = {
        "model": {"version": checkpoint.recipe.name, **_describe_file(path, network)},
        "evaluation": {"usage": PUBLIC_TEST, **asdict(evaluate_onnx(path, public_test))},
        "calibration": {
            "temperature": temperature,
            "fitted_on": PUBLIC_TEST,
            "ece_before": uncalibrated.ece,
            "nll_before": uncalibrated.nll,
        },
        "speed": {
            "runtime": "onnxruntime",
            "threads": 1,
            "batch": SPEED_BATCH,
            "images_per_s": measure_images_per_s(path),
        },
        "training": _describe_training(checkpoint),
        "export": _describe_export(checkpoint, difference),
    }
    (out_dir / METRICS_NAME).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return path


def _describe_for_onnx(checkpoint: Checkpoint, temperature: float, figures: Figures) -> dict[str, str]:
    """Metadata for the ONNX file. No time in it, so that the same network gives the same bytes.

    The version is the recipe's name; what serves the file adds the beginning of its hash.
    """
    summary = {"usage": PUBLIC_TEST, "images": figures.images}
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "ece", "nll"):
        summary[name] = round(getattr(figures, name), 4)
    return {
        ONNX_LABELS_KEY: ",".join(LABELS),
        ONNX_VERSION_KEY: checkpoint.recipe.name,
        "fer.recipe": checkpoint.recipe.name,
        "fer.commit": checkpoint.origin.commit,
        "fer.data_sha256": checkpoint.origin.data_sha256,
        "fer.temperature": f"{temperature:.4f}",
        "fer.metrics": json.dumps(summary),
    }


def _describe_file(path: Path, network: Classifier) -> dict[str, Any]:
    content = path.read_bytes()
    return {
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }


def _describe_training(checkpoint: Checkpoint) -> dict[str, Any]:
    last = checkpoint.history[-1]
    return {
        **asdict(checkpoint.origin),
        "images": checkpoint.origin.dropped.kept,
        "seed": checkpoint.recipe.seed,
        "epochs": last.epoch,
        "elapsed_s": round(last.elapsed_s),
        "cpu_s": round(last.cpu_s),
    }


def _describe_export(checkpoint: Checkpoint, difference: float) -> dict[str, Any]:
    name = checkpoint.recipe.name
    return {
        "command": (
            f"python -m fer_training.export --checkpoint runs/{name}/checkpoint.pt --fer2013 DIR --out training/release"
        ),
        "finished": utc_now(),
        "hardware": describe_hardware("cpu"),
        "versions": list_versions(["torch", "onnx", "onnxruntime", "numpy"]),
        "largest_difference_from_pytorch": difference,
    }


def main() -> int:
    """The command. Returns its exit code: 2 for what the user can put right, with one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_training.export", description="Turn a checkpoint into a calibrated ONNX file."
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="made by fer_training.train")
    parser.add_argument("--fer2013", type=Path, required=True, metavar="DIR", help="folder with fer2013.csv")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the ONNX file and figures")
    arguments = parser.parse_args()
    try:
        public_test = load_evaluation_data(arguments.fer2013, PUBLIC_TEST)
        path = export(arguments.checkpoint, public_test, arguments.out)
        print(format_figures(evaluate_onnx(path, public_test), PUBLIC_TEST))
    except TrainingRoomError as error:
        print(f"fer_training.export: {error}", file=sys.stderr)
        return 2
    print(f"wrote {path} and {path.with_name(METRICS_NAME)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
