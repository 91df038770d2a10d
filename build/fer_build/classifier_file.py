"""A trained classifier as an ONNX file, which is refused where it does not fit the contract."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

import fer_contract as contract
from fer_build.errors import ContractError, GateError
from fer_build.gates import read_gate, require
from fer_build.onnx_weights import read_onnx
from fer_build.release import FP32, SMALLER

METRICS_KEY: Final = "fer.metrics"
"""JSON of the figures that training measured."""

# Metadata that this room adds to training's.
PRECISION_KEY: Final = "fer.precision"
GATE_KEY: Final = "fer.gate"
"""JSON of the `gates.Comparison` with the float32 file by each runtime."""
INT8_RANGES_KEY: Final = "fer.calibration"
"""JSON that says on which faces the ranges of an INT8 file were measured, and how."""
MADE_OF_KEY: Final = "fer.made_of"
"""SHA-256 of the float32 file."""


@dataclass(frozen=True)
class ClassifierFile:
    """A classifier that fits the contract."""

    path: Path
    labels: tuple[str, ...]
    version: str
    """The trained network's version and the first 8 digits of its file's SHA-256: `NAME+01234567`."""
    uncertain_below: float
    """Below this highest probability, 0..1, an answer is to be called uncertain; 0 where training did not say."""
    sha256: str
    precision: str
    """`fp32`, `fp16` or `int8`."""
    gate: dict[str, Any] | None
    """How a smaller precision compares with float32, by CPU runtime: the fields of `gates.Comparison`."""
    metadata: dict[str, str]
    content: bytes = field(repr=False)
    """The file, including weights that it keeps in other files. `sha256` is of these bytes."""


def read_classifier(path: Path) -> ClassifierFile:
    """Load an ONNX file, and check its labels, its tensors and what it computes.

    Raises:
        ContractError: The file or a part of it is missing, it is not ONNX, or it does not fit; the message says what.
        GateError: It is of a smaller precision that was not measured, or lost too much.
    """
    content = read_onnx(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its own complaint about a broken file would precede ours
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no public base class for its errors.
        raise ContractError(f"{path}: not an ONNX file that ONNX Runtime can load ({_first_line(error)})") from error
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    if misfit := contract.find_misfit(session.get_inputs(), session.get_outputs(), metadata):
        raise ContractError(f"{path}: {misfit}")
    _check_probabilities(path, session)
    name = metadata.get(contract.ONNX_VERSION_KEY, "")
    if not name or not name.isprintable() or any(forbidden in name for forbidden in ' "\\'):
        raise ContractError(f"{path}: metadata {contract.ONNX_VERSION_KEY} must be one word, not {name!r}")
    sha256 = hashlib.sha256(content).hexdigest()
    precision = metadata.get(PRECISION_KEY, FP32)
    return ClassifierFile(
        path,
        contract.LABELS,
        f"{name}+{sha256[:8]}",
        _read_threshold(path, metadata.get(contract.ONNX_UNCERTAIN_BELOW_KEY, "0")),
        sha256,
        precision,
        _check_gate(path, precision, metadata.get(GATE_KEY)),
        metadata,
        content,
    )


def read_fp32_classifier(path: Path) -> ClassifierFile:
    """Load a float32 ONNX file, as training exports it.

    Raises:
        ContractError: See `read_classifier`, or it is of a smaller precision.
    """
    classifier = read_classifier(path)
    if classifier.precision != FP32:
        raise ContractError(f"{path}: is {classifier.precision} already; give the float32 file")
    return classifier


def _check_gate(path: Path, precision: str, written: str | None) -> dict[str, Any] | None:
    """Make sure that a smaller precision has passed its gate, by its own account, and return it; float32 has none."""
    if precision == FP32:
        return None
    if precision not in SMALLER:
        raise ContractError(
            f"{path}: metadata {PRECISION_KEY} must be one of {', '.join((FP32, *SMALLER))}, not {precision!r}"
        )
    if written is None:
        raise GateError(f"{path}: is {precision} and has never passed a gate: make it with fer-build quantize")
    try:
        found = read_gate(written)
    except ValueError as error:
        raise ContractError(f"{path}: metadata {GATE_KEY} is not what fer-build quantize writes ({error})") from None
    require(precision, found)
    return dict(json.loads(written))


def _read_threshold(path: Path, written: str) -> float:
    try:
        threshold = float(written)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:
        raise ContractError(
            f"{path}: metadata {contract.ONNX_UNCERTAIN_BELOW_KEY} must be a number 0..1, not {written!r}"
        )
    return threshold


def _check_probabilities(path: Path, session: onnxruntime.InferenceSession) -> None:
    """Make sure that softmax is inside the graph, and that the largest batch that Triton sends goes through."""
    shape = (contract.MAX_CLASSIFIER_BATCH, 1, contract.FACE_SIZE_PX, contract.FACE_SIZE_PX)
    faces = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    try:
        (rows,) = session.run([contract.PROBABILITIES], {contract.FACES: faces})
    except Exception as error:
        raise ContractError(f"{path}: fails on a batch of {len(faces)} faces ({_first_line(error)})") from error
    sums = rows.sum(axis=1)
    if rows.min() < 0 or not np.allclose(sums, 1, atol=1e-3):
        raise ContractError(
            f"{path}: output {contract.PROBABILITIES} must be probabilities (softmax inside the graph), but rows sum "
            f"to {sums.min():.3f}..{sums.max():.3f} with a minimum of {rows.min():.3f}"
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
