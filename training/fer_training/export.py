"""`fer-train export`: turn a checkpoint into a release, the calibrated ONNX file and its figures.

The temperature is fitted, the file compared with PyTorch and measured on one split, of FER2013 PublicTest unless told
otherwise. The output folder gets `fer_classifier.onnx` and `metrics.json`; neither holds a path of this machine, both
say which recipe they are of. `fer-build quantize` makes half precision and INT8 of the file.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fer_commands.exit_codes import ExitCode
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_contract import FACE_SIZE_PX, LABELS, ONNX_LABELS_KEY, ONNX_UNCERTAIN_BELOW_KEY, ONNX_VERSION_KEY
from fer_training.checkpoint import Checkpoint, Ingredient, load_finished
from fer_training.cost import count_macs, count_parameters, describe_speed
from fer_training.damage import damage_in_turn
from fer_training.errors import CheckpointError, OutputExistsError, ParityError
from fer_training.evaluate import Evaluation, evaluate, evaluate_onnx, format_figures
from fer_training.faces import LabelledFaces
from fer_training.fer2013 import PUBLIC_TEST
from fer_training.metrics import compute_figures
from fer_training.network import Classifier
from fer_training.onnx_classifier import open_onnx, predict_onnx, write_onnx
from fer_training.prediction import build_network, predict_logits, softmax
from fer_training.provenance import describe_hardware, list_versions, utc_now
from fer_training.sources import add_source_options, describe_source, load_for_measuring, parse_options
from fer_training.temperature import fit_temperature

PARITY: Final = 1e-4
"""Largest difference of a probability between PyTorch and ONNX Runtime."""
EXIT_CODES: Final = (ExitCode.OK, ExitCode.USAGE, ExitCode.CHECK_FAILED, ExitCode.INTERRUPTED)
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
    """Make the release out of a finished run.

    Args:
        checkpoint_path: A checkpoint that `train`, `prune` or `soup` wrote.
        validation: The faces to fit the temperature on, to compare with PyTorch, and to measure.
        out_dir: The folder for the ONNX file and `metrics.json`, made if need be. Older ones are replaced.
        usage: What the faces are called in the figures.
        source: The options of the command that load the faces, for the record.

    Returns:
        The path of the ONNX file.

    Raises:
        CheckpointError: The checkpoint is missing, unreadable, or of an unfinished run.
        ParityError: The ONNX file computes something else than the network. No file is left then.
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
        command=f"fer-train export --checkpoint runs/{name}/checkpoint.pt {source} --out training/release --force",
    )
    return write_release(build_network(checkpoint), papers, validation, out_dir, usage=usage)


@dataclass(frozen=True)
class Papers:
    """Origin of a release, as its files state it."""

    version: str
    metadata: dict[str, str]
    """Recipe, commit and data, for the ONNX file's metadata."""
    training: dict[str, Any]
    """How the network was trained, for `metrics.json`."""
    command: str
    """The command that made the release, without a path of this machine."""


def write_release(
    network: Classifier, papers: Papers, validation: LabelledFaces, out_dir: Path, *, usage: str = PUBLIC_TEST
) -> Path:
    """Fit a network's temperature, write and measure its ONNX file, and write `metrics.json` beside it.

    The temperature is fitted on the images and as many damaged copies, one of each: what is served is not all clean.
    The network is on the CPU and without any temperature; the other arguments are those of `export`.

    Raises:
        ParityError: The ONNX file computes something else than the network. No file is left then.
    """
    logits = predict_logits(network, validation.images)
    copies = predict_logits(network, damage_in_turn(validation.images[:, np.newaxis])[:, 0])
    temperature = fit_temperature(np.concatenate([logits, copies]), np.tile(validation.labels, 2))
    calibrated = evaluate(softmax(logits / temperature), validation)
    out_dir.mkdir(parents=True, exist_ok=True)
    path = out_dir / ONNX_NAME
    metadata = _describe_for_onnx(papers, temperature, calibrated, usage)
    difference = _write_checked(network, temperature, metadata, validation.images, path)
    uncalibrated = compute_figures(softmax(logits), validation.labels)
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
        "speed": describe_speed(path),
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


def _write_checked(
    network: Classifier, temperature: float, metadata: dict[str, str], images: npt.NDArray[np.uint8], path: Path
) -> float:
    """Write the ONNX file aside, rename it once it is checked, and return the difference that `check_parity` found."""
    aside = path.with_suffix(".tmp")
    try:
        write_onnx(network, temperature, metadata, aside)
        difference = check_parity(aside, network, temperature, images)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return difference


def check_parity(path: Path, network: Classifier, temperature: float, images: npt.NDArray[np.uint8]) -> float:
    """Compare an ONNX file with the network that it was made from.

    Args:
        path: The ONNX file.
        network: On the CPU.
        temperature: As it was given to `write_onnx`.
        images: uint8, (N, 48, 48), gray, 0..255.

    Returns:
        The largest difference of a probability.

    Raises:
        ParityError: The difference is above 1e-4.
    """
    expected = softmax(predict_logits(network, images) / np.float32(temperature))
    difference = float(np.abs(predict_onnx(open_onnx(path), images) - expected).max())
    if difference > PARITY:
        raise ParityError(
            f"{path}: probabilities differ from PyTorch's by up to {difference:.2g}, more than {PARITY:g}. "
            "Do not use the file; report the versions of torch and onnxruntime."
        )
    return difference


def refuse_to_overwrite(out_dir: Path) -> None:
    """Make sure that a folder holds no release yet: it may be the one that is served.

    Raises:
        OutputExistsError: It does.
    """
    for name in (ONNX_NAME, METRICS_NAME):
        if (out_dir / name).exists():
            raise OutputExistsError(
                f"{out_dir / name} exists already. Give another --out, or --force to replace what is there."
            )


def _describe_for_onnx(papers: Papers, temperature: float, figures: Evaluation, usage: str) -> dict[str, str]:
    """Return the ONNX file's metadata. There is no time in it, so that the same network gives the same bytes.

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
    """Return the recipe's fields; of a soup its name, and those of each run's recipe."""
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


def main(arguments: Sequence[str]) -> int:
    """Run `fer-train export` and return its exit code."""
    parser = subcommand_parser(
        "fer-train export",
        description="Turn a checkpoint into a calibrated ONNX file, with its figures beside it.",
        examples="""\
  fer-train export --checkpoint runs/compact/checkpoint.pt --fer2013 DIR --out runs/compact/release
  fer-train export --checkpoint runs/own/checkpoint.pt --folder DIR --out runs/own/release""",
        exit_codes=EXIT_CODES,
    )
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="FILE", help="checkpoint.pt of a finished run"
    )
    add_source_options(parser, to_measure=True)
    add_release_options(parser)
    options = parse_options(parser, arguments)
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def add_release_options(parser: argparse.ArgumentParser) -> None:
    """Add `--out` and `--force`."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the ONNX file and figures")
    parser.add_argument("--force", action="store_true", help="replace the release that --out holds")


def _run(options: argparse.Namespace) -> None:
    if not options.force:
        refuse_to_overwrite(options.out)
    validation, usage = load_for_measuring(options)
    path = export(options.checkpoint, validation, options.out, usage=usage, source=describe_source(options))
    report_release(path, validation, usage)


def report_release(path: Path, validation: LabelledFaces, usage: str) -> None:
    """Print the figures of a release, and where it is."""
    print(format_figures(evaluate_onnx(path, validation), usage))
    print(f"wrote {path} and {path.with_name(METRICS_NAME)}")
