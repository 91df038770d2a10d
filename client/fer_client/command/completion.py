"""`fer-client completion SHELL`: a script that completes words, made of the parser itself.

The script is static: no Python starts at each press of the tab key, and nothing has to be installed. Made anew after an
update, it knows what is new.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fer_client.command.options import Subcommands, add_command
from fer_commands.exit_codes import ExitCode

_DESCRIPTION: Final = """\
Print a script that completes commands, options and file names in bash, zsh or fish. Load it
where your shell starts, as the examples show.
"""

_EXAMPLES: Final = """\
  bash   echo 'source <(fer-client completion bash)' >> ~/.bashrc
  zsh    echo 'source <(fer-client completion zsh)' >> ~/.zshrc      (after compinit)
  fish   fer-client completion fish > ~/.config/fish/completions/fer-client.fish
"""

_FILE_METAVARS: Final = ("CAMERA", "DIR", "FILE", "IMAGE", "PATH", "VIDEO")


@dataclass(frozen=True)
class _Word:
    """An option or a positional argument.

    Attributes:
        names: `--json` and the like; empty for a positional argument.
        help: For people.
        takes_value: Whether a word follows.
        choices: All words that can follow, where they are known.
        is_file: Whether a file or folder can follow.
    """

    names: Sequence[str]
    help: str
    takes_value: bool
    choices: Sequence[str]
    is_file: bool


@dataclass(frozen=True)
class _Command:
    name: str
    help: str
    words: Sequence[_Word]

    @property
    def options(self) -> list[_Word]:
        return [word for word in self.words if word.names]

    @property
    def arguments(self) -> list[_Word]:
        return [word for word in self.words if not word.names]


def add_completion_command(commands: Subcommands, root: argparse.ArgumentParser) -> None:
    """Add `completion` to the commands. `root` is the parser of all of `fer-client`."""

    def run(options: argparse.Namespace) -> int:
        sys.stdout.write(_SHELLS[options.shell](_read_parser(root)))
        return ExitCode.OK

    parser = add_command(
        commands,
        "completion",
        summary="print a script that completes words in bash, zsh or fish",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        run=run,
    )
    parser.add_argument("shell", choices=_SHELLS, help="the shell that reads the script")


def _read_parser(root: argparse.ArgumentParser) -> list[_Command]:
    """What the parser knows: the root's own options as a command without a name, then the subcommands."""
    [subparsers] = [action for action in root._actions if isinstance(action, argparse._SubParsersAction)]
    helps = {action.dest: action.help or "" for action in subparsers._choices_actions}
    return [
        _Command("", "", _read_words(root)),
        *(_Command(name, helps[name], _read_words(parser)) for name, parser in subparsers.choices.items()),
    ]


def _read_words(parser: argparse.ArgumentParser) -> list[_Word]:
    return [
        _Word(
            names=action.option_strings,
            help=(action.help or "") % vars(action),
            takes_value=action.nargs != 0,
            choices=_choices(action),
            is_file=str(action.metavar) in _FILE_METAVARS,
        )
        for action in parser._actions
        if action.help != argparse.SUPPRESS and not isinstance(action, argparse._SubParsersAction)
    ]


def _choices(action: argparse.Action) -> list[str]:
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    metavar = str(action.metavar)
    return metavar.split("|") if re.fullmatch(r"[a-z]+(\|[a-z]+)+", metavar) else []


def _bash(commands: Sequence[_Command]) -> str:
    names = [command.name for command in commands if command.name]
    cases = "\n".join(_bash_case(command) for command in commands if command.name)
    values = "\n".join(
        f"        {command.name}:{name}) {_bash_value(word)} ;;"
        for command in commands
        for word in command.options
        if word.takes_value
        for name in word.names
    )
    root = " ".join(name for word in commands[0].options for name in word.names)
    return f"""\
_fer_client() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command= word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case $word in {"|".join(names)}) command=$word; break ;; esac
    done
    COMPREPLY=()
    case $command:$previous in
{values}
    esac
    case $command in
{cases}
        *) _fer_client_words "{" ".join(names)} {root}" ;;
    esac
}}
_fer_client_words() {{ mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current"); }}
_fer_client_files() {{ compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$current"); }}
complete -F _fer_client fer-client
"""


def _bash_value(word: _Word) -> str:
    if word.choices:
        return f'_fer_client_words "{" ".join(word.choices)}"; return'
    return "_fer_client_files; return" if word.is_file else "return"


def _bash_case(command: _Command) -> str:
    options = " ".join(name for word in command.options for name in word.names)
    choices = " ".join(choice for word in command.arguments for choice in word.choices)
    if not any(word.is_file for word in command.arguments):
        return f'        {command.name}) _fer_client_words "{choices} {options}" ;;'
    return (
        f'        {command.name}) if [[ $current == -* ]]; then _fer_client_words "{options}"; '
        "else _fer_client_files; fi ;;"
    )


def _zsh(commands: Sequence[_Command]) -> str:
    named = [command for command in commands if command.name]
    listed = " ".join(_quoted(f"{command.name}:{command.help}") for command in named)
    cases = "\n".join(f"        {command.name}) _arguments -s {' '.join(_zsh_specs(command))} ;;" for command in named)
    return f"""\
#compdef fer-client
_fer_client() {{
    local context state state_descr line
    typeset -A opt_args
    _arguments -C {" ".join(_zsh_specs(commands[0]))} '1:command:->command' '*::argument:->argument' && return
    case $state in
    command) local -a commands=({listed}); _describe command commands ;;
    argument)
        case $words[1] in
{cases}
        esac ;;
    esac
}}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _fer_client "$@"; else compdef _fer_client fer-client; fi
"""


def _zsh_specs(command: _Command) -> list[str]:
    specs = []
    for word in command.words:
        text = re.sub(r"([\[\]:\\])", r"\\\1", word.help)
        value = f"({' '.join(word.choices)})" if word.choices else "_files" if word.is_file else ""
        for name in word.names:
            specs.append(_quoted(f"*{name}[{text}]" + (f":value:{value}" if word.takes_value else "")))
        if not word.names:
            specs.append(_quoted(f"*:{'file' if word.is_file else 'value'}:{value}"))
    return specs


def _fish(commands: Sequence[_Command]) -> str:
    names = " ".join(command.name for command in commands if command.name)
    lines = ["complete -c fer-client -f"]
    for command in commands:
        seen = f"__fish_seen_subcommand_from {command.name or names}"
        if command.name:
            lines.append(_fish_line(f"not __fish_seen_subcommand_from {names}", f"-a {command.name}", command.help))
        for word in command.words:
            condition = seen if command.name else f"not {seen}"
            lines += _fish_word(condition, word)
    return "\n".join(lines) + "\n"


def _fish_word(condition: str, word: _Word) -> list[str]:
    if word.choices:
        value = f"-x -a {_quoted(' '.join(word.choices))}"
    elif word.is_file:
        value = "-r -F"
    else:
        value = "-x" if word.takes_value else ""
    if not word.names:
        return [_fish_line(condition, value.replace("-x ", "").replace("-r ", ""), "")] if value else []
    flags = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in word.names)
    return [_fish_line(condition, f"{flags} {value}".rstrip(), word.help)]


def _fish_line(condition: str, what: str, text: str) -> str:
    description = f" -d {_quoted(text)}" if text else ""
    return f"complete -c fer-client -n {_quoted(condition)} {what}{description}"


def _quoted(text: str) -> str:
    """Text as one word, for all three shells."""
    return shlex.quote(text)


_SHELLS: Final[dict[str, Callable[[Sequence[_Command]], str]]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
