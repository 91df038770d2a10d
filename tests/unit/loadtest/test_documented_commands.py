"""The command line: what the documents say works, what is handed to Locust, and what a mistyped word says."""

import re
import shlex
from pathlib import Path

import pytest

from fer_commands.exit_codes import ExitCode
from fer_loadtest import capacity, run
from fer_loadtest.cli import LOADTEST

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", ROOT / "loadtest" / "README.md", ROOT / "docker" / "README.md", ROOT / "Makefile"]


class BecameLocust(Exception):
    """In place of Locust's process; its argument is the command line."""


@pytest.fixture
def locust(monkeypatch):
    """Runs a command that becomes Locust's process; returns the words that Locust gets."""

    def become(executable, words):
        raise BecameLocust(words)

    monkeypatch.setattr("os.execv", become)
    for name in ("FER_URL", "FER_GRPC_URL", "FER_METRICS_URL"):
        monkeypatch.delenv(name, raising=False)

    def start(*words):
        with pytest.raises(BecameLocust) as raised:
            LOADTEST.main(words)
        [command] = raised.value.args
        return command[command.index("-f") + 2 :]

    return start


def commands(*, of_locust):
    """Commands in the documents and in the help, with or without those that only compare reports."""
    text = "\n".join([*(document.read_text() for document in DOCUMENTS), run._EXAMPLES, capacity._EXAMPLES, ""])
    found = re.findall(r"fer-loadtest(?: (?:run|capacity|compare|--)[^`#\n]*)?(?=`| *#|\n)", text)
    return sorted({one.strip() for one in found if ("compare" not in one) == of_locust and "--help" not in one})


def test_there_are_some():
    assert len(commands(of_locust=True)) >= 12


@pytest.mark.parametrize("command", commands(of_locust=True))
def test_a_documented_command_is_understood(command, locust):
    _, *words = shlex.split(command)
    options = {word for word in words if word.startswith("--")} - {"--", "--p99-ms"}
    assert options <= set(locust(*words))


@pytest.mark.parametrize("command", commands(of_locust=False))
def test_a_documented_comparison_is_understood(command, capsys):
    """It looks for the reports, which are not there."""
    words = shlex.split(command)[2:]
    assert LOADTEST.main(["compare", *words]) == ExitCode.USAGE
    assert f"{Path(words[0])}" in capsys.readouterr().err


def test_no_document_gives_a_module_to_run():
    assert not [document for document in DOCUMENTS if "python -m fer_loadtest" in document.read_text()]


def test_locust_gets_the_options_and_what_follows_two_dashes(locust):
    quiet = ["--headless", "--only-summary", "--skip-log-setup"]
    assert locust() == quiet
    assert locust("--preset", "ci", "--debug") == [*quiet, "--preset", "ci"]
    words = ("--levels", "16", "--processes", "2", "--", "--loglevel", "DEBUG")
    assert locust("run", *words) == [*quiet, *(word for word in words if word != "--")]
    assert locust("capacity", "--p99-ms=90") == [*quiet, "--shape", "capacity", "--objective-p99-ms=90"]


def test_a_worker_gets_its_options_from_the_master(locust, capsys):
    assert locust("--worker", "--master-host", "a") == ["--skip-log-setup", "--worker", "--master-host", "a"]
    assert capsys.readouterr().err == "fer-loadtest run: a worker of the master at a:5557\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--shape arrivals --levels 3", "--shape arrivals takes --rates, not --levels"),
        ("--levls 3", "unrecognized arguments: --levls: did you mean --levels?"),
        ("run --loglevel DEBUG", "unrecognized arguments: --loglevel"),
        ("capacity --shape steps", "--shape is capacity here: leave it out"),
        ("compare a", "the following arguments are required: after"),
        ("comprae a b", "did you mean fer-loadtest compare?"),
    ],
)
def test_wrong_usage_is_said_in_two_lines(words, message, capsys):
    with pytest.raises(SystemExit) as raised:
        LOADTEST.main(words.split())
    assert raised.value.code == ExitCode.USAGE
    usage, line = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: fer-loadtest")
    assert message in line
