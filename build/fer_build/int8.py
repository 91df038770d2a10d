"""INT8: the same graph with explicit quantisation, symmetric, per channel for weights. Called by `fer_build.quantize`.

A quantise/dequantise pair stands before each layer with weights and after each of its weights, nowhere else, so that
convolution and activation function stay together; biases stay float32. TensorRT builds INT8 layers of that as it
stands, and so does OpenVINO (see DECISIONS.md for ONNX Runtime).
"""

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, create_calibrator
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from tqdm import tqdm

import fer_contract as contract
from fer_build.errors import CalibrationError
from fer_build.faces_file import LabelledCrops
from fer_build.onnx_parts import read_onnx
from fer_build.whole_file import write_whole

MINMAX: Final = "minmax"
ENTROPY: Final = "entropy"
PERCENTILE: Final = "percentile"
METHODS: Final = (MINMAX, ENTROPY, PERCENTILE)
LEAST_FACES: Final = 512
_PERCENTILE: Final = 99.99
_BATCH: Final = 64
_LAYERS: Final = ("Conv", "Gemm")
"""What is quantised: the layers with weights."""

_METHODS: Final = {
    MINMAX: (CalibrationMethod.MinMax, {"symmetric": True}),
    ENTROPY: (CalibrationMethod.Entropy, {"symmetric": True, "num_bins": 2048, "num_quantized_bins": 128}),
    PERCENTILE: (
        CalibrationMethod.Percentile,
        {"symmetric": True, "num_bins": 2048, "percentile": _PERCENTILE},
    ),
}


@dataclass(frozen=True)
class Calibration:
    """The ranges that features were seen to have: all that INT8 has to know of the training images."""

    onnx_sha256: str
    """The float32 file that the ranges were measured in."""
    method: str
    """One of `METHODS`."""
    images: int
    faces_sha256: str
    source: str
    """What the faces are."""
    ranges: dict[str, tuple[float, float]]
    """Lowest and highest value by tensor."""

    def describe(self) -> dict[str, Any]:
        """All but the ranges."""
        return {name: value for name, value in asdict(self).items() if name != "ranges"}

    def write(self, path: Path) -> None:
        """Writes it as JSON."""
        write_whole(path, (json.dumps(asdict(self), indent=1) + "\n").encode())


def read_calibration(path: Path) -> Calibration:
    """Reads what `Calibration.write` wrote.

    Raises:
        CalibrationError: the file is missing or something else.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        table["ranges"] = {name: (float(low), float(high)) for name, (low, high) in table["ranges"].items()}
        calibration = Calibration(**table)
    except OSError as error:
        reason = f"can't be read ({error.strerror}); make it with python -m fer_build.calibrate"
        raise CalibrationError(f"{path}: {reason}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CalibrationError(f"{path}: not a calibration; make one with python -m fer_build.calibrate") from None
    if calibration.images < LEAST_FACES:
        raise CalibrationError(f"{path}: made of {calibration.images} faces, fewer than {LEAST_FACES}")
    return calibration


def calibrate(path: Path, onnx_sha256: str, crops: LabelledCrops, method: str) -> Calibration:
    """Measures the ranges of the features of a float32 file.

    Args:
        path: the file.
        onnx_sha256: its hash.
        crops: faces of the training split, at least 512.
        method: how a range is chosen: all values, the least loss of information, or all but one in 10,000.

    Raises:
        CalibrationError: there are too few faces.
    """
    if len(crops.faces) < LEAST_FACES:
        raise CalibrationError(f"INT8 is calibrated on {LEAST_FACES} faces at least, not {len(crops.faces)}")
    kind, options = _METHODS[method]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):  # it talks
        whole, augmented = Path(folder) / "whole.onnx", Path(folder) / "augmented.onnx"
        whole.write_bytes(read_onnx(path))
        calibrator = create_calibrator(
            whole, list(_LAYERS), str(augmented), calibrate_method=kind, extra_options=options
        )
        calibrator.collect_data(_Batches(crops.faces))
        found = calibrator.compute_data()
    ranges = {name: (np.min(data.lowest).item(), np.max(data.highest).item()) for name, data in sorted(found.items())}
    return Calibration(onnx_sha256, method, len(crops.faces), crops.sha256(), crops.source, ranges)


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Hands the faces to ONNX Runtime's calibrator."""

    def __init__(self, faces: npt.NDArray[np.uint8]) -> None:
        starts = range(0, len(faces), _BATCH)
        watched = tqdm(starts, unit="batch", leave=False, disable=None)
        self._batches: Iterator[npt.NDArray[np.uint8]] = (faces[start : start + _BATCH] for start in watched)

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {contract.FACES: batch}


def to_int8(model: onnx.ModelProto, calibration: Calibration) -> onnx.ModelProto:
    """Quantises a float32 graph. The same arguments give the same graph.

    Args:
        model: float32, as training exports it. It is left as it is.
        calibration: of this very model.

    Returns:
        The new model, with the old one's metadata.

    Raises:
        CalibrationError: the calibration is of another graph.
        ValueError: there is nothing to quantise.
    """
    inputs = {node.input[0] for node in model.graph.node if node.op_type in _LAYERS}
    if not inputs:
        raise ValueError(f"it has no layer to quantise ({', '.join(_LAYERS)})")
    missing = sorted(inputs - set(calibration.ranges))
    if missing:
        raise CalibrationError(f"the calibration has no range for {missing[0]}: it is of another network")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensors = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in calibration.ranges.items()
    }
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, tensors),
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=list(_LAYERS),
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,  # TensorRT's parser refuses quantised biases
            "OpTypesToExcludeOutputQuantization": list(_LAYERS),
        },
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantised: onnx.ModelProto = quantizer.model.model
    quantised.producer_name, quantised.producer_version = model.producer_name, model.producer_version
    onnx.checker.check_model(quantised, full_check=True)
    return quantised
