"""`fer-train run`: train a classifier by a recipe.

The output folder, unless told otherwise `runs/<recipe>`, gets `checkpoint.pt` and `log.csv`, renewed after each epoch,
and `curves.png`, every 20 s. A run that was interrupted goes on with `--resume`, to the same weights as if it had not
been (on the same machine and versions).
"""

import argparse
import contextlib
import csv
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import torch
from tqdm import tqdm

from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_training.checkpoint import CHECKPOINT_NAME, Checkpoint, EpochRecord, Origin, load_checkpoint, load_finished
from fer_training.distillation import Teachers, load_teachers
from fer_training.dlib_weights import load_dlib_weights, start_from_dlib
from fer_training.errors import CheckpointError, MatplotlibMissingError, OutputExistsError, RecipeError
from fer_training.faces import LabelledFaces, TrainingData
from fer_training.network import Classifier
from fer_training.optimisation import add_device_option, choose_autocast_type
from fer_training.plots import plot_curves
from fer_training.prediction import weights_without_votes
from fer_training.provenance import describe_commit, describe_hardware, list_versions, utc_now, with_fold, with_seed
from fer_training.recipe import CONVERTED_SUFFIX, NetworkRecipe, Recipe, load_recipe, recipe_from_table
from fer_training.sources import add_source_options, describe_source, load_for_training, parse_options
from fer_training.training_run import TrainingRun, Watch

LOG_NAME: Final = "log.csv"
CURVES_NAME: Final = "curves.png"
RUNS_DIR: Final = Path("runs")
HOW_TO_RESUME: Final = "interrupted. The same command with --resume goes on after the last complete epoch"
PLOT_EVERY_S: Final = 20.0
"""Drawing takes longer than an epoch of a small network on a GPU."""


