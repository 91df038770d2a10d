"""INT8: the same graph with explicit quantisation, symmetric, per channel for weights; and the ranges that it needs.

    fer-build calibrate --faces faces/calibration.npz [--method percentile] [--onnx FILE] [--out FILE]

measures the ranges of the classifier's features. The result is a small JSON file without any image, so that
`fer-build quantize` can be run by anybody.

A quantise/dequantise pair stands before each layer with weights and after each of its weights, nowhere else, so that
convolution and activation function stay together; biases stay float32. TensorRT builds INT8 layers of that as it
stands, and so does OpenVINO (see DECISIONS.md for ONNX Runtime).
"""

import argparse
import contextlib
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
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
from fer_build.atomic_file import write_atomically
from fer_build.classifier_file import read_fp32_classifier
from fer_build.errors import EXIT_CODES, RangesError
from fer_build.faces_file import LabelledCrops, read_faces
from fer_build.onnx_weights import read_onnx
from fer_build.release import RELEASED_ONNX, ranges_path
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command

MINMAX: Final = "minmax"
ENTROPY: Final = "entropy"
PERCENTILE: Final = "percentile"
METHODS: Final = (MINMAX, ENTROPY, PERCENTILE)
LEAST_FACES: Final = 512
_PERCENTILE: Final = 99.99
_BATCH: Final = 64
_LAYERS: Final = ("Conv", "Gemm")
"""The layers with weights, which are quantised."""

_METHODS: Final = {
    MINMAX: (CalibrationMethod.MinMax, {"symmetric": True}),
    ENTROPY: (CalibrationMethod.Entropy, {"symmetric": True, "num_bins": 2048, "num_quantized_bins": 128}),
    PERCENTILE: (
        CalibrationMethod.Percentile,
        {"symmetric": True, "num_bins": 2048, "percentile": _PERCENTILE},
    ),
}


@dataclass(frozen=True)
class FeatureRanges:
    """The ranges that a classifier's features were seen to have: all that INT8 has to know of the training images."""

    onnx_sha256: str
    """The float32 file that the ranges were measured in."""
    method: str
    """One of `METHODS`."""
    images: int
    faces_sha256: str
    source: str
    """Where the faces are from, for people."""
    ranges: dict[str, tuple[float, float]]
    """Lowest and highest value by tensor."""

    def describe(self) -> dict[str, Any]:
        """Return all but the ranges."""
        return {name: value for name, value in asdict(self).items() if name != "ranges"}

    def write(self, path: Path) -> None:
        """Write them as JSON."""
        write_atomically(path, (json.dumps(asdict(self), indent=1) + "\n").encode())


def read_ranges(path: Path) -> FeatureRanges:
    """Read what `FeatureRanges.write` wrote.

    Raises:
        RangesError: The file is missing or something else.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        table["ranges"] = {name: (float(low), float(high)) for name, (low, high) in table["ranges"].items()}
        found = FeatureRanges(**table)
    except OSError as error:
        raise RangesError(f"{path}: cannot be read ({error.strerror}); make it with fer-build calibrate") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RangesError(f"{path}: not a file of ranges for INT8; make one with fer-build calibrate") from None
    if found.images < LEAST_FACES:
        raise RangesError(f"{path}: measured on {found.images} faces, fewer than {LEAST_FACES}")
    return found


def measure_ranges(path: Path, onnx_sha256: str, crops: LabelledCrops, method: str) -> FeatureRanges:
    """Measure the ranges of the features of a float32 file.

    Args:
        path: The file.
        onnx_sha256: Its hash.
        crops: Faces of the training split, at least 512.
        method: How a range is chosen: `minmax` takes all values, `entropy` loses the least information, `percentile`
            leaves out one value in 10,000.

    Raises:
        RangesError: There are too few faces.
    """
    if len(crops.faces) < LEAST_FACES:
        raise RangesError(f"ranges for INT8 are measured on {LEAST_FACES} faces at least, not {len(crops.faces)}")
    kind, options = _METHODS[method]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):  # it talks
        fp32, augmented = Path(folder) / "fp32.onnx", Path(folder) / "augmented.onnx"
        fp32.write_bytes(read_onnx(path))
        calibrator = create_calibrator(
            fp32, list(_LAYERS), str(augmented), calibrate_method=kind, extra_options=options
        )
        calibrator.collect_data(_Batches(crops.faces))
        found = calibrator.compute_data()
    ranges = {name: (np.min(data.lowest).item(), np.max(data.highest).item()) for name, data in sorted(found.items())}
    return FeatureRanges(onnx_sha256, method, len(crops.faces), crops.sha256(), crops.source, ranges)


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Hands the faces to ONNX Runtime's calibrator."""

    def __init__(self, faces: npt.NDArray[np.uint8]) -> None:
        starts = range(0, len(faces), _BATCH)
        watched = tqdm(starts, unit="batch", leave=False, disable=None)
        self._batches: Iterator[npt.NDArray[np.uint8]] = (faces[start : start + _BATCH] for start in watched)

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {contract.FACES: batch}


def to_int8(model: onnx.ModelProto, ranges: FeatureRanges) -> onnx.ModelProto:
    """Quantise a float32 graph. The same arguments give the same graph.

    Args:
        model: Float32, as training exports it. It is left as it is.
        ranges: Measured in this very model.

    Returns:
        The new model, with the old one's metadata.

    Raises:
        RangesError: The ranges are of another graph.
        ValueError: There is nothing to quantise.
    """
    inputs = {node.input[0] for node in model.graph.node if node.op_type in _LAYERS}
    if not inputs:
        raise ValueError(f"it has no layer to quantise ({', '.join(_LAYERS)})")
    missing = sorted(inputs - set(ranges.ranges))
    if missing:
        raise RangesError(f"there is no range for {missing[0]}: the ranges are of another network")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensors = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.ranges.items()
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `fer-build calibrate` and return its exit code."""
    parser = subcommand_parser(
        "fer-build calibrate",
        description="Measure the ranges of a classifier's features, which INT8 needs.",
        examples="  fer-build calibrate --faces faces/calibration.npz   # fer-train save-faces makes the file",
        exit_codes=EXIT_CODES,
    )
    parser.add_argument("--onnx", type=Path, default=RELEASED_ONNX, metavar="FILE", help="default: the released one")
    parser.add_argument("--faces", type=Path, required=True, metavar="FILE", help="training faces, as .npz")
    parser.add_argument("--method", choices=METHODS, default=PERCENTILE, help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: int8_ranges.json beside --onnx")
    parser.add_argument("--dry-run", action="store_true", help="say what would be measured, and write nothing")
    options = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    classifier = read_fp32_classifier(options.onnx)
    crops = read_faces(options.faces)
    out = options.out or ranges_path(options.onnx)
    what = f"{options.method} over {len(crops.faces)} faces of {crops.source}"
    if _is_there(out, classifier.sha256, crops, options.method):
        print(f"{out} is up to date: {what}")
    elif options.dry_run:
        print(f"would write {out}: {what}")
    else:
        found = measure_ranges(classifier.path, classifier.sha256, crops, options.method)
        found.write(out)
        print(f"wrote {out}: {what}, ranges of {len(found.ranges)} tensors")


def _is_there(path: Path, onnx_sha256: str, crops: LabelledCrops, method: str) -> bool:
    try:
        present = read_ranges(path)
    except RangesError:
        return False
    return (present.onnx_sha256, present.faces_sha256, present.method) == (onnx_sha256, crops.sha256(), method)
