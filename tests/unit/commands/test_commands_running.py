"""How a command ends: exit codes and one line for every error, Ctrl-C and SIGTERM alike, a reader that leaves."""

import os
import signal
import subprocess
import sys
import time

import pytest

from fer_commands.exit_codes import MEANINGS, ExitCode, describe
from fer_commands.running import CommandError, run_command, terminable


class OddError(Exception):
    exit_code = 7


def failing(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (CommandError("no such thing"), 2, "no such thing"),
        (CommandError("the gate failed", ExitCode.CHECK_FAILED), 7, "the gate failed"),
        (OddError("of another room"), 7, "of another room"),
        (FileNotFoundError(2, "No such file or directory", "a\nb.png"), 2, "a\\nb.png: No such file or directory"),
        (MemoryError(), 1, "too little memory"),
        (
            KeyError("x"),
            70,
            "this is a defect of fer-build: KeyError: 'x'; please report it with what --debug shows",
        ),
    ],
)
def test_an_error_is_a_line_and_an_exit_code(capsys, error, code, line):
    assert run_command("fer-build plan", failing(error)) == code
    assert capsys.readouterr() == ("", f"fer-build plan: {line}\n")


def test_debug_shows_the_traceback_before_the_line(capsys):
    assert run_command("fer-build", failing(CommandError("no")), debug=True) == 2
    lines = capsys.readouterr().err.splitlines()
    assert (lines[0], lines[-1]) == ("Traceback (most recent call last):", "fer-build: no")


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (5, 5), (ExitCode.PARTIAL, 5)])
def test_what_the_work_returns_is_the_exit_code(returned, code):
    assert run_command("fer-build", lambda: returned) == code


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("said", ["interrupted", ""])
def test_ctrl_c_and_sigterm_are_130(capsys, kind, said):
    def work():
        os.kill(os.getpid(), kind)
        time.sleep(10)

    assert run_command("fer-build", work, when_interrupted=said) == 130
    assert capsys.readouterr() == ("", f"fer-build: {said}\n" if said else "")


def test_the_handler_of_sigterm_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with terminable():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


WRITES_FOR_EVER = """
import itertools, sys
sys.path[:] = {path!r}
from fer_commands.running import run_command
def work():
    for number in itertools.count():
        print(number)
sys.exit(run_command("fer-build", work))
"""


def test_a_reader_that_leaves_is_141_and_silent():
    program = WRITES_FOR_EVER.format(path=sys.path)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 141


def test_every_exit_code_has_a_meaning_and_help_can_name_some():
    assert set(MEANINGS) == set(ExitCode)
    text = describe(ExitCode.OK, ExitCode.CHECK_FAILED)
    assert text.startswith("exit codes:\n  0    ")
    assert "\n  7    " in text
    assert "\n  3    " not in text
    assert describe().count("\n") == 1 + len(ExitCode)
