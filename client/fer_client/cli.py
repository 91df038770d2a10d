"""`fer-client`: the command line over `FerClient`, put together from the subcommands in `fer_client.command`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Final

from fer_client.command.bench import add_bench_command
from fer_client.command.completion import add_completion_command
from fer_client.command.connection import PRECEDENCE
from fer_client.command.options import EXIT_CODES, ClientParser
from fer_client.command.predict import add_predict_command
from fer_client.command.status import add_health_command, add_info_command
from fer_client.command.video import add_video_command
from fer_commands.exit_codes import describe
from fer_commands.messages import escape_what_cannot_be_encoded
from fer_commands.parser import HelpFormatter
from fer_commands.running import CommandError, run_command
from fer_commands.scripts import PrintVersion

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
    return run_command("fer-client", lambda: _run(options), debug=options.debug, when_interrupted="")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser: argparse.ArgumentParser = ClientParser(
        prog="fer-client",
        description=_DESCRIPTION,
        epilog=f"{_EXAMPLES}\n{PRECEDENCE}\n{describe(*EXIT_CODES)}",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=PrintVersion)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_predict_command(commands)
    add_video_command(commands)
    add_health_command(commands)
    add_info_command(commands)
    add_bench_command(commands)
    add_completion_command(commands)
    return parser


def _run(options: argparse.Namespace) -> int:
    """Run the chosen subcommand and return its exit code."""
    try:
        code: int = options.run(options)
    except MemoryError as error:
        message = "too little memory: name fewer or smaller pictures, or a lower --concurrency"
        raise CommandError(message) from error
    return code
