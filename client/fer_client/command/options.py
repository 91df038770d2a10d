"""What the parsers of all subcommands share: how help looks, and the values that options take."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from fer_client.command.ending import EXIT_CODES

Subcommands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What `add_subparsers` returns."""

LONGEST_S: Final = 86_400.0
"""A day, in seconds: the longest that the client waits."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Descriptions and examples as they are written, options in columns that are the same in every terminal."""

    def __init__(self, prog: str) -> None:
        """Set the width."""
        super().__init__(prog, max_help_position=28, width=96)


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
        commands: Of the parser of `fer-client`.
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
        epilog=f"examples:\n{examples}\n{EXIT_CODES}",
        formatter_class=HelpFormatter,
        allow_abbrev=False,  # `--token SECRET` must not be taken for `--token-file`.
    )
    parser.set_defaults(run=run, debug=False)
    return parser


def user_path(text: str) -> Path:
    """A path with `~` for the home folder. Where nobody knows that folder, as for users without an entry, it stays."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser fails there


def positive_int(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def seconds(text: str) -> float:
    """A time in seconds, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, more than 0 and at most {LONGEST_S:g}")
    return value
