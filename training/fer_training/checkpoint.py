"""Checkpoints: the whole state of a training run after an epoch, the mean of several runs, or weights alone.

Written by `train`, `prune` and `soup`, read by whatever works with a trained network. `fer-train save-weights` keeps a
run's averaged weights and its history in a third of the size. As `runs/<recipe>/checkpoint.pt` that file is the run
again for all commands and for recipes that start from it or learn from it; it cannot be resumed.
"""

import argparse
import hashlib
import os
import pickle
import struct
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch

from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_training.errors import CheckpointError, OutputExistsError, RecipeError
from fer_training.faces import DropReport
from fer_training.recipe import Recipe, recipe_from_table

UNREADABLE: Final = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    struct.error,
)
"""Errors of PyTorch, besides an OSError, for bytes that are no checkpoint, and of this module for other content."""

CHECKPOINT_NAME: Final = "checkpoint.pt"
"""Name of the checkpoint in a run's folder."""


@dataclass(frozen=True)
class EpochRecord:
    """Figures of one epoch, a line of `log.csv`. A soup has one record, which sums up its runs' epochs and times."""

    epoch: int
    """Counted from 1."""
    view_px: int
    learning_rate: float
    """Learning rate of the epoch's first step."""
    train_loss: float
    validation_accuracy: float
    """Accuracy of the averaged weights on PublicTest, or whatever the run is watched on, 0..1."""
    validation_nll: float
    images_per_s: float
    """Training images per second, without the evaluation."""
    elapsed_s: float
    """Wall time of training and evaluation since the first epoch, all sittings together."""
    cpu_s: float
    """CPU time of the same, summed over threads: what the run cost, also where other work took a part of the cores."""


@dataclass(frozen=True)
class Origin:
    """Origin of a run, written at its start, or of a mean of runs."""

    command: str
    commit: str
    started: str
    hardware: str
    precision: str
    versions: dict[str, str]
    data_sha256: str
    """Hash of the images and labels trained on; see `LabelledFaces.sha256`."""
    dropped: DropReport
    teachers: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each teacher by its name in the recipe; see `distillation.Teacher`."""
    starts_from_sha256: str = ""
    """Hash of the averaged weights of the run that the recipe starts from, if it names one."""
    mean_of: dict[str, "Ingredient"] = field(default_factory=dict)
    """The runs that a soup is the mean of, by their names; see `soup`."""


@dataclass(frozen=True)
class Ingredient:
    """One run of a soup."""

    weights_sha256: str
    """See `Checkpoint.hash_weights`."""
    recipe: Recipe
    origin: Origin


@dataclass(frozen=True)
class Checkpoint:
    """Everything that is needed to resume a run, or to export its averaged network.

    A soup, and what `fer-train save-weights` kept, cannot be resumed: they have no state of an optimiser or of random
    generators.
    """

    recipe: Recipe
    """The run's recipe; for a soup the first run's, but for the name."""
    origin: Origin
    class_names: tuple[str, ...]
    history: list[EpochRecord]
    network: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    """Weights of the moving average, which is what gets evaluated and exported."""
    optimiser: dict[str, Any]
    rng: dict[str, torch.Tensor]
    """States of PyTorch's global generators by device type."""
    scaler: dict[str, Any]
    """State of the gradients' scale, which only float16 needs; empty otherwise."""

    def hash_weights(self) -> str:
        """Return the SHA-256 of the averaged weights, in the order of their names."""
        digest = hashlib.sha256()
        for name in sorted(self.average):
            digest.update(self.average[name].cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the file aside and rename it, so that a kill at any moment leaves the old one or the new one."""
        table = {**vars(self), "recipe": asdict(self.recipe), "origin": asdict(self.origin)}
        table["history"] = [asdict(record) for record in self.history]
        aside = path.with_suffix(".tmp")
        with aside.open("wb") as file:
            torch.save(table, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        CheckpointError: The file is missing, or is not a checkpoint of this version of the room.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of other bytes PyTorch would say more than the line below.
            # Tensors and plain values only: a checkpoint from a stranger cannot run code.
            table = torch.load(path, map_location="cpu", weights_only=True)
        table["class_names"] = tuple(table["class_names"])
        table["recipe"] = recipe_from_table(table["recipe"], str(path))
        table["origin"] = _build_origin(table["origin"], str(path))
        table["history"] = [EpochRecord(**record) for record in table["history"]]
        return Checkpoint(**table)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror}). Give a checkpoint.pt of fer-train run."
        ) from error
    except (*UNREADABLE, RecipeError) as error:
        raise CheckpointError(f"{path}: is not a checkpoint of this version of fer-train: {error}") from error


def _build_origin(table: dict[str, Any], path: str) -> Origin:
    mean_of = {
        name: Ingredient(
            one["weights_sha256"], recipe_from_table(one["recipe"], path), _build_origin(one["origin"], path)
        )
        for name, one in table.get("mean_of", {}).items()
    }
    return Origin(**{**table, "dropped": DropReport(**table["dropped"]), "mean_of": mean_of})


def load_finished(path: Path, class_names: tuple[str, ...] | None = None) -> Checkpoint:
    """Read the checkpoint of a finished run.

    Raises:
        CheckpointError: It is missing, no checkpoint, unfinished, or of other classes than `class_names`, if given.
    """
    checkpoint = load_checkpoint(path)
    done, epochs = len(checkpoint.history), checkpoint.recipe.optimisation.epochs
    if done < epochs and not checkpoint.origin.mean_of:
        raise CheckpointError(f"{path}: epoch {done} of {epochs}. Finish it with fer-train run --resume.")
    if class_names is not None and checkpoint.class_names != class_names:
        raise CheckpointError(f"{path}: its classes are {', '.join(checkpoint.class_names)}, not the data's.")
    return checkpoint


def load_runs(folders: Sequence[Path]) -> dict[str, Checkpoint]:
    """Load finished runs, by the names of their folders.

    Raises:
        CheckpointError: One is missing or unfinished, or two folders have the same name.
    """
    runs: dict[str, Checkpoint] = {}
    for folder in folders:
        name = folder.resolve().name
        if name in runs:
            raise CheckpointError(f"{folder}: a run before it is called {name} too. Give each run once, or rename one.")
        runs[name] = load_finished(folder / CHECKPOINT_NAME)
    return runs


def without_training_state(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with its averaged weights alone."""
    return replace(checkpoint, network=checkpoint.average, optimiser={}, rng={}, scaler={})


def main(arguments: Sequence[str]) -> int:
    """Run `fer-train save-weights` and return its exit code."""
    parser = subcommand_parser(
        "fer-train save-weights",
        description="Keep a run's averaged weights and its history, without what only resuming needs.",
        examples="  fer-train save-weights --checkpoint runs/face-start/checkpoint.pt --out kept/face-start.pt",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="of a finished run")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write, with .pt at the end")
    options = parser.parse_args(arguments)
    if options.out.suffix != ".pt":
        parser.error(f"--out must end in .pt, but is {options.out}.")
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    if options.out.exists():
        raise OutputExistsError(f"{options.out} exists already. Give another --out.")
    checkpoint = load_finished(options.checkpoint)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    without_training_state(checkpoint).save(options.out)
    print(f"wrote {options.out}: {checkpoint.recipe.name}, weights of SHA-256 {checkpoint.hash_weights()}")
