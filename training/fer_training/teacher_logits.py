"""A teacher's logits for the images that its students train on, in a file. `fer-train save-logits` writes it.

A recipe names the file among its teachers (`teachers = ["teacher.npz"]`, `views = "plain"`): a teacher that needs a GPU
answers there once, and the student is trained on two CPU cores.
"""

import argparse
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_training.checkpoint import load_finished
from fer_training.errors import CheckpointError
from fer_training.optimisation import add_device_option, require_device
from fer_training.prediction import build_network, predict_logits
from fer_training.recipe import LOGITS_SUFFIX
from fer_training.sources import add_source_options, load_for_training, parse_options

UNREADABLE: Final = (ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)
"""What NumPy raises, besides an OSError or EOFError, for a file that is no .npz, broken, or of something else."""


@dataclass(frozen=True)
class TeacherLogits:
    """What one teacher answers to all training images, before any temperature."""

    logits: npt.NDArray[np.float32]
    """float32, (2, N, C): of each whole image in the order of the training data, and of its mirror image."""
    class_names: tuple[str, ...]
    data_sha256: str
    """Hash of the training data, labels and votes included; see `LabelledFaces.sha256`."""

    def save(self, path: Path) -> None:
        """Write the file, with the logits in half precision; its folder is made if need be."""
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".tmp.npz")
        np.savez_compressed(
            aside,
            LOGITS=self.logits.astype(np.float16),
            CLASSES=np.array(self.class_names),
            DATA_SHA256=np.array(self.data_sha256),
        )
        aside.replace(path)


def load_teacher_logits(path: Path) -> TeacherLogits:
    """Read what `TeacherLogits.save` wrote.

    Raises:
        CheckpointError: The file is missing, or is no such file.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            kept = TeacherLogits(
                logits=arrays["LOGITS"].astype(np.float32),
                class_names=tuple(str(name) for name in arrays["CLASSES"]),
                data_sha256=str(arrays["DATA_SHA256"]),
            )
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is not there. Write it with fer-train save-logits.") from error
    except (OSError, EOFError, *UNREADABLE) as error:
        raise CheckpointError(f"{path}: is no file of fer-train save-logits: {error}") from error
    shape = kept.logits.shape
    if len(shape) != 3 or shape[0] != 2 or shape[2] != len(kept.class_names):
        raise CheckpointError(f"{path}: is no file of fer-train save-logits: the shape of its logits is {shape}.")
    return kept


def main(arguments: Sequence[str]) -> int:
    """Run `fer-train save-logits` and return its exit code."""
    parser = subcommand_parser(
        "fer-train save-logits",
        description="Keep what a run answers to the training images, for students to learn from.",
        examples="  fer-train save-logits --checkpoint runs/teacher/checkpoint.pt --fer2013 DIR --out runs/teacher.npz",
    )
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="FILE", help="checkpoint.pt of a finished run"
    )
    add_source_options(parser)
    add_device_option(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .npz file to write")
    options = parse_options(parser, arguments)
    if options.out.suffix != LOGITS_SUFFIX:
        parser.error(f"--out must end in {LOGITS_SUFFIX}, by which a recipe tells it from a run, but is {options.out}.")
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    device = torch.device(options.device)
    require_device(device)
    checkpoint = load_finished(options.checkpoint)
    faces = load_for_training(options, checkpoint.recipe).training
    network = build_network(checkpoint).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    views = (faces.images, np.ascontiguousarray(faces.images[:, :, ::-1]))
    logits = np.stack([predict_logits(network, view) for view in views])
    TeacherLogits(logits, checkpoint.class_names, faces.sha256()).save(options.out)
    print(f"wrote {options.out}: {checkpoint.recipe.name}'s logits for {len(faces)} images and their mirror images")
