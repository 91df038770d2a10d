"""`fer-loadtest run`: check the options and become Locust, which makes the load by `locustfile.py`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fer_commands.exit_codes import ExitCode
from fer_commands.messages import say
from fer_commands.parser import subcommand_parser
from fer_commands.running import CommandError
from fer_loadtest.options import add_options, read_options

if importlib.util.find_spec("locust") is None:
    raise ModuleNotFoundError(name="locust")  # `Script` says how to install it.

LOCUSTFILE: Final = Path(__file__).resolve().with_name("locustfile.py")
EXIT_CODES: Final = (
    ExitCode.OK,
    ExitCode.FAILED,
    ExitCode.USAGE,
    ExitCode.UNREACHABLE,
    ExitCode.REFUSED,
    ExitCode.FORBIDDEN,
    ExitCode.CHECK_FAILED,
    ExitCode.INTERRUPTED,
)

_DESCRIPTION: Final = """\
Load a server with pictures, check every answer, and write a report: report.html, report.json,
levels.csv, seconds.csv.

shapes:
  steps     more and more load, to find the knee; --levels 1,2,4,8,16 or --rates 10,20,40
  soak      the same load for an hour, or --level-s
  spike     usual load, a spike, usual load again; --levels 2,64 or --rates 5,200
  arrivals  a constant rate of arrivals that wait for nobody; latency counts from when a
            request was meant to be sent (no coordinated omission); --rates 10
  capacity  the highest rate of arrivals that holds --objective-p99-ms, by bisection

Thresholds judge a spike by what is before and after it. Options of Locust that are not listed
here follow two dashes: fer-loadtest run --preset ci -- --loglevel DEBUG
"""
_EXAMPLES: Final = """\
  fer-loadtest --preset ci
  fer-loadtest run --url http://localhost:8000 --levels 1,2,4,8 --level-s 20
  fer-loadtest run --shape arrivals --rates 20 --p99-ms 250 --max-error-percent 0.1
  fer-loadtest run --shape soak --pictures my-photos --level-s 7200 --processes 2
"""


def main(arguments: Sequence[str]) -> int:
    """Run the subcommand.

    Args:
        arguments: The words after the subcommand's name.

    Raises:
        SystemExit: argparse printed the help or a usage error. Where a test is run, Locust ends the process.
    """
    return become_locust(build_parser(), arguments)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the subcommand."""
    parser = subcommand_parser("fer-loadtest run", description=_DESCRIPTION, examples=_EXAMPLES, exit_codes=EXIT_CODES)
    add_options(parser)
    add_locusts_options(parser)
    return parser


def add_locusts_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of Locust that spread a load over several processes, and shorten the usage."""
    parser.usage = "%(prog)s [OPTION ...]"
    workers = parser.add_argument_group("more than one process")
    workers.add_argument("--processes", type=int, metavar="N", help="start N workers on this machine")
    workers.add_argument("--master", action="store_true", help="lead workers that are started on other machines")
    workers.add_argument("--expect-workers", type=int, metavar="N", help="wait for N workers (default: 1)")
    workers.add_argument("--worker", action="store_true", help="send what a master says")
    workers.add_argument("--master-host", default="127.0.0.1", metavar="HOST", help="address of a worker's master")
    workers.add_argument("--master-port", type=int, default=5557, metavar="PORT", help="its port (default: 5557)")
    workers.add_argument("--master-bind-host", metavar="HOST", help="address that a master listens at (default: all)")
    workers.add_argument("--master-bind-port", type=int, metavar="PORT", help="port that it listens at (default: 5557)")


def become_locust(parser: argparse.ArgumentParser, words: Sequence[str], *fixed: str) -> int:
    """Check a command line and replace this process by Locust's.

    Args:
        parser: Parser of the command line.
        words: Words that the user gave.
        fixed: Options that the subcommand adds before them.
    """
    end = words.index("--") if "--" in words else len(words)
    ours = [*fixed, *words[:end]]
    given = parser.parse_args(ours)
    if given.worker:  # Its options come from the master. Locust is silent while it looks for one that is not there.
        say(parser.prog, f"a worker of the master at {given.master_host}:{given.master_port}")
    else:
        try:
            read_options(given)
        except CommandError as error:
            parser.error(str(error))
    quiet = ["--skip-log-setup"] if given.worker else ["--headless", "--only-summary", "--skip-log-setup"]
    for_locust = [word for word in [*ours, *words[end + 1 :]] if word != "--debug"]
    sys.stdout.flush()
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *quiet, *for_locust]
    return os.execv(sys.executable, command)  # noqa: S606 - so that signals reach Locust itself