def train(
    recipe: Recipe,
    data: TrainingData,
    out_dir: Path,
    *,
    device: torch.device,
    precision: str = "auto",
    resume: bool = False,
    runs_dir: Path = RUNS_DIR,
    initial_weights: Mapping[str, torch.Tensor] | None = None,
    compiled: bool = False,
    command: str = "",
    watch: Watch | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> Path:
    """Train to the recipe's last epoch, with a checkpoint after each, and return the checkpoint's path.

    Args:
        recipe: The recipe to train by.
        data: The images, already on this machine.
        out_dir: Folder for `checkpoint.pt`, `log.csv` and `curves.png`, made if need be.
        device: The device to train on.
        precision: `auto`, `fp32`, `bf16` or `fp16`; see `optimisation.choose_autocast_type`.
        resume: Go on from the checkpoint in `out_dir`, which must be of the same recipe, data and teachers.
        runs_dir: Folder with the recipe's teachers, runs and files, and the run that it starts from.
        initial_weights: Weights to start from instead of random ones, where the recipe names none.
        compiled: Whether PyTorch compiles the network.
        command: The command line that does this, for the record.
        watch: Passes each epoch's batches through.
        on_epoch: Called after each epoch's checkpoint is written.

    Raises:
        OutputExistsError: `out_dir` holds a checkpoint, and `resume` is false.
        CheckpointError: The checkpoint to resume, a teacher's, or that of the run to start from is missing or unfit.
        DataError: There are fewer images than one batch, or no votes where the recipe needs them.
        RecipeError: The recipe does not fit the data or the device, or the loss is no number any more.
    """
    path = out_dir / CHECKPOINT_NAME
    if path.exists() and not resume:
        raise OutputExistsError(f"{path} exists already. Add --resume to go on with it, or give another --out.")
    if not resume:
        out_dir.mkdir(parents=True, exist_ok=True)  # What can fail is tried before the teachers have answered.
    autocast_type = choose_autocast_type(precision, device)
    teachers, teacher_hashes = _bring_teachers(recipe, runs_dir, data.training, device)
    start, start_hash = _load_start(recipe, data.training, runs_dir, resume=resume)
    weights = initial_weights if start is None else start
    run = TrainingRun(
        recipe, data, device, autocast_type, teachers=teachers, initial_weights=weights, compiled=compiled
    )
    origin = _describe_origin(data, device, autocast_type, teacher_hashes, start_hash, command)
    if resume:
        checkpoint = _load_own_checkpoint(path, recipe, device, origin)
        origin = checkpoint.origin
        run.restore(checkpoint)
    _train_epochs(run, origin, out_dir, watch, on_epoch)
    return path


def _train_epochs(
    run: TrainingRun,
    origin: Origin,
    out_dir: Path,
    watch: Watch | None,
    on_epoch: Callable[[EpochRecord], None] | None,
) -> None:
    """Train the epochs that are left, and write checkpoint, log and curves as they pass."""
    plotted = -math.inf
    while not run.finished:
        record = run.train_epoch(watch)
        if not math.isfinite(record.train_loss + record.validation_nll):
            raise RecipeError(
                f"{run.recipe.name}: the loss of epoch {record.epoch} is {record.train_loss}, the validation images' "
                f"NLL {record.validation_nll}. Lower optimisation.learning_rate, or give a gradient_clip. What was "
                "written after the epoch before stays."
            )
        run.to_checkpoint(origin).save(out_dir / CHECKPOINT_NAME)
        _write_log(out_dir / LOG_NAME, run.history)
        if run.finished or time.monotonic() - plotted > PLOT_EVERY_S:
            with contextlib.suppress(MatplotlibMissingError):
                plot_curves(out_dir / CURVES_NAME, run.history, run.recipe.name)
            plotted = time.monotonic()
        if on_epoch:
            on_epoch(record)


def _bring_teachers(
    recipe: Recipe, runs_dir: Path, faces: LabelledFaces, device: torch.device
) -> tuple[Teachers | None, dict[str, str]]:
    """Return the recipe's teachers, None where it has none, and their SHA-256 by name."""
    if recipe.distillation is None:
        return None, {}
    loaded = load_teachers(recipe, runs_dir, faces)
    teachers = Teachers([teacher.answerer for teacher in loaded], recipe.distillation, device)
    return teachers, {teacher.name: teacher.sha256 for teacher in loaded}


def _describe_origin(
    data: TrainingData,
    device: torch.device,
    autocast_type: torch.dtype,
    teachers: dict[str, str],
    starts_from_sha256: str,
    command: str,
) -> Origin:
    return Origin(
        command=command,
        commit=describe_commit(),
        started=utc_now(),
        hardware=describe_hardware(device.type),
        precision=str(autocast_type).removeprefix("torch."),
        versions=list_versions(["torch", "numpy"]),
        data_sha256=data.training.sha256(),
        dropped=data.dropped,
        teachers=teachers,
        starts_from_sha256=starts_from_sha256,
    )


def _load_start(
    recipe: Recipe, faces: LabelledFaces, runs_dir: Path, *, resume: bool
) -> tuple[Mapping[str, torch.Tensor] | None, str]:
    """Return the weights that the recipe names to start from, None where it names none, and their SHA-256."""
    if recipe.starts_from.endswith(CONVERTED_SUFFIX):
        converted = load_dlib_weights(runs_dir / recipe.starts_from)
        torch.manual_seed(recipe.seed)  # for what of the backbone is not dlib's
        network = Classifier(recipe.network, len(faces.class_names))
        if not resume:  # The checkpoint has what has become of them, and it takes a look at all images.
            start_from_dlib(network, converted, faces.images)
        backbone = {name: weight for name, weight in network.state_dict().items() if name.startswith("backbone.")}
        return backbone, converted.sha256()
    if recipe.starts_from:
        parent = load_parent(runs_dir / recipe.starts_from / CHECKPOINT_NAME, recipe.network, faces.class_names)
        weights = parent.average if recipe.loss.votes_auxiliary else weights_without_votes(parent)
        return weights, parent.hash_weights()
    return None, ""


def load_parent(path: Path, network: NetworkRecipe, class_names: tuple[str, ...]) -> Checkpoint:
    """Load the finished run that another one starts from.

    Raises:
        CheckpointError: It is missing, unfinished, of other classes, or of another network, apart from the dropout and
            from evening out the faces.
    """
    checkpoint = load_finished(path, class_names)
    if not network.can_start_from(checkpoint.recipe.network):
        raise CheckpointError(f"{path}: its network is not the recipe's. Give the recipe the same [network] sections.")
    return checkpoint


def _load_own_checkpoint(path: Path, recipe: Recipe, device: torch.device, now: Origin) -> Checkpoint:
    """Load the checkpoint to go on from, and refuse one of another recipe, data, precision or teachers."""
    checkpoint = load_checkpoint(path)
    if not checkpoint.rng:
        kind = "a mean of runs" if checkpoint.origin.mean_of else "the weights of a run alone"
        raise CheckpointError(f"{path} is {kind}: name it as a recipe's starts_from, or give another --out.")
    if checkpoint.recipe != recipe:
        raise CheckpointError(f"{path} is of another recipe than --recipe names. Give its own, or another --out.")
    if checkpoint.origin.data_sha256 != now.data_sha256:
        raise CheckpointError(f"{path} is of other images than are given. Give its own, or another --out.")
    if ("cuda" in checkpoint.rng) != (device.type == "cuda"):
        raise CheckpointError(f"{path} was trained on another kind of device. Give its --device, or another --out.")
    if checkpoint.origin.precision != now.precision:
        raise CheckpointError(f"{path} was trained in {checkpoint.origin.precision}, not {now.precision}.")
    if checkpoint.origin.teachers != now.teachers:
        raise CheckpointError(f"{path} learned from other teachers' weights. Bring those back, or give another --out.")
    if checkpoint.origin.starts_from_sha256 != now.starts_from_sha256:
        raise CheckpointError(f"{path} started from other weights. Bring those back, or give another --out.")
    return checkpoint


def _write_log(path: Path, history: list[EpochRecord]) -> None:
    """Write the whole history anew: after a resume, the log has each epoch once."""
    aside = path.with_suffix(".tmp")
    with aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(history[0])))
        writer.writeheader()
        writer.writerows({name: _format_number(value) for name, value in asdict(record).items()} for record in history)
    aside.replace(path)


