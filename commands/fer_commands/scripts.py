"""A console script of several subcommands, each of which is loaded only when it is chosen.

The modules behind them import what an extra of the distribution brings. So `--help` and a mistyped word answer at once,
and where something is not installed one line says how to install it, instead of a traceback.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fer_commands.exit_codes import ExitCode
from fer_commands.messages import escape_what_cannot_be_encoded, say
from fer_commands.parser import HelpFormatter, Parser, format_epilog


@dataclass(frozen=True)
class Subcommand:
    """What a script needs to know of a subcommand before it is loaded."""

    summary: str
    """A few words for the list of subcommands."""
    module: str
    """Has `main(arguments: Sequence[str]) -> int`, which parses what follows the subcommand's name."""


@dataclass(frozen=True)
class Script:
    """A console script: its name, its subcommands, and how to install what they need."""

    name: str
    """As the user types it."""
    description: str
    """One to three sentences for `--help`."""
    subcommands: Mapping[str, Subcommand]
    extra: str
    """The extra of the distribution that brings what the subcommands import."""
    default: str = ""
    """The subcommand that is meant where none is named; empty where one has to be."""
    examples: str = ""
    """Command lines for `--help`, indented by two."""

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run the script.

        Args:
            arguments: What follows the script's name; None takes the process's own.

        Returns:
            The subcommand's exit code, or `ExitCode.FAILED` where a library that it needs is not installed.

        Raises:
            SystemExit: argparse printed the help or a usage error.
        """
        escape_what_cannot_be_encoded()
        words = list(sys.argv[1:] if arguments is None else arguments)
        if words and words[0] in self.subcommands:
            return self._run(words[0], words[1:])
        if self.default and not {"--help", "-h", "--version"} & set(words[:1]) and (not words or words[0][:1] == "-"):
            return self._run(self.default, words)
        self._parser().parse_args(words)
        raise AssertionError("the parser ends the process: no subcommand is among the words")

    def _run(self, name: str, words: Sequence[str]) -> int:
        try:
            module = importlib.import_module(self.subcommands[name].module)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("fer_"):  # One of our own: a defect, and no extra brings it.
                raise
            say(f"{self.name} {name}", f"{error.name} is not installed: pip install 'fer-triton[{self.extra}]'")
            return ExitCode.FAILED
        code: int = module.main(words)
        return code

    def _parser(self) -> argparse.ArgumentParser:
        """Return the parser for everything but a subcommand: help, version, and what is mistyped."""
        parser = Parser(
            prog=self.name,
            description=self.description,
            epilog=format_epilog(self.examples),
            formatter_class=HelpFormatter,
            allow_abbrev=False,
        )
        parser.add_argument("--version", action=PrintVersion)
        commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
        for name, subcommand in self.subcommands.items():
            note = " (the default)" if name == self.default else ""
            commands.add_parser(name, help=subcommand.summary + note, add_help=False)
        return parser


class PrintVersion(argparse.Action):
    """`--version`. The version is looked up only when it is asked for: that takes longer than all the rest."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        """Take no value."""
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        """Print the version and end."""
        sys.stdout.write(f"{parser.prog} {importlib.metadata.version('fer-triton')}\n")
        parser.exit()
