r"""Averages the weights of several runs into one network, a model soup.

    python -m fer_training.soup runs/polished runs/polished-untaught --fer2013 DIR --out runs/polished-soup

The runs are of one network and started from the same run: those of random starts end too far from one another for a
mean to make sense. Their seeds and recipes may differ, and a mean of different recipes gains more. All of them go in
with the same weight. The batch norms get new statistics of the whole training images. The soup is named after the first
run; `--out` gets a `checkpoint.pt` that `export`, `evaluate`, `compare` and recipes take like any other. `--folder` and
`--ck48` are for other data.

Source: Wortsman et al., Model soups, 2022 (the uniform soup).
"""

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import torch

from fer_training.checkpoint import CHECKPOINT_NAME, Checkpoint, EpochRecord, Ingredient, load_runs
from fer_training.command import run_command
from fer_training.errors import CheckpointError
from fer_training.faces import TrainingData
from fer_training.metrics import negative_log_likelihood
from fer_training.network import Classifier
from fer_training.optimisation import refresh_statistics
from fer_training.prediction import predict_logits, softmax, weights_without_votes
from fer_training.provenance import describe_commit, utc_now
from fer_training.recipe import name_of_soup
from fer_training.sources import add_source_options, check_source_options, describe_source, load_for_training


def average_runs(runs: Mapping[str, Checkpoint], data: TrainingData, command: str = "") -> Checkpoint:
    """Averages finished runs.

    Args:
        runs: two or more by their names; see `checkpoint.load_runs`.
        data: what they were trained on, for the batch norms, and what to measure the average on.
        command: what a user would type to do this, for the record.

    Returns:
        A checkpoint with one record, of all runs' epochs and times together. It cannot be resumed.

    Raises:
        CheckpointError: there are fewer than two, their networks or what they started from differ, they did not start
            from a run, the data is not theirs, or two teachers of one name are different files.
    """
    first = next(iter(runs.values()))
    _check_one_kind(runs, data)
    teachers = _collect_teachers(runs)
    network = Classifier(first.recipe.network, len(first.class_names))
    network.load_state_dict(_mean([weights_without_votes(run) for run in runs.values()]))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    refresh_statistics(network, torch.from_numpy(data.training.images).unsqueeze(1))
    probabilities = softmax(predict_logits(network, data.validation.images))
    labels = data.validation.labels
    ends = [run.history[-1] for run in runs.values()]
    record = EpochRecord(
        epoch=sum(end.epoch for end in ends),
        view_px=ends[0].view_px,
        learning_rate=ends[0].learning_rate,
        train_loss=fmean(end.train_loss for end in ends),
        validation_accuracy=float((probabilities.argmax(axis=1) == labels).mean()),
        validation_nll=negative_log_likelihood(probabilities, labels),
        images_per_s=fmean(end.images_per_s for end in ends),
        elapsed_s=math.fsum(end.elapsed_s for end in ends),
        cpu_s=math.fsum(end.cpu_s for end in ends),
    )
    origin = replace(
        first.origin,
        command=command,
        commit=describe_commit(),
        started=utc_now(),
        teachers=teachers,
        mean_of={name: Ingredient(run.hash_weights(), run.recipe) for name, run in runs.items()},
    )
    weights = network.state_dict()
    return Checkpoint(
        recipe=replace(first.recipe, name=name_of_soup(first.recipe.name)),
        origin=origin,
        class_names=first.class_names,
        history=[record],
        network=weights,
        average=weights,
        optimiser={},
        rng={},
        scaler={},
    )


def _check_one_kind(runs: Mapping[str, Checkpoint], data: TrainingData) -> None:
    first_name, first = next(iter(runs.items()))
    if len(runs) < 2:
        raise CheckpointError(f"{first_name}: one run is its own mean. Give two or more.")
    if not first.origin.starts_from_sha256:
        raise CheckpointError(
            f"{first_name}: it started from random weights. Only runs that started from the same run can be averaged."
        )
    if first.origin.data_sha256 != data.training.sha256() or first.class_names != data.training.class_names:
        raise CheckpointError(f"{first_name}: it was trained on other images than are given. Give its own.")
    for name, run in runs.items():
        if replace(run.recipe.network, dropout=0) != replace(first.recipe.network, dropout=0):
            raise CheckpointError(f"{name}: its network is not {first_name}'s. Only runs of one network have a mean.")
        if run.origin.starts_from_sha256 != first.origin.starts_from_sha256:
            raise CheckpointError(
                f"{name}: it started from other weights than {first_name}. Train both from the same run."
            )
        if run.origin.data_sha256 != first.origin.data_sha256:
            raise CheckpointError(f"{name}: it was trained on other images than {first_name}.")


def _collect_teachers(runs: Mapping[str, Checkpoint]) -> dict[str, str]:
    """All runs' teachers, see `Origin.teachers`."""
    teachers: dict[str, str] = {}
    for name, run in runs.items():
        for teacher, sha256 in run.origin.teachers.items():
            if teachers.setdefault(teacher, sha256) != sha256:
                raise CheckpointError(f"{name}: its teacher {teacher} is another than that of a run before it.")
    return teachers


def _mean(weights: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean of each tensor; of the batch norms' counters, which are no weights, the first."""
    return {
        name: torch.stack([one[name] for one in weights]).mean(dim=0) if tensor.is_floating_point() else tensor
        for name, tensor in weights[0].items()
    }


def main() -> int:
    """The command. Returns its exit code, see `command.run_command`."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_training.soup", description="Average the weights of several runs into one network."
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a folder made by fer_training.train")
    add_source_options(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the checkpoint")
    arguments = parser.parse_args()
    check_source_options(parser, arguments)
    return run_command("fer_training.soup", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    path = arguments.out / CHECKPOINT_NAME
    if path.exists():
        raise CheckpointError(f"{path} exists already. Give another --out.")
    runs = load_runs(arguments.runs)
    recipe = next(iter(runs.values())).recipe
    names = " ".join(f"runs/{name}" for name in runs)
    command = f"python -m fer_training.soup {names} {describe_source(arguments)} --out runs/{name_of_soup(recipe.name)}"
    arguments.out.mkdir(parents=True, exist_ok=True)  # What can fail is tried before the data is read.
    soup = average_runs(runs, load_for_training(arguments, recipe), command)
    soup.save(path)
    for name, run in {**runs, soup.recipe.name: soup}.items():
        end = run.history[-1]
        print(f"{name}: accuracy {end.validation_accuracy:.2%}, NLL {end.validation_nll:.4f}, not calibrated")
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
