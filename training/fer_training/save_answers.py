"""Keeps what a finished run answers to the training images, so that students learn from it where it is not at hand.

    python -m fer_training.save_answers --checkpoint runs/teacher/checkpoint.pt --fer2013 DIR --out runs/teacher.npz

A recipe names the file among its teachers (`teachers = ["teacher.npz"]`, `views = "plain"`): a teacher that needs a GPU
answers there once, and the student is trained on two CPU cores. `--folder` and `--ck48` are for other data.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from fer_training.checkpoint import load_finished
from fer_training.command import run_command
from fer_training.kept_answers import KeptAnswers
from fer_training.optimisation import require_device
from fer_training.prediction import build_network, predict_logits
from fer_training.recipe import ANSWERS_SUFFIX
from fer_training.sources import add_source_options, check_source_options, load_for_training


def main() -> int:
    """The command. Returns its exit code, see `command.run_command`."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_training.save_answers", description="Keep a run's answers for students to learn from."
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint.pt of a finished run")
    add_source_options(parser)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .npz file to write")
    arguments = parser.parse_args()
    check_source_options(parser, arguments)
    if arguments.out.suffix != ANSWERS_SUFFIX:
        parser.error(f"--out must end with {ANSWERS_SUFFIX}, by which a recipe tells it from a run.")
    return run_command("fer_training.save_answers", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    device = torch.device(arguments.device)
    require_device(device)
    checkpoint = load_finished(arguments.checkpoint)
    faces = load_for_training(arguments, checkpoint.recipe).training
    network = build_network(checkpoint).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    views = (faces.images, np.ascontiguousarray(faces.images[:, :, ::-1]))
    answers = KeptAnswers(
        logits=np.stack([predict_logits(network, view) for view in views]),
        class_names=checkpoint.class_names,
        data_sha256=faces.sha256(),
    )
    answers.save(arguments.out)
    print(f"wrote {arguments.out}: {checkpoint.recipe.name}'s answers to {len(faces)} images and their mirror images")


if __name__ == "__main__":
    sys.exit(main())
