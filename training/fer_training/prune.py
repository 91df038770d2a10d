"""`fer-train prune`: take away a trained network's least important channels, and train the rest on.

The recipe's network must be the checkpoint's, of backbone `repconv`; the run's is the smaller one. The output folder,
unless told otherwise `runs/<recipe>`, is one of `train`: an interrupted run goes on with `--resume`, and `export`,
`evaluate` and `compare` take its checkpoint.

Channels are ranked by how much the loss would change without them, to the first order. Source: Molchanov et al.,
Importance Estimation for Neural Network Pruning, 2019, with the batch norm's scale and shift as gates.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_training.backbones.repconv import RepConv
from fer_training.checkpoint import Checkpoint
from fer_training.cost import count_macs, count_parameters
from fer_training.errors import CheckpointError
from fer_training.faces import LabelledFaces, choose_faces
from fer_training.network import Classifier
from fer_training.prediction import predict_logits, weights_without_votes
from fer_training.recipe import NetworkRecipe, load_recipe
from fer_training.sources import add_source_options, describe_source, load_for_training, parse_options
from fer_training.train import HOW_TO_RESUME, add_run_options, load_parent, train_by_options

CHANNEL_STEP: Final = 8
"""Channels go in such groups: what vector units and tensor cores work in."""
RANKING_IMAGES: Final = 4096
RANKING_BATCH: Final = 64

Importances = npt.NDArray[np.float64]
Channels = npt.NDArray[np.int64]


def prune(checkpoint: Checkpoint, faces: LabelledFaces, macs: float) -> tuple[NetworkRecipe, Classifier]:
    """Remove channels, the least important first, until the network computes no more than asked for.

    A convolution whose channels are weighed by an attention module keeps them all. The rest keep 8 at least.

    Args:
        checkpoint: A finished run whose backbone is `repconv`.
        faces: Training images to rank the channels on; 4,096 drawn from them are used.
        macs: Part of the multiply-accumulate operations to keep, 0..1.

    Returns:
        The smaller network's recipe, and the network with what is left of the averaged weights, not yet trained on.

    Raises:
        CheckpointError: The network has another backbone, or cannot become so small.
    """
    if checkpoint.recipe.network.repconv is None or checkpoint.recipe.network.local_regions:
        raise CheckpointError(
            f"{checkpoint.recipe.name}: only networks of backbone repconv, without local_regions, can be pruned."
        )
    network = Classifier(checkpoint.recipe.network, len(checkpoint.class_names))
    network.load_state_dict(weights_without_votes(checkpoint))
    layers = _layers(network)
    importances = _rank_channels(network, faces)
    kept: list[Channels] = [np.arange(len(importance)) for importance in importances]
    limit = macs * count_macs(network)
    prunable = [index for index, layer in enumerate(layers) if not _is_weighed(network, layer)]
    while count_macs(_shape(network, kept, checkpoint.recipe.network)[1]) > limit:
        candidates = [index for index in prunable if len(kept[index]) > CHANNEL_STEP]
        if not candidates:
            least = count_macs(_shape(network, kept, checkpoint.recipe.network)[1]) / count_macs(network)
            raise CheckpointError(
                f"{checkpoint.recipe.name}: cannot be pruned to {macs:.1%} of its multiply-accumulates: with "
                f"{CHANNEL_STEP} channels wherever possible it keeps {least:.1%}. Give a larger --macs."
            )
        # The group of channels whose loss changes the least, of all layers.
        losers = {
            index: kept[index][np.argsort(importances[index][kept[index]])[:CHANNEL_STEP]] for index in candidates
        }
        index = min(candidates, key=lambda one: float(importances[one][losers[one]].sum()))
        kept[index] = np.setdiff1d(kept[index], losers[index])
    recipe, smaller = _shape(network, kept, checkpoint.recipe.network)
    _copy_weights(network, smaller, kept)
    return recipe, smaller


def _layers(network: Classifier) -> list[RepConv]:
    return [layer for layer in network.modules() if isinstance(layer, RepConv)]


def _is_weighed(network: Classifier, layer: RepConv) -> bool:
    """Tell whether the next layer after this one is an attention module with weights."""
    stack = list(network.get_submodule("backbone.layers").children())
    position = stack.index(layer) + 1
    following = stack[position] if position < len(stack) else None
    return following is not None and not isinstance(following, RepConv) and bool(list(following.parameters()))


def _rank_channels(network: Classifier, faces: LabelledFaces) -> list[Importances]:
    """Rank the output channels of each convolution: float64, (C,) each, comparable between layers."""
    network.eval()
    layers = _layers(network)
    totals = [torch.zeros(layer.norm.num_features, dtype=torch.float64) for layer in layers]
    chosen = choose_faces(faces, RANKING_IMAGES, seed=0)
    images, labels = torch.from_numpy(chosen.images).unsqueeze(1), torch.from_numpy(chosen.labels)
    for start in range(0, len(images), RANKING_BATCH):
        batch = slice(start, start + RANKING_BATCH)
        network.zero_grad()
        loss = functional.cross_entropy(network(network.preprocess(images[batch])), labels[batch])
        loss.backward()  # type: ignore[no-untyped-call]
        for total, layer in zip(totals, layers, strict=True):
            norm = layer.norm
            change = sum(gate.detach() * gate.grad for gate in (norm.weight, norm.bias) if gate.grad is not None)
            total += change**2
    return [(total / total.norm().clamp(min=1e-12)).numpy() for total in totals]


def _shape(network: Classifier, kept: Sequence[Channels], recipe: NetworkRecipe) -> tuple[NetworkRecipe, Classifier]:
    """Return the recipe of a network that has only the channels that are kept, and such a network."""
    if recipe.repconv is None:
        raise TypeError("Not a repconv network.")
    widths = [len(channels) for channels in kept]
    stages, position = [], 1
    for stage in recipe.repconv.stages:
        stages.append(tuple(widths[position : position + len(stage)]))
        position += len(stage)
    repconv = replace(recipe.repconv, stem_channels=widths[0], stages=tuple(stages), branches=False)
    smaller = replace(recipe, repconv=repconv)
    return smaller, Classifier(smaller, network.head.out_features)


@torch.no_grad()
def _copy_weights(network: Classifier, smaller: Classifier, kept: Sequence[Channels]) -> None:
    """Copy the weights of the channels that are kept into the smaller network."""
    inputs = np.arange(network.channels)
    for old, new, outputs in zip(_layers(network), _layers(smaller), kept, strict=True):
        new.kernel_3x3.copy_(old.kernel()[outputs][:, inputs])
        for name, values in old.norm.state_dict().items():
            new.norm.state_dict()[name].copy_(values if values.ndim == 0 else values[outputs])
        inputs = outputs
    done = {f"{name}." for name, layer in network.named_modules() if isinstance(layer, RepConv)}
    target = smaller.state_dict()
    for name, values in network.state_dict().items():
        if not name.startswith(tuple(done)):
            target[name].copy_(values[:, inputs] if name == "head.weight" else values)


def _format_shape(recipe: NetworkRecipe, network: Classifier) -> str:
    if recipe.repconv is None:
        return ""
    stages = " | ".join(" ".join(map(str, stage)) for stage in recipe.repconv.stages)
    return (
        f"stem {recipe.repconv.stem_channels}, stages {stages}: {count_parameters(network):,} parameters, "
        f"{count_macs(network) / 1e6:.1f} million multiply-accumulates"
    )


def main(arguments: Sequence[str]) -> int:
    """Run `fer-train prune` and return its exit code."""
    parser = subcommand_parser(
        "fer-train prune",
        description="Take away channels of a trained network, and train it on.",
        examples="""\
  fer-train prune --checkpoint runs/averaged/checkpoint.pt --macs 0.5 \\
      --recipe training/recipes/pruned.toml --fer2013 DIR""",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="of the network to prune")
    parser.add_argument("--macs", type=float, required=True, help="part of the multiply-accumulates to keep, 0..1")
    parser.add_argument("--recipe", type=Path, required=True, help="how to train on; its network is the checkpoint's")
    add_source_options(parser)
    add_run_options(parser)
    options = parse_options(parser, arguments)
    if not 0 < options.macs <= 1:
        parser.error(f"--macs must be above 0 and at most 1, but is {options.macs:g}.")
    return run_command(parser.prog, lambda: _run(options), debug=options.debug, when_interrupted=HOW_TO_RESUME)


def _run(options: argparse.Namespace) -> None:
    recipe = load_recipe(options.recipe)
    data = load_for_training(options, recipe)
    parent = load_parent(options.checkpoint, recipe.network, data.training.class_names)
    shape, network = prune(parent, data.training, options.macs)
    accuracy = (predict_logits(network, data.validation.images).argmax(axis=1) == data.validation.labels).mean()
    whole = Classifier(parent.recipe.network, len(parent.class_names))
    print(f"from  {_format_shape(parent.recipe.network, whole)}, accuracy {parent.history[-1].validation_accuracy:.2%}")
    print(f"to    {_format_shape(shape, network)}, accuracy {accuracy:.2%} before it is trained on", flush=True)
    command = (
        f"fer-train prune --checkpoint runs/{parent.recipe.name}/checkpoint.pt --macs {options.macs:g} "
        f"--recipe training/recipes/{recipe.name}.toml {describe_source(options)}"
    )
    shape = replace(shape, dropout=recipe.network.dropout)
    train_by_options(options, replace(recipe, network=shape), data, command, network.state_dict())
