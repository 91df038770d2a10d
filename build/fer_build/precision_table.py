"""What the released precisions keep of the accuracy, as a Markdown table: `fer-build tables`.

`fer-build quantize` wrote the figures into the files. A test compares the documents with this table.
"""

import json
from collections.abc import Iterator, Sequence

from fer_build.classifier_file import GATE_KEY, METRICS_KEY, read_classifier
from fer_build.errors import EXIT_CODES
from fer_build.gates import read_gate
from fer_build.release import FP32, RELEASED_ONNX, SMALLER, name_precision
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command

_HEADER = ("precision", "by", "size", "accuracy", "accuracy lost", "macro-F1 lost", "same answer as FP32")


def format_precisions() -> str:
    """Return a row for each released file and runtime.

    Raises:
        ContractError: A released file is missing or does not fit the contract.
    """
    rows = [_HEADER, ("---",) * len(_HEADER), *_list_rows()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _list_rows() -> Iterator[tuple[str, ...]]:
    for precision in (FP32, *SMALLER):
        path = name_precision(RELEASED_ONNX, precision)
        metadata = read_classifier(path).metadata
        size = f"{path.stat().st_size / 1e6:.1f} MB"
        if precision == FP32:
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `fer-build tables` and return its exit code."""
    parser = subcommand_parser(
        "fer-build tables",
        description="Print what the released precisions keep of the accuracy, as Markdown.",
        exit_codes=EXIT_CODES,
    )
    options = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: print(format_precisions()), debug=options.debug)
