"""A console script: subcommands are loaded when they are chosen, and a mistyped word is said in two lines."""

import sys
from importlib.metadata import version
from types import ModuleType

import pytest

from fer_commands.exit_codes import ExitCode
from fer_commands.parser import subcommand_parser
from fer_commands.scripts import Script, Subcommand

SECRET = "s3cr3t-T0ken"


def script(**changes):
    subcommands = {
        "quantize": Subcommand("make a smaller network", "a_module_of_the_test"),
        "plan": Subcommand("make a TensorRT plan", "a_module_that_needs_more"),
    }
    settings = {"name": "fer-build", "description": "Build.", "subcommands": subcommands, "extra": "build"}
    return Script(**{**settings, **changes})


@pytest.fixture
def called(monkeypatch, tmp_path):
    """Arguments with which the subcommand `quantize` was called."""
    calls = []

    def main(arguments):
        parser = subcommand_parser(
            "fer-build quantize",
            description="Make a smaller network.",
            examples="  fer-build quantize --precision int8",
            exit_codes=(ExitCode.OK, ExitCode.CHECK_FAILED),
        )
        parser.add_argument("--precision", choices=("fp16", "int8"))
        parser.add_argument("--onnx")
        options = parser.parse_args(arguments)
        calls.append(options.precision)
        return 7

    module = ModuleType("a_module_of_the_test")
    module.main = main
    monkeypatch.setitem(sys.modules, "a_module_of_the_test", module)
    (tmp_path / "a_module_that_needs_more.py").write_text("import a_library_that_nobody_has\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return calls


def ending(arguments, capsys, **changes):
    """The exit code, and what was printed."""
    try:
        code = script(**changes).main(arguments)
    except SystemExit as exit_:
        code = exit_.code
    return code, *capsys.readouterr()


def test_a_subcommand_gets_what_follows_it(called, capsys):
    assert ending(["quantize", "--precision", "int8"], capsys) == (7, "", "")
    assert called == ["int8"]


def test_the_default_is_meant_where_no_subcommand_is_named(called, capsys):
    assert ending(["--precision", "fp16"], capsys, default="quantize")[0] == 7
    assert ending([], capsys, default="quantize")[0] == 7
    assert called == ["fp16", None]


def test_a_missing_library_is_a_line_with_the_extra(called, capsys):
    line = "fer-build plan: a_library_that_nobody_has is not installed: pip install 'fer-triton[build]'\n"
    assert ending(["plan"], capsys) == (1, "", line)


def test_a_missing_module_of_our_own_is_a_defect_and_no_extra(called, tmp_path):
    (tmp_path / "a_module_that_needs_more.py").write_text("import fer_commands.nowhere\n")
    with pytest.raises(ModuleNotFoundError, match="fer_commands"):
        script().main(["plan"])


def test_help_lists_the_subcommands_and_loads_none(capsys):
    code, out, err = ending(["--help"], capsys)
    assert (code, err) == (0, "")
    for words in ("quantize", "make a TensorRT plan", "exit codes:", "\n  141  "):
        assert words in out


def test_the_version_is_that_of_the_distribution(capsys):
    assert ending(["--version"], capsys) == (0, f"fer-build {version('fer-triton')}\n", "")


@pytest.mark.parametrize(
    ("words", "usage", "message"),
    [
        ("qantize", "fer-build COMMAND ...", "qantize is not a command: did you mean fer-build quantize?"),
        ("xyz", "fer-build COMMAND ...", "xyz is not a command: quantize, plan"),
        ("--verison", "fer-build COMMAND ...", "unrecognized arguments: --verison: did you mean --version?"),
        ("quantize --precison int8", "fer-build quantize [OPTION ...]", "did you mean --precision?"),
        ("quantize --precision int9", "fer-build quantize [OPTION ...]", "'int9' is none of fp16, int8: did you mean"),
        ("quantize --onn x", "fer-build quantize [OPTION ...]", "unrecognized arguments: --onn: did you mean --onnx?"),
        ("quantize x", "fer-build quantize [OPTION ...]", "unrecognized arguments: x"),
        ("quantize --debug=3", "fer-build quantize [OPTION ...]", "takes no value, and '3' is one"),
        ("quantize -model.onnx", "fer-build quantize [OPTION ...]", "a file whose name starts with - is written ./-mo"),
    ],
)
def test_a_typo_prints_the_usage_of_the_command_at_hand(called, capsys, tmp_path, words, usage, message):
    (tmp_path / "-model.onnx").write_bytes(b"")
    code, out, err = ending(words.split(), capsys)
    first, second = err.splitlines()
    assert (code, out, first) == (2, "", f"usage: {usage}")
    assert message in second
    command = usage.removesuffix(" COMMAND ...").removesuffix(" [OPTION ...]")
    assert second.startswith(f"{command}: ")
    assert second.endswith(f"(see {command} --help)")


@pytest.mark.parametrize("words", [["--tokn", SECRET], [f"--tokn={SECRET}"]])
def test_what_is_behind_a_mistyped_option_is_not_repeated(called, capsys, words):
    code, _, err = ending(["quantize", *words], capsys)
    assert (code, SECRET in err) == (2, False)


def test_the_help_of_a_subcommand_has_examples_and_its_own_exit_codes(called, capsys):
    code, out, _ = ending(["quantize", "--help"], capsys)
    assert code == 0
    assert "examples:\n  fer-build quantize --precision int8\n\nexit codes:\n  0    " in out
    assert "--debug" in out
    assert "\n  7    " in out
    assert "\n  3    " not in out
