"""Completion, asked of the shells themselves."""

import shutil
import subprocess
import sys

import pytest

from fer_client.cli import build_parser, main
from fer_client.command.completion import SHELLS, generate, script_of

COMMANDS = {"predict", "video", "health", "info", "bench", "completion"}


@pytest.fixture
def script(capsys, tmp_path):
    """The script for a shell, in a file."""

    def write(shell):
        assert main(["completion", shell]) == 0
        path = tmp_path / f"completion.{shell}"
        path.write_text(capsys.readouterr().out)
        return path

    return write


@pytest.fixture
def complete(script, tmp_path):
    """The words that a shell offers for the last one of a line, in a folder with a file and a folder."""
    folder = tmp_path / "here"
    (folder / "photos").mkdir(parents=True)
    (folder / "photo.jpg").write_bytes(b"photo")

    def run(shell, line):
        if not shutil.which(shell):
            pytest.skip(f"there is no {shell}: apt-get install {shell}")
        program = {"bash": BASH, "zsh": ZSH, "fish": FISH}[shell]
        command = [shell, *(["-f"] if shell == "zsh" else []), "-c", program, shell, str(script(shell)), line]
        if shell == "fish":
            command = ["fish", "--no-config", "-c", program, str(script(shell)), line]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
        return {word.split("\t")[0].rstrip("/") for word in done.stdout.splitlines() if word.strip()}

    return run


BASH = """
source "$1"
read -ra COMP_WORDS <<< "$2"; [[ $2 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_shtab_fer_client
printf '%s\\n' "${COMPREPLY[@]}"
"""

FISH = """
source $argv[1]
complete --do-complete $argv[2]
"""

# zsh completes in its line editor only: a pseudo-terminal is typed into, and what compadd would offer is printed.
ZSH = r"""
zmodload zsh/zpty
zpty z 'PS1= zsh -f -i'
zpty -w z "autoload -Uz compinit && compinit -u -D; source $1"
zpty -w z 'compadd() { local -a hits; builtin compadd -O hits "$@"; print -l -- "<"${^hits}">"; builtin compadd "$@" }'
zpty -w z 'finish() { zle complete-word; print THE"-"END }; zle -N finish; bindkey "^I" finish; print REA"D"Y'
zpty -r z ready '*READY*'
zpty -w -n z "$2"$'\t'
zpty -r z output '*THE-END*'
print -r -- "$output" | tr -d '\r' | grep -o '<[^<>]*>' | tr -d '<>'
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_are_offered(complete, shell):
    assert complete(shell, "fer-client ") >= COMMANDS


@pytest.mark.parametrize("shell", SHELLS)
def test_options_of_the_command_are_offered(complete, shell):
    words = complete(shell, "fer-client predict --j")
    assert {"--json", "--jsonl"} <= words
    assert "--wait" not in words


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fer-client health --protocol ", {"http", "grpc"}),
        ("fer-client info --compression ", {"gzip", "deflate"}),
        ("fer-client completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_values_are_offered(complete, shell, line, words):
    assert complete(shell, line) >= words


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "line", ["fer-client predict ", "fer-client predict --annotate ", "fer-client predict a.jpg ", "fer-client video "]
)
def test_files_are_offered(complete, shell, line):
    assert {"photo.jpg", "photos"} <= complete(shell, line)


@pytest.mark.parametrize("shell", SHELLS)
def test_no_file_is_offered_for_a_number(complete, shell):
    assert not {"photo.jpg", "photos"} & complete(shell, "fer-client predict --timeout ")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_scripts_are_those_of_today_s_options(shell):
    assert script_of(shell).read_text() == generate(build_parser(), shell), "make completion"


def test_every_option_is_in_every_script(script):
    options = {
        name.lstrip("-")
        for parser in build_parser()._subparsers._group_actions[0].choices.values()
        for action in parser._actions
        for name in action.option_strings
        if action.help != "==SUPPRESS=="
    }
    assert len(options) > 30
    for shell in SHELLS:
        text = script(shell).read_text()
        assert all(option in text for option in options)
        assert "--token " not in text
        assert "-l token " not in text


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_valid(script, shell):
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell}: apt-get install {shell}")
    subprocess.run([shell, "-n", str(script(shell))], check=True, capture_output=True, timeout=20)


def test_an_unknown_shell_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["completion", "tcsh"])
    assert "'tcsh' is none of bash, zsh, fish" in capsys.readouterr().err


def test_completing_loads_nothing_heavy():
    program = f"import sys; sys.path[:] = {sys.path!r}; from fer_client.cli import main; main(['completion', 'bash'])"
    check = "; assert not {'numpy', 'tritonclient', 'PIL', 'grpc'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", program + check], check=True, capture_output=True, timeout=30)
