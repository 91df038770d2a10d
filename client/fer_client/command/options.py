"""What all subcommands share: their parser, the values that options take, and lines on standard error."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePath
from typing import Final, TypeAlias

from fer_commands import messages
from fer_commands.exit_codes import ExitCode
from fer_commands.messages import printable
from fer_commands.parser import HelpFormatter, Parser, format_epilog

Subcommands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What `add_subparsers` returns."""

LONGEST_S: Final = 86_400.0
"""One day: the longest that the client waits."""

_VIDEOS: Final = (".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")

EXIT_CODES: Final = tuple(code for code in ExitCode if code != ExitCode.CHECK_FAILED)
"""Exit codes that `fer-client` ends with. It checks nothing that could fail a check."""

say = partial(messages.say, "fer-client")
"""Prints a line to standard error, with the command's name in front."""


class ClientParser(Parser):
    """The parser of `fer-client`, which knows that a file in a command's place was meant for `predict` or `video`."""

    def _command_for(self, word: str) -> str | None:
        extension = PurePath(word).suffix.lower()
        if extension in _VIDEOS or re.fullmatch(r"[0-9]", word):
            return f"did you mean {self.prog} video {shlex.quote(printable(word))}?"
        if os.path.exists(word) or extension or os.sep in word:  # noqa: PTH110 - takes any name
            return f"did you mean {self.prog} predict {shlex.quote(printable(word))}?"
        return super()._command_for(word)


def add_command(
    commands: Subcommands,
    name: str,
    *,
    summary: str,
    description: str,
    examples: str,
    run: Callable[..., int],
) -> argparse.ArgumentParser:
    """Add a subcommand whose `--help` needs no manual.

    Args:
        commands: Subcommands of the parser of `fer-client`.
        name: What the user types.
        summary: A few words for the list of commands.
        description: What it does and what happens to the pictures.
        examples: Command lines with a few words on each, indented by two.
        run: Called with the parsed options; returns the exit code.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=format_epilog(examples, *EXIT_CODES),
        formatter_class=HelpFormatter,
        allow_abbrev=False,  # `--token SECRET` must not be taken for `--token-file`.
    )
    parser.set_defaults(run=run, debug=False)
    return parser


def user_path(text: str) -> Path:
    """Return a path with `~` replaced by the home folder, where that is known."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser fails there


def positive_int(text: str) -> int:
    """Parse a whole number from 1 on, for argparse."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def seconds(text: str) -> float:
    """Parse a time in seconds, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, more than 0 and at most {LONGEST_S:g}")
    return value
