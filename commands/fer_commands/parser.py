"""The parser of every command: argparse with one layout of help and clearer words about a wrong command line.

The usage of the command at hand is printed, in one line; a mistyped word gets the one that was probably meant; and no
message repeats a value behind an option that does not exist, because it may be a secret.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from fer_commands.exit_codes import ANY_COMMAND, ExitCode, describe
from fer_commands.messages import closest, did_you_mean, one_line, printable


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Descriptions and examples as they are written, options in columns that are the same in every terminal."""

    def __init__(self, prog: str) -> None:
        """Set the width."""
        super().__init__(prog, max_help_position=28, width=96)


class Parser(argparse.ArgumentParser):
    """A parser of the whole command line, or of a subcommand's part of it."""

    def parse_known_args(  # type: ignore[override]  # argparse's has overloads, which all come to this
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse as argparse does, but report unknown words here: the parser above would know less about them."""
        words = list(sys.argv[1:] if args is None else args)
        self._check_options(words)
        options, rest = super().parse_known_args(words, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(map(printable, rest))}")
        return options, rest

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, a line each, and end with exit code 2."""
        formatter = self._get_formatter()
        formatter.add_usage(None, self._get_positional_actions(), [])
        usage = formatter.format_help()
        if not self._commands():
            usage = usage.replace(self.prog, f"{self.prog} [OPTION ...]", 1)
        message = re.sub(r"ignored explicit argument (.*)", r"takes no value, and \1 is one", message)
        help_at = "" if "--help" in message else f" (see {self.prog} --help)"
        self.exit(ExitCode.USAGE, f"{usage.strip()}\n{self.prog}: {one_line(message)}{help_at}\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Make sure that a value is one of an action's choices, with a clearer message than argparse's.

        Raises:
            ArgumentError: It is not.
        """
        if action.choices is None or value in action.choices:
            return
        choices = list(map(str, action.choices))
        if isinstance(action, argparse._SubParsersAction):
            self.error(f"{printable(value)} is not a command: {self._command_for(value) or ', '.join(choices)}")
        raise argparse.ArgumentError(action, f"{value!r} is none of {', '.join(choices)}{did_you_mean(value, choices)}")

    def _commands(self) -> dict[str, argparse.ArgumentParser]:
        """Return the parsers of the subcommands; empty in the parser of a subcommand."""
        return {
            name: parser
            for action in self._actions
            if isinstance(action, argparse._SubParsersAction)
            for name, parser in action.choices.items()
        }

    def _options(self) -> list[str]:
        """Return the options that the help names."""
        return [name for action in self._actions if action.help != argparse.SUPPRESS for name in action.option_strings]

    def _check_options(self, words: Sequence[str]) -> None:
        """End with an error at an option that does not exist, before argparse misses something else because of it."""
        commands = self._commands()
        if commands:  # What is behind the command is the command's.
            words = list(itertools.takewhile(lambda word: word.startswith("-"), words))
        for word in itertools.takewhile(lambda word: word != "--", words):
            option = word.partition("=")[0]
            if option.startswith("--") and option not in self._option_string_actions:
                if any(option in parser._option_string_actions for parser in commands.values()):
                    self.error(f"{option} belongs after the command: {self.prog} COMMAND {option} ...")
                self.error(f"unrecognized arguments: {printable(option)}{did_you_mean(option, self._options())}")
            if word.startswith("-") and word not in self._option_string_actions and os.path.isfile(word):  # noqa: PTH113 - takes any name
                self.error(f"a file whose name starts with - is written ./{printable(word)}")

    def _command_for(self, word: str) -> str | None:
        """Return a question with the command that a word in a command's place was meant to be, or None."""
        found = closest(word, [*self._commands(), *self._options()])
        return f"did you mean {self.prog} {found}?" if found else None


def format_epilog(examples: str, *exit_codes: ExitCode) -> str:
    """Return what stands at the end of a help text: examples, if there are any, and exit codes.

    Args:
        examples: Command lines with a few words on each, indented by two.
        exit_codes: The codes that the command ends with, besides those that `run_command` gives to any command; none
            for all of them.
    """
    if exit_codes:
        exit_codes = tuple(sorted({*exit_codes, *ANY_COMMAND}))
    shown = f"examples:\n{examples.rstrip()}\n\n" if examples else ""
    return f"{shown}{describe(*exit_codes)}"


def subcommand_parser(
    prog: str, *, description: str, examples: str = "", exit_codes: Sequence[ExitCode] = ()
) -> argparse.ArgumentParser:
    """Return the parser of a subcommand that `scripts.Script` loads. It has `--debug`, for `running.run_command`.

    Args:
        prog: As the user typed it: `fer-build quantize`.
        description: What the subcommand does, for `--help`.
        examples: Command lines with a few words on each, indented by two.
        exit_codes: The codes that the subcommand ends with; none for all of them.
    """
    parser: argparse.ArgumentParser = Parser(
        prog=prog,
        description=description,
        epilog=format_epilog(examples, *exit_codes),
        formatter_class=HelpFormatter,
        allow_abbrev=False,  # `--token SECRET` must not be taken for `--token-file`.
    )
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    return parser
