"""`fer-client`: the command line over `FerClient`, put together from `fer_client.command` and `fer_client.video`."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final

from fer_client._errors import FerClientError, MissingExtraError
from fer_client.command.bench import add_bench_command
from fer_client.command.completion import add_completion_command
from fer_client.command.ending import (
    EXIT_CODES,
    EXIT_DEFECT,
    EXIT_INTERRUPTED,
    EXIT_PIPE,
    EXIT_USAGE,
    CommandError,
    escape_what_cannot_be_encoded,
    exit_code_of,
    printable,
    say,
)
from fer_client.command.health import add_health_command
from fer_client.command.info import add_info_command
from fer_client.command.options import HelpFormatter
from fer_client.command.parser import Parser
from fer_client.command.predict import add_predict_command
from fer_client.command.settings import PRECEDENCE
from fer_client.video.command import add_video_command

_DESCRIPTION: Final = """\
Apparent facial expressions, by a Triton server that serves the model `fer`, from the command
line. What comes back is how an annotator would label the picture. It is not what a person feels.
"""

_EXAMPLES: Final = """\
examples:
  fer-client predict photo.jpg --url http://localhost:8000
  fer-client predict photos --annotate drawn
  fer-client COMMAND --help        options and examples of a command
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: What follows the command's name; None takes the process's own.

    Returns:
        The exit code that `--help` documents.

    Raises:
        SystemExit: argparse printed the help (code 0) or a usage error (code 2).
    """
    escape_what_cannot_be_encoded()
    options = build_parser().parse_args(arguments)
    if not options.debug:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's library would add lines of its own to standard error.
    try:
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return EXIT_PIPE
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        return _fail(error)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser: argparse.ArgumentParser = Parser(
        prog="fer-client",
        description=_DESCRIPTION,
        epilog=f"{_EXAMPLES}\n{PRECEDENCE}\n{EXIT_CODES}",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_PrintVersion, help="print the version of fer-client")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_predict_command(commands)
    add_video_command(commands)
    add_health_command(commands)
    add_info_command(commands)
    add_bench_command(commands)
    add_completion_command(commands, parser)
    return parser


def _fail(error: Exception) -> int:
    """Say in one line what went wrong; returns the exit code."""
    if isinstance(error, CommandError):
        say(error)
        return error.exit_code
    if isinstance(error, FerClientError):
        say(error)
        return exit_code_of(error)
    if isinstance(error, OSError) and error.filename is not None:
        say(f"{printable(error.filename)}: {error.strerror}")
        return EXIT_USAGE
    if isinstance(error, OSError):  # Of what has no name: standard output.
        _discard_output()
        say(f"cannot write the output: {error.strerror or error}")
        return EXIT_USAGE
    if isinstance(error, MissingExtraError):
        say(error)
        return EXIT_USAGE
    if isinstance(error, MemoryError):
        say("too little memory: name fewer or smaller pictures, or a lower --concurrency")
        return EXIT_USAGE
    say(f"this is a defect of fer-client: {type(error).__name__}: {error}; please report it with what --debug shows")
    return EXIT_DEFECT


def _discard_output() -> None:
    """Send what is still buffered nowhere: Python would fail at it again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _PrintVersion(argparse.Action):
    """`--version`. The version is looked up when it is asked for only: that takes longer than all the rest."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        sys.stdout.write(f"fer-client {importlib.metadata.version('fer-triton')}\n")
        parser.exit()
