"""`fer-client completion SHELL`: a script that completes words in bash, zsh or fish.

The scripts are static: no Python starts at each press of the tab key, and nothing has to be installed. shtab writes
them from the parser when an option has changed, by `make completion`; a test compares.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Final

from fer_client.command.options import Subcommands, add_command
from fer_commands.exit_codes import ExitCode

SHELLS: Final = ("bash", "zsh", "fish")

_SCRIPTS: Final = Path(__file__).with_name("completions")
_FILE_METAVARS: Final = re.compile(r"CAMERA|DIR|FILE|IMAGE|PATH")

_DESCRIPTION: Final = """\
Print a script that completes commands, options and file names in bash, zsh or fish. Load it
where your shell starts, as the examples show.
"""

_EXAMPLES: Final = """\
  bash   echo 'source <(fer-client completion bash)' >> ~/.bashrc
  zsh    echo 'source <(fer-client completion zsh)' >> ~/.zshrc      (after compinit)
  fish   fer-client completion fish > ~/.config/fish/completions/fer-client.fish
"""


def add_completion_command(commands: Subcommands) -> None:
    """Add `completion` to the commands."""
    parser = add_command(
        commands,
        "completion",
        summary="print a script that completes words in bash, zsh or fish",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell that reads the script")


def run(options: argparse.Namespace) -> int:
    """Print the script and return the exit code."""
    sys.stdout.write(script_of(options.shell).read_text(encoding="utf-8"))
    return ExitCode.OK


def script_of(shell: str) -> Path:
    """Return the file with a shell's script."""
    return _SCRIPTS / f"fer-client.{shell}"


def generate(parser: argparse.ArgumentParser, shell: str) -> str:
    """Make a shell's script anew. Needs shtab.

    Args:
        parser: Parser of the whole command line. It is changed: do not use it afterwards.
        shell: One of `SHELLS`.
    """
    import shtab  # Not at the top: only somebody who changes an option needs it.

    [commands] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for listed in commands._choices_actions:
        commands.choices[listed.dest].description = listed.help  # shtab would show the description's first line.
    for action in [action for command in commands.choices.values() for action in command._actions]:
        metavar = str(action.metavar)
        if _FILE_METAVARS.search(metavar):
            action.complete = shtab.FILE  # What shtab looks for.
        elif re.fullmatch(r"[a-z]+(\|[a-z]+)+", metavar):
            action.choices = metavar.split("|")
    script = shtab.complete(parser, shell)
    if shell == "zsh":
        # Of several files shtab completes the first alone, and it knows `eval "$(...)"` but not `source <(...)`.
        script = script.replace('"(*):', '"*:')
        script = script.replace("$zsh_eval_context[-1] == eval", "$zsh_eval_context[-1] != loadautofunc")
    return script if script.endswith("\n") else f"{script}\n"


def main() -> None:
    """Write all scripts anew."""
    from fer_client.cli import build_parser  # Not at the top: it imports this module.

    for shell in SHELLS:
        script_of(shell).write_text(generate(build_parser(), shell), encoding="utf-8")


if __name__ == "__main__":
    main()
