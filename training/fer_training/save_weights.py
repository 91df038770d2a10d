"""Keeps a finished run's averaged weights and its history, without what only its own training needed.

    python -m fer_training.save_weights --checkpoint runs/face-start/checkpoint.pt --out training/kept/face-start.pt

The file is a checkpoint of a third of the size. As `runs/<recipe>/checkpoint.pt` it is the run again for whatever works
with a trained network, for recipes that start from it or learn from it among them; it can't be resumed.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from fer_training.checkpoint import Checkpoint, load_finished
from fer_training.command import run_command
from fer_training.errors import CheckpointError


def without_training_state(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with its averaged weights alone."""
    return replace(checkpoint, network=checkpoint.average, optimiser={}, rng={}, scaler={})


def main() -> int:
    """The command. Returns its exit code, see `command.run_command`."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_training.save_weights", description="Keep a run's averaged weights and its history."
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="of a finished run")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="checkpoint to write, with .pt at the end"
    )
    arguments = parser.parse_args()
    if arguments.out.suffix != ".pt":
        parser.error(f"--out must end in .pt, but is {arguments.out}.")
    return run_command("fer_training.save_weights", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    if arguments.out.exists():
        raise CheckpointError(f"{arguments.out} exists already. Give another --out.")
    checkpoint = load_finished(arguments.checkpoint)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    without_training_state(checkpoint).save(arguments.out)
    print(f"wrote {arguments.out}: {checkpoint.recipe.name}, weights of SHA-256 {checkpoint.hash_weights()}")


if __name__ == "__main__":
    sys.exit(main())
