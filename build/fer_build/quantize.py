"""Make the FP16 and INT8 files of a float32 classifier, and let only those out that keep its accuracy.

    fer-build quantize --precision fp16|int8 [--onnx FILE] [--out FILE] [--faces faces/validation.npz]

With faces (`fer-train save-faces` makes the file) the gate is measured, by each runtime that may serve the result,
because they round differently. Without, it must have been measured before: a released file with the very same graph
holds the figures. Either way they stand in the new file's metadata.
"""

import argparse
import contextlib
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from tqdm import tqdm

import fer_contract as contract
from fer_build.atomic_file import write_atomically
from fer_build.classifier_file import (
    GATE_KEY,
    INT8_RANGES_KEY,
    MADE_OF_KEY,
    METRICS_KEY,
    PRECISION_KEY,
    ClassifierFile,
    read_fp32_classifier,
)
from fer_build.errors import EXIT_CODES, ContractError, FacesFileError, GateError, RangesError
from fer_build.faces_file import LabelledCrops, read_faces
from fer_build.fp16 import to_fp16
from fer_build.gates import Comparison, compare, format_table, read_gate, require, write_gate
from fer_build.int8 import FeatureRanges, read_ranges, to_int8
from fer_build.onnx_weights import read_onnx
from fer_build.release import INT8, RELEASED_ONNX, SMALLER, name_precision, ranges_path
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_runtimes import ONNX_RUNTIME, RUNTIMES, Classify, open_classifier

_GATE_BATCH: Final = 64


def quantize(
    fp32_path: Path,
    precision: str,
    out: Path,
    *,
    ranges: Path | None = None,
    crops: LabelledCrops | None = None,
    measured: Path | None = None,
    dry_run: bool = False,
) -> str:
    """Write a smaller file beside a float32 one.

    Args:
        fp32_path: The float32 classifier.
        precision: `fp16` or `int8`.
        out: The file to write. It is left alone if it is this already.
        ranges: For `int8`, what `fer-build calibrate` measured in `fp32_path`; None takes the file beside that.
        crops: Validation faces to measure the gate on; None takes the figures of `measured`.
        measured: An earlier file of this graph whose gate was measured.
        dry_run: Whether to do all but write.

    Returns:
        What was done, for people: a line and the gate's table.

    Raises:
        ContractError: The float32 file does not fit the contract, is not float32, or cannot be converted.
        RangesError: The ranges are missing or of another file.
        FacesFileError: The faces to measure on are those that the ranges were measured on.
        GateError: The file lost too much, or nothing was ever measured. Nothing is written then.
    """
    fp32 = read_fp32_classifier(fp32_path)
    if out.resolve() == fp32_path.resolve():
        raise ContractError(f"{out}: would replace the float32 file; give another --out")
    int8_ranges = _read_ranges_of(fp32, ranges or ranges_path(fp32_path)) if precision == INT8 else None
    if int8_ranges is not None and crops is not None and crops.sha256() == int8_ranges.faces_sha256:
        raise FacesFileError(
            "the gate cannot be measured on the faces that the ranges were measured on: give the validation faces"
        )
    model = _convert(fp32, int8_ranges)
    found = _recall(model, precision, [out, measured]) if crops is None else _measure(fp32, model, crops)
    require(precision, found)
    _describe(model, fp32, precision, found, int8_ranges)
    content = model.SerializeToString(deterministic=True)
    tables = [format_table(precision, runtime, comparison) for runtime, comparison in found.items()]
    table = "\n".join([f"{len(content) / 1e6:.1f} MB", *tables])
    if out.is_file() and out.read_bytes() == content:
        return f"{out} is up to date: {table}"
    if dry_run:
        return f"would write {out}: {table}"
    write_atomically(out, content)
    return f"wrote {out}: {table}"


def _read_ranges_of(fp32: ClassifierFile, path: Path) -> FeatureRanges:
    ranges = read_ranges(path)
    if ranges.onnx_sha256 != fp32.sha256:
        raise RangesError(f"{path}: measured in another file than {fp32.path}; run fer-build calibrate on this one")
    return ranges


