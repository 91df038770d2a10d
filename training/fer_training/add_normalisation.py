"""`fer-train add-normalisation`: put the normalisation of light and sharpness before a network trained without it.

For releases whose checkpoints are gone: the weights are read from the ONNX file, whose answers they have to give, and
exported again with `appearance` in front, a new temperature and new figures, as `export` does it. `metrics.json` of the
old release, beside its file, says how it was trained. New networks are trained with `normalise_appearance` instead.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import onnx
import torch
from onnx import numpy_helper

from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_contract import LABELS, ONNX_VERSION_KEY
from fer_training.backbones.repconv import reparameterise
from fer_training.errors import ModelFileError
from fer_training.export import (
    EXIT_CODES,
    METRICS_NAME,
    Papers,
    add_release_options,
    check_parity,
    refuse_to_overwrite,
    report_release,
    write_release,
)
from fer_training.faces import LabelledFaces
from fer_training.fer2013 import PUBLIC_TEST
from fer_training.network import Classifier
from fer_training.onnx_classifier import open_onnx
from fer_training.recipe import NetworkRecipe, recipe_from_table
from fer_training.sources import add_source_options, describe_source, load_for_measuring, parse_options

SUFFIX: Final = "-evened"
"""Ending that the version gets."""


def add_normalisation(
    onnx_path: Path,
    validation: LabelledFaces,
    out_dir: Path,
    *,
    usage: str = PUBLIC_TEST,
    source: str = "--fer2013 DIR",
) -> Path:
    """Make a new release of an old one, whose `metrics.json` is beside its ONNX file. For the arguments see `export`.

    Returns:
        The path of the new ONNX file.

    Raises:
        ModelFileError: The old file is missing or not one of `export`'s, has the normalisation already, or its
            `metrics.json` is not there or of another file; or the new file computes something else than the network.
    """
    metadata = open_onnx(onnx_path).get_modelmeta().custom_metadata_map
    sha256 = hashlib.sha256(onnx_path.read_bytes()).hexdigest()
    training = _read_training(onnx_path.with_name(METRICS_NAME), sha256)
    try:
        described, temperature = json.loads(metadata["fer.recipe"]), float(metadata["fer.temperature"])
        version, origin = metadata[ONNX_VERSION_KEY], {key: metadata[key] for key in ("fer.commit", "fer.data_sha256")}
        recipe = _read_network_recipe(described)
    except (KeyError, ValueError) as error:
        raise ModelFileError(f"{onnx_path}: was not made by fer-train export: {error}") from error
    if recipe.normalise_appearance or version.endswith(SUFFIX):
        raise ModelFileError(f"{onnx_path}: normalises light and sharpness already. Give a file that does not.")
    plain = _read_network(onnx_path, recipe)
    check_parity(onnx_path, plain, 1.0, validation.images)
    network = Classifier(replace(recipe, normalise_appearance=True), len(LABELS))
    reparameterise(network)
    network.load_state_dict(plain.state_dict())
    with torch.no_grad():  # The file's last layer is divided by its temperature.
        network.head.weight.mul_(temperature)
        network.head.bias.mul_(temperature)
    papers = Papers(
        version=version + SUFFIX,
        metadata={
            "fer.recipe": json.dumps({**described, "name": version + SUFFIX}),
            "fer.normalise_appearance": "added after training",
            "fer.weights_of": json.dumps({"version": version, "sha256": sha256}),
            **origin,
        },
        training={**training, "weights_of": {"version": version, "sha256": sha256}},
        command=(
            f"fer-train add-normalisation --onnx runs/{version}/{onnx_path.name} {source} "
            "--out training/release --force"
        ),
    )
    return write_release(network, papers, validation, out_dir, usage=usage)


def _read_training(path: Path, onnx_sha256: str) -> dict[str, Any]:
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        found, training = metrics["model"]["sha256"], dict(metrics["training"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path}: must be the old release's, which says how it was trained: {error!r}") from error
    if found != onnx_sha256:
        raise ModelFileError(f"{path}: is of another ONNX file. Put the one beside it that was made with it.")
    return training


def _read_network_recipe(described: dict[str, Any]) -> NetworkRecipe:
    """Return the network of the recipe in a file's metadata; those of a soup are all alike."""
    table = next(iter(described.get("mean_of", {}).values()), described)
    return recipe_from_table(table, "fer.recipe").network


def _read_network(path: Path, recipe: NetworkRecipe) -> Classifier:
    """Return the network in the form in which it was exported, with the file's weights.

    Raises:
        ModelFileError: The weights are not this network's.
    """
    network = Classifier(recipe, len(LABELS))
    reparameterise(network)
    tensors = onnx.load(path).graph.initializer
    weights = {
        tensor.name.removeprefix("network."): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in tensors
        if tensor.name.startswith("network.")
    }
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelFileError(f"{path}: its weights are not those of its recipe's network: {error}") from error
    return network.eval()


def main(arguments: Sequence[str]) -> int:
    """Run `fer-train add-normalisation` and return its exit code."""
    parser = subcommand_parser(
        "fer-train add-normalisation",
        description="Put the normalisation of light and sharpness before a released network.",
        examples="""\
  fer-train add-normalisation --onnx old/fer_classifier.onnx --fer2013 DIR --out new""",
        exit_codes=EXIT_CODES,
    )
    parser.add_argument("--onnx", type=Path, required=True, metavar="FILE", help="of the old release")
    add_source_options(parser, to_measure=True)
    add_release_options(parser)
    options = parse_options(parser, arguments)
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    if not options.force:
        refuse_to_overwrite(options.out)
    validation, usage = load_for_measuring(options)
    path = add_normalisation(options.onnx, validation, options.out, usage=usage, source=describe_source(options))
    report_release(path, validation, usage)
