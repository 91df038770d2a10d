"""Prints what the released precisions keep of the accuracy, as the Markdown table of the README.

    python -m fer_build.tables

`fer_build.quantize` wrote the figures into the files. A test compares the README with this table.
"""

import json
import sys
from collections.abc import Iterator

from fer_build.command import run_command
from fer_build.gates import read_gate
from fer_build.onnx_file import GATE_KEY, METRICS_KEY, read_classifier
from fer_build.release import RELEASED_ONNX, SMALLER, WHOLE, name_precision

_HEADER = ("precision", "by", "size", "accuracy", "accuracy lost", "macro-F1 lost", "same answer as FP32")


def format_precisions() -> str:
    """A row for each released file and runtime.

    Raises:
        ContractError: a released file is missing or doesn't fit the contract.
    """
    rows = [_HEADER, ("---",) * len(_HEADER), *_list_rows()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _list_rows() -> Iterator[tuple[str, ...]]:
    for precision in (WHOLE, *SMALLER):
        path = name_precision(RELEASED_ONNX, precision)
        metadata = read_classifier(path).metadata
        size = f"{path.stat().st_size / 1e6:.1f} MB"
        if precision == WHOLE:
            accuracy = json.loads(metadata[METRICS_KEY])["accuracy"]
            yield precision.upper(), "either", size, f"{100 * accuracy:.2f} %", "", "", ""
            continue
        for runtime, found in read_gate(metadata[GATE_KEY]).items():
            yield (
                precision.upper(),
                runtime,
                size,
                f"{100 * found.accuracy:.2f} %",
                f"{100 * found.accuracy_lost:.2f} points",
                f"{found.macro_f1_lost:.4f}",
                f"{100 * found.agreement:.2f} %",
            )


def main() -> int:
    """The command; returns its exit status."""
    return run_command("fer_build.tables", lambda: print(format_precisions()))


if __name__ == "__main__":
    sys.exit(main())
