"""The classifier as an ONNX file: pixels in, calibrated probabilities out, its origin in the metadata.

`export` writes it; whatever measures it or learns from it opens it here, where it is checked against the contract.
"""

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx.external_data_helper import uses_external_data
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_state
from torch import nn
from torch.onnx.symbolic_helper import parse_args
from torch.onnx.utils import register_custom_op_symbolic, unregister_custom_op_symbolic

from fer_contract import (
    FACE_SIZE_PX,
    FACES,
    ONNX_UNCERTAIN_BELOW_KEY,
    PROBABILITIES,
    find_misfit,
)
from fer_training.errors import ModelFileError
from fer_training.network import Classifier

ONNX_SUFFIX: Final = ".onnx"
OPSET: Final = 17
"""Old enough for every ONNX Runtime and TensorRT in use."""
BATCH: Final = 256

# What ONNX Runtime raises for a file it cannot run; they share no base below Exception.
REFUSALS: Final = (
    onnxruntime_state.Fail,
    onnxruntime_state.InvalidGraph,
    onnxruntime_state.InvalidProtobuf,
    onnxruntime_state.NotImplemented,
)


class ServedClassifier(nn.Module):
    """The network between the tensors of the contract."""

    def __init__(self, network: Classifier, temperature: float) -> None:
        """Copy the network and divide its last layer by the temperature, so that the graph has no step for it."""
        super().__init__()
        self.network = copy.deepcopy(network).eval()
        with torch.no_grad():
            self.network.head.weight.div_(temperature)
            self.network.head.bias.div_(temperature)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Turn FACES, uint8, (N, 1, 48, 48), into PROBABILITIES, float32, (N, 7)."""
        return torch.softmax(self.network(self.network.preprocess(faces)), dim=1)


def write_onnx(network: Classifier, temperature: float, metadata: Mapping[str, str], path: Path) -> None:
    """Write the file. The same arguments give the same bytes, in any folder, with the same versions.

    Args:
        network: In its plain form, on the CPU.
        temperature: From `temperature.fit_temperature`.
        metadata: Keys and values of the file's `metadata_props`.
        path: The file to write.
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
    """Make the exporter write zeros around features as one step. Its own way takes a dozen, and it warns of them."""
    register_custom_op_symbolic("aten::pad", _export_padding, OPSET)
    try:
        yield
    finally:
        unregister_custom_op_symbolic("aten::pad", OPSET)


@parse_args("v", "is", "s", "none")
def _export_padding(graph: Any, features: Any, padding: list[int], mode: str, _: None) -> Any:
    """Add a Pad. PyTorch counts from the last axis back, before and after each; ONNX from the first, all before first.

    Source: https://onnx.ai/onnx/operators/onnx__Pad.html
    """
    before_and_after = padding + [0] * (2 * features.type().dim() - len(padding))
    pads = torch.tensor(before_and_after[-2::-2] + before_and_after[::-2])
    return graph.op("Pad", features, graph.op("Constant", value_t=pads), mode_s=mode)


def _strip_notes(model: onnx.ModelProto) -> None:
    """Remove what an exporter notes about its sources, which may be paths of the machine it ran on."""
    model.doc_string = ""
    model.graph.doc_string = ""
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


def open_onnx(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """Open a classifier on the CPU.

    Args:
        path: A file made by `export`.
        threads: CPU threads for one inference; 0 takes all cores.

    Raises:
        ModelFileError: The file is missing, is no ONNX file, keeps its weights elsewhere, or its input, output or
            labels do not fit the contract.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: is not there. Give a file made by fer-train export.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # Its own complaint about a broken file would precede ours.
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except REFUSALS as error:
        raise ModelFileError(f"{path}: ONNX Runtime refuses it: {error}") from error
    if any(uses_external_data(weight) for weight in onnx.load(path, load_external_data=False).graph.initializer):
        raise ModelFileError(
            f"{path}: keeps its weights in another file, which its hash does not cover. Export it into one file."
        )
    metadata = session.get_modelmeta().custom_metadata_map
    if misfit := find_misfit(session.get_inputs(), session.get_outputs(), metadata):
        raise ModelFileError(f"{path}: {misfit}. Export it with fer-train export.")
    return session


def predict_onnx(session: onnxruntime.InferenceSession, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Classify faces with an opened ONNX file.

    Args:
        session: From `open_onnx`.
        images: uint8, (N, 48, 48), gray, 0..255.

    Returns:
        PROBABILITIES, float32, (N, 7).
    """
    batches = [images[start : start + BATCH, None] for start in range(0, len(images), BATCH)]  # (B, 1, 48, 48)
    return np.concatenate([session.run([PROBABILITIES], {FACES: batch})[0] for batch in batches])


def read_uncertain_below(path: Path) -> float:
    """Return the confidence below which an ONNX file calls its answers uncertain, 0..1.

    Raises:
        ModelFileError: The file does not say, or is missing.
    """
    metadata = open_onnx(path).get_modelmeta().custom_metadata_map
    try:
        return float(metadata[ONNX_UNCERTAIN_BELOW_KEY])
    except (KeyError, ValueError):
        raise ModelFileError(
            f"{path}: its metadata {ONNX_UNCERTAIN_BELOW_KEY} must be a number from 0 to 1, but is "
            f"{metadata.get(ONNX_UNCERTAIN_BELOW_KEY)!r}. Export it with fer-train export."
        ) from None
