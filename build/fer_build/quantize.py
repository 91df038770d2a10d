"""Makes the FP16 and INT8 files of a float32 classifier, and lets only those out that keep its accuracy.

    python -m fer_build.quantize --precision fp16|int8 [--onnx FILE] [--out FILE] [--faces validation.npz]

With faces (`fer-train save-faces` makes the file) the gate is measured, by each runtime that may serve the
result: they round differently. Without, it must have been before: a released file with the very same graph tells how
it went. Either way the figures stand in the new file's metadata.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from tqdm import tqdm

import fer_contract as contract
from fer_build.command import EXIT_STATUSES, run_command
from fer_build.errors import CalibrationError, ContractError, FacesFileError, GateError
from fer_build.faces_file import LabelledCrops, read_faces
from fer_build.gates import Comparison, compare, format_table, read_gate, require, write_gate
from fer_build.half import to_half
from fer_build.int8 import Calibration, read_calibration, to_int8
from fer_build.onnx_file import (
    CALIBRATION_KEY,
    GATE_KEY,
    MADE_OF_KEY,
    METRICS_KEY,
    PRECISION_KEY,
    ClassifierFile,
    read_whole_classifier,
)
from fer_build.onnx_parts import read_onnx
from fer_build.release import INT8, RELEASED_ONNX, SMALLER, name_calibration, name_precision
from fer_build.whole_file import write_whole
from fer_runtimes import ONNX_RUNTIME, RUNTIMES, Classify, open_classifier

_GATE_BATCH: Final = 64


def quantize(
    onnx_path: Path,
    precision: str,
    out: Path,
    *,
    calibration: Path | None = None,
    crops: LabelledCrops | None = None,
    measured: Path | None = None,
    dry_run: bool = False,
) -> str:
    """Writes a smaller file beside a float32 one.

    Args:
        onnx_path: the float32 classifier.
        precision: `fp16` or `int8`.
        out: the file to write. It is left alone if it is this already.
        calibration: for `int8`: made by `fer_build.calibrate` from `onnx_path`; None takes the one beside that.
        crops: validation faces to measure the gate on; None takes the figures of `measured`.
        measured: an earlier file of this graph whose gate was measured.
        dry_run: whether to do all but write.

    Returns:
        What was done, for people: a line and the gate's table.

    Raises:
        ContractError: the float32 file doesn't fit the contract, or is not float32, or can't be made half.
        CalibrationError: the calibration is missing or of another file.
        FacesFileError: the faces to measure on are those of the calibration.
        GateError: the file lost too much, or nothing was ever measured. Nothing is written then.
    """
    whole = read_whole_classifier(onnx_path)
    if out.resolve() == onnx_path.resolve():
        raise ContractError(f"{out}: would replace the float32 file; give another --out")
    ranges = None
    if precision == INT8:
        ranges = _read_ranges(calibration or name_calibration(onnx_path), whole)
    if ranges is not None and crops is not None and crops.sha256() == ranges.faces_sha256:
        raise FacesFileError("the gate can't be measured on the faces of the calibration: give the validation faces")
    model = _convert(onnx.load_from_string(whole.content), whole, ranges)
    found = _recall(model, precision, [out, measured]) if crops is None else _measure(whole, model, crops)
    require(precision, found)
    _describe(model, whole, precision, found, ranges)
    content = model.SerializeToString(deterministic=True)
    tables = [format_table(precision, runtime, comparison) for runtime, comparison in found.items()]
    table = "\n".join([f"{len(content) / 1e6:.1f} MB", *tables])
    if out.is_file() and out.read_bytes() == content:
        return f"{out} is up to date: {table}"
    if dry_run:
        return f"would write {out}: {table}"
    write_whole(out, content)
    return f"wrote {out}: {table}"


def _read_ranges(path: Path, whole: ClassifierFile) -> Calibration:
    calibration = read_calibration(path)
    if calibration.onnx_sha256 != whole.sha256:
        raise CalibrationError(
            f"{path}: measured in another file than {whole.path}; run fer_build.calibrate on this one"
        )
    return calibration


def _convert(model: onnx.ModelProto, whole: ClassifierFile, ranges: Calibration | None) -> onnx.ModelProto:
    """To INT8 with ranges, else to FP16."""
    try:
        return to_half(model) if ranges is None else to_int8(model, ranges)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        reason = " ".join(str(error).split())
        precision = "half" if ranges is None else INT8
        raise ContractError(f"{whole.path}: this graph can't be made {precision}: {reason}") from error


def _recall(model: onnx.ModelProto, precision: str, measured: Iterable[Path | None]) -> dict[str, Comparison]:
    """The figures in an earlier file's metadata, by runtime, if its graph is the same to the bit."""
    for path in measured:
        if path is None or not path.is_file():
            continue
        earlier = onnx.load_from_string(read_onnx(path))
        gate = {entry.key: entry.value for entry in earlier.metadata_props}.get(GATE_KEY)
        if gate and _graph_bytes(earlier) == _graph_bytes(model):
            with contextlib.suppress(ValueError):
                return read_gate(gate)
    raise GateError(
        f"{precision} of this file has never passed its gate: measure it with --faces FILE, which "
        "fer-train save-faces makes of FER2013's PublicTest"
    )


def _graph_bytes(model: onnx.ModelProto) -> bytes:
    return bytes(model.graph.SerializeToString(deterministic=True))


def _measure(whole: ClassifierFile, model: onnx.ModelProto, crops: LabelledCrops) -> dict[str, Comparison]:
    """Compares the new file by each runtime with the float32 one by ONNX Runtime."""
    with tempfile.TemporaryDirectory() as folder:
        smaller = Path(folder) / "smaller.onnx"
        onnx.save(model, smaller)
        larger = Path(folder) / "larger.onnx"
        larger.write_bytes(whole.content)
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
    whole: ClassifierFile,
    precision: str,
    found: dict[str, Comparison],
    ranges: Calibration | None,
) -> None:
    """Says in the metadata what the new file is, what it was made of and how its gate went."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    metadata.pop(METRICS_KEY, None)  # of the float32 file: this one's are in its gate
    metadata |= {
        contract.ONNX_VERSION_KEY: f"{metadata[contract.ONNX_VERSION_KEY]}-{precision}",
        PRECISION_KEY: precision,
        MADE_OF_KEY: whole.sha256,
        GATE_KEY: write_gate(found),
    }
    if ranges is not None:
        metadata[CALIBRATION_KEY] = json.dumps(ranges.describe())
    onnx.helper.set_model_props(model, metadata)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_build.quantize",
        description="Make an FP16 or INT8 file of a float32 classifier, if it keeps the accuracy.",
        epilog=EXIT_STATUSES,
    )
    parser.add_argument("--precision", choices=SMALLER, required=True)
    parser.add_argument("--onnx", type=Path, default=RELEASED_ONNX, metavar="FILE", help="default: the released one")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: FILE_fp16 or FILE_int8 beside --onnx")
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE", help="of INT8; default: calibration.json beside --onnx"
    )
    parser.add_argument(
        "--faces", type=Path, metavar="FILE", help="measure the gate on these (default: as the released file did)"
    )
    parser.add_argument("--dry-run", action="store_true", help="do all but write")
    options = parser.parse_args(arguments)
    return run_command("fer_build.quantize", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    print(
        quantize(
            options.onnx,
            options.precision,
            options.out or name_precision(options.onnx, options.precision),
            calibration=options.calibration,
            crops=options.faces and read_faces(options.faces),
            measured=name_precision(RELEASED_ONNX, options.precision),
            dry_run=options.dry_run,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