def _convert(fp32: ClassifierFile, ranges: FeatureRanges | None) -> onnx.ModelProto:
    """Return the graph in INT8 with ranges, else in FP16."""
    model = onnx.load_from_string(fp32.content)
    try:
        return to_fp16(model) if ranges is None else to_int8(model, ranges)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        reason = " ".join(str(error).split())
        precision = "FP16" if ranges is None else "INT8"
        raise ContractError(f"{fp32.path}: this graph cannot be converted to {precision}: {reason}") from error


def _recall(model: onnx.ModelProto, precision: str, measured: Iterable[Path | None]) -> dict[str, Comparison]:
    """Return the figures in an earlier file's metadata, by runtime, if its graph is the same to the bit."""
    for path in measured:
        if path is None or not path.is_file():
            continue
        earlier = onnx.load_from_string(read_onnx(path))
        gate = {entry.key: entry.value for entry in earlier.metadata_props}.get(GATE_KEY)
        if gate and _graph_bytes(earlier) == _graph_bytes(model):
            with contextlib.suppress(ValueError):
                return read_gate(gate)
    raise GateError(
        f"{precision} of this file has never passed its gate: measure it with --faces FILE, which fer-train save-faces "
        "makes of FER2013's PublicTest"
    )


def _graph_bytes(model: onnx.ModelProto) -> bytes:
    return bytes(model.graph.SerializeToString(deterministic=True))


def _measure(fp32: ClassifierFile, model: onnx.ModelProto, crops: LabelledCrops) -> dict[str, Comparison]:
    """Compare the new file by each runtime with the float32 one by ONNX Runtime."""
    with tempfile.TemporaryDirectory() as folder:
        smaller = Path(folder) / "smaller.onnx"
        onnx.save(model, smaller)
        larger = Path(folder) / "larger.onnx"
        larger.write_bytes(fp32.content)
        expected = _predict(open_classifier(larger, ONNX_RUNTIME, threads=1), crops.faces)
        return {
            runtime: compare(expected, _predict(open_classifier(smaller, runtime, threads=1), crops.faces), crops)
            for runtime in RUNTIMES
        }


def _predict(classify: Classify, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    starts = range(0, len(faces), _GATE_BATCH)
    return np.concatenate(
        [classify(faces[start : start + _GATE_BATCH]) for start in tqdm(starts, leave=False, disable=None)]
    )


def _describe(
    model: onnx.ModelProto,
    fp32: ClassifierFile,
    precision: str,
    found: dict[str, Comparison],
    ranges: FeatureRanges | None,
) -> None:
    """Say in the metadata what the new file is, what it was made of and how its gate went."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    metadata.pop(METRICS_KEY, None)  # of the float32 file: this one's are in its gate
    metadata |= {
        contract.ONNX_VERSION_KEY: f"{metadata[contract.ONNX_VERSION_KEY]}-{precision}",
        PRECISION_KEY: precision,
        MADE_OF_KEY: fp32.sha256,
        GATE_KEY: write_gate(found),
    }
    if ranges is not None:
        metadata[INT8_RANGES_KEY] = json.dumps(ranges.describe())
    onnx.helper.set_model_props(model, metadata)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `fer-build quantize` and return its exit code."""
    parser = subcommand_parser(
        "fer-build quantize",
        description="Make an FP16 or INT8 file of a float32 classifier, if it keeps the accuracy.",
        examples="  fer-build quantize --precision int8 --faces faces/validation.npz",
        exit_codes=EXIT_CODES,
    )
    parser.add_argument("--precision", choices=SMALLER, required=True, help="of the file to make")
    parser.add_argument("--onnx", type=Path, default=RELEASED_ONNX, metavar="FILE", help="default: the released one")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: FILE_fp16 or FILE_int8 beside --onnx")
    parser.add_argument("--ranges", type=Path, metavar="FILE", help="of INT8; default: int8_ranges.json beside --onnx")
    parser.add_argument(
        "--faces", type=Path, metavar="FILE", help="measure the gate on these; default: as the released file did"
    )
    parser.add_argument("--dry-run", action="store_true", help="do all but write")
    options = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    print(
        quantize(
            options.onnx,
            options.precision,
            options.out or name_precision(options.onnx, options.precision),
            ranges=options.ranges,
            crops=options.faces and read_faces(options.faces),
            measured=name_precision(RELEASED_ONNX, options.precision),
            dry_run=options.dry_run,
        )
    )
