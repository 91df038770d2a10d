"""The client's README: its commands are understood, its tables are the code's, and its Python compiles."""

import re
import shlex
from pathlib import Path

import pytest

import fer_client
from fer_client import FerClientError
from fer_client.cli import build_parser
from fer_client.command.connection import SETTINGS

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "client" / "fer_client"
README = (ROOT / "client" / "README.md").read_text()

NOT_FER_CLIENT = {
    "make wheel": "tests/integration/test_wheel.py makes one",
    "pip install dist/fer_triton-0.1.0-py3-none-any.whl": "tests/integration/test_wheel.py installs it",
}
"""Other commands, and where they are run."""


def commands():
    """Those of the console blocks, without comments."""
    blocks = "".join(re.findall(r"^```console\n(.*?)^```", README, re.DOTALL | re.MULTILINE))
    return [re.sub(r"\s+#.*$", "", line) for line in re.findall(r"^\$ (.*)$", blocks, re.MULTILINE)]


def table(head):
    """The rows of the table with this head, as lists of cells."""
    lines = README[README.index(head) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("command", commands())
def test_a_command_is_understood_or_run_elsewhere(command):
    if command not in NOT_FER_CLIENT:
        script, *words = shlex.split(command.partition(" < ")[0])
        assert script == "fer-client"
        assert build_parser().parse_args(words).run


def test_the_settings_are_those_of_the_command():
    rows = [row[:3] for row in table("| option | environment | in the file |") if "`--" in row[0] and row[2]]
    named = [[f"`{setting.flag}`", f"`{setting.variable}`", f"`{setting.key}`"] for setting in SETTINGS]
    assert [row for row in rows if row[0] != "`--header`"] == named
    for setting in SETTINGS:
        assert f"| {setting.help} |" in README


def test_every_error_is_in_the_table_and_only_those():
    named = set(re.findall(r"`(\w+Error)`,? ?", "\n".join(row[0] for row in table("| error |")))) - {"OSError"}
    public = {name for name in fer_client.__all__ if name.endswith("Error")}
    assert named == {name for name in public if issubclass(getattr(fer_client, name), FerClientError)} - {
        "FerClientError"
    }


def test_every_file_is_in_the_table_and_only_those():
    named = set()
    for row in table("| file | what is in it |"):
        names = re.findall(r"`([^`]+)`", row[0])
        folder = names[0].rpartition("/")[0]
        named |= {(PACKAGE / (name if "/" in name else f"{folder}/{name}".lstrip("/"))).resolve() for name in names}
    files = {path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    assert named == files | {PACKAGE / "command" / "completions"}


@pytest.mark.parametrize("block", re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE))
def test_the_python_compiles(block):
    compile(block, "README.md", "exec")