def _format_number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def format_progress(record: EpochRecord, epochs: int) -> str:
    """Format one line on an epoch, with the time left at the pace so far."""
    left_s = record.elapsed_s / record.epoch * (epochs - record.epoch)
    return (
        f"epoch {record.epoch:>{len(str(epochs))}}/{epochs}  {record.view_px} px  loss {record.train_loss:.4f}  "
        f"accuracy {record.validation_accuracy:.2%}  NLL {record.validation_nll:.4f}  "
        f"{record.images_per_s:.0f} images/s  {_format_time(record.elapsed_s)} gone, {_format_time(left_s)} to go"
    )


def _format_time(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def watch_progress(batches: Iterable[torch.Tensor]) -> Iterable[torch.Tensor]:
    """Show a progress bar on stderr while an epoch's batches pass, where stderr is a terminal."""
    count = len(batches) if isinstance(batches, torch.Tensor) else None
    return tqdm(batches, total=count, unit="batch", leave=False, disable=None)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where and how a run is trained, not what."""
    parser.add_argument("--out", type=Path, help="folder for checkpoint, log and curves (default: RUNS/<recipe>)")
    parser.add_argument(
        "--runs",
        type=Path,
        default=RUNS_DIR,
        help="folder with the other runs and the teachers' files that this run needs (default: %(default)s)",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    add_device_option(parser)
    parser.add_argument(
        "--precision",
        choices=["auto", "fp32", "bf16", "fp16"],
        default="auto",
        help="auto is bf16 where the hardware has it",
    )
    parser.add_argument("--compile", action="store_true", help="let PyTorch compile the network")


def train_by_options(
    arguments: argparse.Namespace,
    recipe: Recipe,
    data: TrainingData,
    command: str,
    initial_weights: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Call `train` with the options of `add_run_options`, and print its progress. Raises as `train`."""
    path = train(
        recipe,
        data,
        arguments.out or arguments.runs / recipe.name,
        device=torch.device(arguments.device),
        precision=arguments.precision,
        resume=arguments.resume,
        runs_dir=arguments.runs,
        initial_weights=initial_weights,
        compiled=arguments.compile,
        command=command,
        watch=watch_progress,
        on_epoch=lambda record: print(format_progress(record, recipe.optimisation.epochs), flush=True),
    )
    print(f"wrote {path}")


def main(arguments: Sequence[str]) -> int:
    """Run `fer-train run` and return its exit code."""
    parser = subcommand_parser(
        "fer-train run",
        description="Train a classifier by a recipe.",
        examples="""\
  fer-train run --recipe training/recipes/compact.toml --fer2013 DIR
  fer-train run --recipe training/recipes/compact.toml --fer2013 DIR --resume
  fer-train run --recipe training/recipes/own.toml --folder DIR    one folder of faces per class""",
    )
    parser.add_argument("--recipe", type=Path, required=True, metavar="FILE", help="a file of training/recipes")
    add_source_options(parser)
    add_run_options(parser)
    parser.add_argument("--seed", type=int, help="instead of the recipe's; the run is named <recipe>-seed<N>")
    options = parse_options(parser, arguments)
    return run_command(parser.prog, lambda: _run(options), debug=options.debug, when_interrupted=HOW_TO_RESUME)


def _run(options: argparse.Namespace) -> None:
    recipe = load_recipe(options.recipe)
    # For the record, as it is typed at the repository's root: local paths are replaced by DIR.
    command = f"fer-train run --recipe training/recipes/{recipe.name}.toml {describe_source(options)}"
    if options.seed is not None:
        command += f" --seed {options.seed}"
        table = {**asdict(recipe), "name": with_seed(recipe.name, options.seed), "seed": options.seed}
        recipe = recipe_from_table(table, "--seed")
    if options.ck48:
        recipe = replace(recipe, name=with_fold(recipe.name, options.fold))
    data = load_for_training(options, recipe)
    print(f"{data.dropped}; {len(data.validation)} validation images", flush=True)
    train_by_options(options, recipe, data, command)
