"""`fer-train soup`: average the weights of several runs into one network, a model soup.

The runs are of one network and started from the same run: those of random starts end too far from one another for a
mean to make sense. Their seeds and recipes may differ, but all learn from the same images, with FER+ votes or without.
All go in with the same weight. The batch norms get new statistics of the whole training images. The soup is named after
the first run's recipe. `export`, `evaluate`, `compare` and recipes take its checkpoint like any other.

Source: Wortsman et al., Model soups, 2022 (the uniform soup).
"""

import argparse
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import torch

from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_training.checkpoint import CHECKPOINT_NAME, Checkpoint, EpochRecord, Ingredient, Origin, load_runs
from fer_training.errors import CheckpointError, OutputExistsError
from fer_training.faces import VOTES, TrainingData
from fer_training.network import Classifier
from fer_training.optimisation import refresh_statistics
from fer_training.prediction import accuracy_and_nll
from fer_training.provenance import describe_commit, describe_hardware, list_versions, soup_of, utc_now
from fer_training.sources import add_source_options, describe_source, load_for_training, parse_options


def check_runs(runs: Mapping[str, Checkpoint]) -> None:
    """Make sure that the mean of the runs' weights is a network.

    Raises:
        CheckpointError: There are fewer than two, or two with the same weights; or one is a mean itself; or they did
            not start from the same run, or differ in network, images or classes.
    """
    if len(runs) < 2:
        raise CheckpointError(f"{', '.join(runs) or 'No run'}: a mean is of two runs or more. Give more.")
    first_name, first = next(iter(runs.items()))
    seen: dict[str, str] = {}
    for name, run in runs.items():
        if run.origin.mean_of:
            raise CheckpointError(f"{name}: it is a mean of runs itself. Give those: {', '.join(run.origin.mean_of)}.")
        if not run.origin.starts_from_sha256:
            raise CheckpointError(
                f"{name}: its checkpoint names no run that it started from. Give runs whose recipe has a starts_from."
            )
        if run.origin.starts_from_sha256 != first.origin.starts_from_sha256:
            raise CheckpointError(f"{name}: it started from another run than {first_name}. Give runs of one start.")
        if not run.recipe.network.has_weights_of(first.recipe.network) or run.class_names != first.class_names:
            raise CheckpointError(f"{name}: its network is not {first_name}'s. Give runs of one network.")
        if run.origin.data_sha256 != first.origin.data_sha256:
            raise CheckpointError(
                f"{name}: it was trained on other images, labels or votes than {first_name}. Give runs of the same."
            )
        twin = seen.setdefault(run.hash_weights(), name)
        if twin != name:
            raise CheckpointError(f"{name}: its weights are {twin}'s. Give each run once.")


def average_runs(runs: Mapping[str, Checkpoint], data: TrainingData, command: str = "") -> Checkpoint:
    """Average the weights of finished runs.

    Returns:
        A checkpoint that cannot be resumed.

    Raises:
        CheckpointError: See `check_runs`; or the data is not the runs'.
    """
    check_runs(runs)
    first_name, first = next(iter(runs.items()))
    if first.origin.data_sha256 != data.training.sha256() or first.class_names != data.training.class_names:
        raise CheckpointError(
            f"{first_name}: it was trained on other images, labels or votes than are given. Give its own."
        )
    weights = _mean([run.average for run in runs.values()])
    votes = len(VOTES) if any(name.startswith("votes_head.") for name in weights) else 0
    network = Classifier(first.recipe.network, len(first.class_names), votes)
    network.load_state_dict(weights)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    refresh_statistics(network, torch.from_numpy(data.training.images).unsqueeze(1))
    weights = network.state_dict()
    return Checkpoint(
        recipe=replace(first.recipe, name=soup_of(first.recipe.name)),
        origin=_describe_origin(runs, command),
        class_names=first.class_names,
        history=[_sum_up([run.history[-1] for run in runs.values()], *accuracy_and_nll(network, data.validation))],
        network=weights,
        average=weights,
        optimiser={},
        rng={},
        scaler={},
    )


def _mean(weights: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Average each tensor that all runs have; a head for FER+ votes may be missing. Counters are the first run's."""
    return {
        name: torch.stack([one[name] for one in weights]).mean(dim=0) if tensor.is_floating_point() else tensor
        for name, tensor in weights[0].items()
        if all(name in one for one in weights)
    }


def _describe_origin(runs: Mapping[str, Checkpoint], command: str) -> Origin:
    """Describe where the mean was made; each of its runs has an origin of its own."""
    first = next(iter(runs.values())).origin
    return Origin(
        command=command,
        commit=describe_commit(),
        started=utc_now(),
        hardware=describe_hardware("cpu"),
        precision="float32",
        versions=list_versions(["torch", "numpy"]),
        data_sha256=first.data_sha256,
        dropped=first.dropped,
        starts_from_sha256=first.starts_from_sha256,
        mean_of={name: Ingredient(run.hash_weights(), run.recipe, run.origin) for name, run in runs.items()},
    )


def _sum_up(ends: list[EpochRecord], accuracy: float, nll: float) -> EpochRecord:
    """Sum up what all runs did together in one record."""
    return EpochRecord(
        epoch=sum(end.epoch for end in ends),
        view_px=ends[0].view_px,
        learning_rate=ends[0].learning_rate,
        train_loss=fmean(end.train_loss for end in ends),
        validation_accuracy=accuracy,
        validation_nll=nll,
        images_per_s=fmean(end.images_per_s for end in ends),
        elapsed_s=math.fsum(end.elapsed_s for end in ends),
        cpu_s=math.fsum(end.cpu_s for end in ends),
    )


def main(arguments: Sequence[str]) -> int:
    """Run `fer-train soup` and return its exit code."""
    parser = subcommand_parser(
        "fer-train soup",
        description="Average the weights of several runs into one network.",
        examples="  fer-train soup runs/polished runs/polished-untaught --fer2013 DIR --out runs/polished-soup",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a finished run")
    add_source_options(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the checkpoint")
    options = parse_options(parser, arguments)
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    path = options.out / CHECKPOINT_NAME
    if path.exists():
        raise OutputExistsError(f"{path} exists already. Give another --out.")
    runs = load_runs(options.runs)
    check_runs(runs)
    options.out.mkdir(parents=True, exist_ok=True)  # What can fail is tried before the data is read.
    recipe = next(iter(runs.values())).recipe
    folders = shlex.join(f"runs/{name}" for name in runs)
    command = f"fer-train soup {folders} {describe_source(options)} --out runs/{soup_of(recipe.name)}"
    soup = average_runs(runs, load_for_training(options, recipe), command)
    soup.save(path)
    for name, checkpoint in [*runs.items(), (f"mean, {soup.recipe.name}", soup)]:
        end = checkpoint.history[-1]
        print(f"{name}: accuracy {end.validation_accuracy:.2%}, NLL {end.validation_nll:.4f}, not calibrated")
    print(f"wrote {path}")
