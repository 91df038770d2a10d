"""What the subcommands have in common: their options, and how a table is written."""

import argparse
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fer_bench.pictures import WORKLOADS, Workload, make_workload
from fer_commands.exit_codes import ExitCode
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command

_EXIT_CODES = (ExitCode.OK, ExitCode.FAILED, ExitCode.USAGE, ExitCode.INTERRUPTED)


def make_parser(
    name: str,
    description: str,
    *,
    rounds: int | None = None,
    seconds: float | None = None,
    in_flight: Sequence[int] = (),
    workloads: bool = False,
    repository: bool = False,
) -> argparse.ArgumentParser:
    """Return the parser of a subcommand, with those of the common options that are given a default here.

    Args:
        name: The subcommand's name.
        description: What it measures, for `--help`.
        rounds: Default of `--rounds`.
        seconds: Default of `--seconds`.
        in_flight: Default of `--in-flight`, a list of numbers.
        workloads: Whether `--workloads` chooses some of the pictures.
        repository: Whether `--repository` names what is served.
    """
    parser = subcommand_parser(f"python -m fer_bench {name}", description=description, exit_codes=_EXIT_CODES)
    if rounds is not None:
        parser.add_argument("--rounds", type=at_least_one, default=rounds, metavar="N", help="default: %(default)s")
    if seconds is not None:
        parser.add_argument(
            "--seconds", type=above_zero, default=seconds, metavar="S", help="of each cell; default: %(default)s"
        )
    if in_flight:
        levels = " ".join(map(str, in_flight))
        parser.add_argument(
            "--in-flight", type=at_least_one, nargs="+", default=list(in_flight), metavar="N", help=f"default: {levels}"
        )
    if workloads:
        parser.add_argument(
            "--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="NAME", help="default: all"
        )
    if repository:
        parser.add_argument("--repository", type=Path, metavar="DIR", help="default: the released model, assembled")
    return parser


def at_least_one(text: str) -> int:
    """Return a count that was given on the command line.

    Raises:
        argparse.ArgumentTypeError: It is no whole number, or below 1.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def above_zero(text: str) -> float:
    """Return a duration that was given on the command line.

    Raises:
        argparse.ArgumentTypeError: It is no number, or not above 0.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def run(parser: argparse.ArgumentParser, options: argparse.Namespace, work: Callable[[], None]) -> int:
    """Do the work of a subcommand. Return its exit code."""
    return run_command(parser.prog, work, debug=options.debug)


def choose_workloads(options: argparse.Namespace) -> list[Workload]:
    """Return the workloads that `--workloads` names."""
    return [make_workload(name) for name in WORKLOADS if name in options.workloads]


def describe_rounds(options: argparse.Namespace) -> str:
    """Return how long was measured, for the line under a table."""
    return f"{options.rounds} rounds of {options.seconds:g} s"


def format_markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def median(rounds: Iterable[object], name: str) -> float:
    """Return the median of one attribute of the measurements of several rounds."""
    return statistics.median(float(getattr(one, name)) for one in rounds)
