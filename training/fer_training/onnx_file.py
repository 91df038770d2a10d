"""A trained network as an ONNX file: pixels in, calibrated probabilities out, its origin inside. Used by `export`."""

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn
from torch.onnx.symbolic_helper import parse_args
from torch.onnx.utils import register_custom_op_symbolic, unregister_custom_op_symbolic

from fer_contract import FACE_SIZE_PX, FACES, PROBABILITIES
from fer_training.errors import ModelFileError
from fer_training.network import Classifier
from fer_training.prediction import open_onnx, predict_logits, predict_onnx, softmax

OPSET: Final = 17
"""Old enough for every ONNX Runtime and TensorRT in use."""
PARITY: Final = 1e-4
"""Largest difference of a probability between PyTorch and ONNX Runtime."""


class ServedClassifier(nn.Module):
    """The network between the tensors of the contract."""

    def __init__(self, network: Classifier, temperature: float) -> None:
        """Copies the network and divides its last layer by the temperature, so that the graph has no step for it."""
        super().__init__()
        self.network = copy.deepcopy(network).eval()
        with torch.no_grad():
            self.network.head.weight.div_(temperature)
            self.network.head.bias.div_(temperature)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """FACES, uint8, (N, 1, 48, 48) -> PROBABILITIES, float32, (N, 7)."""
        return torch.softmax(self.network(self.network.preprocess(faces)), dim=1)


def write_onnx(network: Classifier, temperature: float, metadata: Mapping[str, str], path: Path) -> None:
    """Writes the file. The same arguments give the same bytes, in any folder, with the same versions.

    Args:
        network: as trained, on the CPU.
        temperature: from `calibration.fit_temperature`.
        metadata: keys and values of the file's `metadata_props`.
        path: where to.
    """
    with warnings.catch_warnings(), _plain_padding():
        # The exporter that PyTorch prefers since 2.9 needs another package and writes source paths into the file.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.onnx.export(
            ServedClassifier(network, temperature),
            (torch.zeros((2, 1, FACE_SIZE_PX, FACE_SIZE_PX), dtype=torch.uint8),),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=[FACES],
            output_names=[PROBABILITIES],
            dynamic_axes={FACES: {0: "N"}, PROBABILITIES: {0: "N"}},
        )
    model = onnx.load(path)
    model.graph.name = "fer_classifier"
    _strip_notes(model)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


@contextlib.contextmanager
def _plain_padding() -> Iterator[None]:
    """Makes the exporter write zeros around features as one step. Its own way takes a dozen, and it warns of them."""
    register_custom_op_symbolic("aten::pad", _export_padding, OPSET)
    try:
        yield
    finally:
        unregister_custom_op_symbolic("aten::pad", OPSET)


@parse_args("v", "is", "s", "none")
def _export_padding(graph: Any, features: Any, padding: list[int], mode: str, _: None) -> Any:
    """PyTorch counts from the last axis back, before and after each; ONNX from the first, all before and then after."""
    before_and_after = padding + [0] * (2 * features.type().dim() - len(padding))
    pads = torch.tensor(before_and_after[-2::-2] + before_and_after[::-2])
    return graph.op("Pad", features, graph.op("Constant", value_t=pads), mode_s=mode)


def _strip_notes(model: onnx.ModelProto) -> None:
    """Removes what an exporter notes about its sources, which may be paths of the machine it ran on."""
    model.doc_string = ""
    model.graph.doc_string = ""
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


def check_parity(path: Path, network: Classifier, temperature: float, images: npt.NDArray[np.uint8]) -> float:
    """Compares the file with the network it was made from.

    Args:
        path: the file.
        network: as trained, on the CPU.
        temperature: as given to `write_onnx`.
        images: uint8, (N, 48, 48), gray, 0..255.

    Returns:
        The largest difference of a probability.

    Raises:
        ModelFileError: it is above 1e-4.
    """
    expected = softmax(predict_logits(network, images) / np.float32(temperature))
    difference = float(np.abs(predict_onnx(open_onnx(path), images) - expected).max())
    if difference > PARITY:
        raise ModelFileError(
            f"{path}: probabilities differ from PyTorch's by up to {difference:.2g}, more than {PARITY:g}. "
            "Don't use the file; report the versions of torch and onnxruntime."
        )
    return difference
