"""Reads a trained classifier and refuses one that does not fit the contract. Called by the room's commands."""

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
from fer_build.onnx_parts import read_onnx
from fer_build.release import SMALLER, WHOLE

METRICS_KEY: Final = "fer.metrics"
"""JSON of the figures that training measured."""

# Metadata that this room adds to training's.
PRECISION_KEY: Final = "fer.precision"
GATE_KEY: Final = "fer.gate"
"""JSON of the `gates.Comparison` with the float32 file by each runtime."""
CALIBRATION_KEY: Final = "fer.calibration"
"""JSON of what the ranges of an INT8 file were measured on."""
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
    """The file, with weights inside that it keeps in others. `sha256` is of this."""


def read_classifier(path: Path) -> ClassifierFile:
    """Loads an ONNX file, checks its labels, its tensors and what it computes.

    Raises:
        ContractError: the file or a part of it is missing, it is not ONNX, or doesn't fit; the message says what.
        GateError: it is of a smaller precision that was not measured, or lost too much.
    """
    content = read_onnx(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its own complaint about a broken file would precede ours
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no public base class for its errors.
        raise ContractError(f"{path}: not an ONNX file that ONNX Runtime can load ({_first_line(error)})") from error
    metadata = session.get_modelmeta().custom_metadata_map
    _check_labels(path, metadata.get(contract.ONNX_LABELS_KEY))
    _check_tensors(path, "input", session.get_inputs(), contract.FACES, "tensor(uint8)", (1, 48, 48))
    _check_tensors(path, "output", session.get_outputs(), contract.PROBABILITIES, "tensor(float)", (7,))
    _check_probabilities(path, session)
    name = metadata.get(contract.ONNX_VERSION_KEY, "")
    if not name or not name.isprintable() or any(forbidden in name for forbidden in ' "\\'):
        raise ContractError(f"{path}: metadata {contract.ONNX_VERSION_KEY} must be one word, not {name!r}")
    sha256 = hashlib.sha256(content).hexdigest()
    precision = metadata.get(PRECISION_KEY, WHOLE)
    gate = _check_gate(path, precision, metadata.get(GATE_KEY))
    return ClassifierFile(
        path,
        contract.LABELS,
        f"{name}+{sha256[:8]}",
        _read_threshold(path, metadata.get(contract.ONNX_UNCERTAIN_BELOW_KEY, "0")),
        sha256,
        precision,
        gate,
        dict(metadata),
        content,
    )


def read_whole_classifier(path: Path) -> ClassifierFile:
    """Loads a float32 ONNX file, as training exports it.

    Raises:
        ContractError: see `read_classifier`, or it is of a smaller precision.
    """
    classifier = read_classifier(path)
    if classifier.precision != WHOLE:
        raise ContractError(f"{path}: is {classifier.precision} already; give the float32 file")
    return classifier


def _check_gate(path: Path, precision: str, written: str | None) -> dict[str, Any] | None:
    """A smaller precision has passed its gate, by its own account; float32 has none."""
    if precision == WHOLE:
        return None
    if precision not in SMALLER:
        raise ContractError(
            f"{path}: metadata {PRECISION_KEY} must be one of {', '.join((WHOLE, *SMALLER))}, not {precision!r}"
        )
    if written is None:
        raise GateError(
            f"{path}: is {precision} and has never passed a gate: make it with python -m fer_build.quantize"
        )
    try:
        found = read_gate(written)
    except ValueError as error:
        raise ContractError(f"{path}: metadata {GATE_KEY} is not what fer_build.quantize writes ({error})") from None
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


def _check_labels(path: Path, labels: str | None) -> None:
    expected = ",".join(contract.LABELS)
    if labels != expected:
        raise ContractError(f"{path}: metadata {contract.ONNX_LABELS_KEY} must be {expected!r}, not {labels!r}")


def _check_tensors(
    path: Path, kind: str, tensors: list[onnxruntime.NodeArg], name: str, type_: str, shape: tuple[int, ...]
) -> None:
    """There must be one tensor, of this name, type and shape, with a free first dimension."""
    expected = f"one {kind} {name} {type_} (N, {', '.join(map(str, shape))})".replace(",)", ")")
    found = ", ".join(f"{tensor.name} {tensor.type} {tuple(tensor.shape)}" for tensor in tensors)
    fits = len(tensors) == 1 and (tensors[0].name, tensors[0].type, tuple(tensors[0].shape[1:])) == (name, type_, shape)
    if not fits or isinstance(tensors[0].shape[0], int):
        raise ContractError(f"{path}: expected {expected}, found {found}")


def _check_probabilities(path: Path, session: onnxruntime.InferenceSession) -> None:
    """Softmax is inside the graph, and the largest batch that Triton sends goes through."""
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
