"""What every command of the room does with an error: one line and an exit code."""

import io
import sys

import pytest

from fer_training.command import run_command
from fer_training.errors import DataError


def fail_with(error):
    def work():
        raise error

    return work


def run(capsys, error, **options):
    exit_code = run_command("fer_training.train", fail_with(error), **options)
    return exit_code, capsys.readouterr().err


def test_a_command_that_succeeds_prints_nothing_more(capsys):
    assert run_command("fer_training.train", lambda: None) == 0
    assert capsys.readouterr().err == ""


def test_what_the_user_can_put_right_is_one_line(capsys, tmp_path):
    assert run(capsys, DataError("a.csv: row 3")) == (2, "fer_training.train: a.csv: row 3\n")
    with pytest.raises(OSError, match="File exists") as raised:
        (tmp_path / "file").mkdir() or (tmp_path / "file").mkdir()
    assert run(capsys, raised.value) == (2, f"fer_training.train: {tmp_path / 'file'}: File exists\n")


def test_a_command_may_have_errors_of_its_own_and_a_way_on_after_ctrl_c(capsys):
    codes = {FloatingPointError: 4, ArithmeticError: 3}
    assert run(capsys, FloatingPointError("nan"), exit_codes=codes) == (4, "fer_training.train: nan\n")
    assert run(capsys, ZeroDivisionError("0"), exit_codes=codes)[0] == 3
    assert run(capsys, KeyboardInterrupt()) == (130, "fer_training.train: interrupted\n")
    assert run(capsys, KeyboardInterrupt(), when_interrupted="go on")[1] == "fer_training.train: go on\n"


def test_a_mistake_of_the_room_itself_keeps_its_traceback(capsys):
    with pytest.raises(ZeroDivisionError):
        run_command("fer_training.train", fail_with(ZeroDivisionError()))


def test_a_name_that_the_terminal_can_not_show_is_escaped(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True))
    assert run_command("fer_training.train", lambda: print("wrote B\xfccher.pt")) == 0
    assert sys.stdout.buffer.getvalue() == b"wrote B\\xfccher.pt\n"
