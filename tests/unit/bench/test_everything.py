"""`python -m fer_bench all`: what is measured is kept, and put into the documents."""

import json
import shlex

import pytest

from fer_bench import everything
from fer_bench.__main__ import BENCH
from fer_commands.running import CommandError
from fer_loadtest.cli import LOADTEST
from fer_sizing.__main__ import SIZING

SCRIPTS = {"python -m fer_bench": BENCH, "python -m fer_sizing": SIZING}


@pytest.fixture
def pages(tmp_path, monkeypatch):
    """Documents with a place for one table, and a file for the figures."""
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- measured: stages -->\nold figures\n<!-- /measured: stages -->\nafter\n")
    monkeypatch.setattr(everything, "DOCUMENTS", (page,))
    monkeypatch.setattr(everything, "MEASURED", tmp_path / "measured.json")
    return page


@pytest.fixture
def commands(monkeypatch):
    """The commands that would be run; each prints a table of its own name. A command with `tune` fails."""
    ran = []

    def measure(command, old):
        ran.append(command)
        if " tune " in command:
            raise CommandError("no luck")
        return f"| {command.split()[3]} |"

    monkeypatch.setattr(everything, "measure", measure)
    return ran


@pytest.mark.parametrize("size", ["full", "quick"])
@pytest.mark.parametrize("name", everything.TABLES)
def test_the_commands_are_understood(name, size, monkeypatch):
    command = shlex.split(getattr(everything.TABLES[name], size))
    if command[0] == "fer-serve":
        assert command[1:4] == ["--free-ports", "--", "fer-loadtest"]
        assert command[4] in LOADTEST.subcommands
        return
    script = SCRIPTS[" ".join(command[:3])]
    module = __import__(script.subcommands[command[3]].module, fromlist=["main"])
    for runner in {"run", "run_command"} & vars(module).keys():
        monkeypatch.setattr(module, runner, lambda *_, **__: 0)
    assert script.main(command[3:]) == 0


def test_all_tables_take_no_longer_than_a_coffee_break_or_two():
    assert sum(table.minutes for table in everything.TABLES.values()) <= 30


def test_what_is_measured_is_kept_and_published(pages, commands):
    assert everything.main(["--full", "--only", "stages", "--publish"]) == 0
    kept = json.loads(everything.MEASURED.read_text())
    assert kept["stages"]["markdown"] == "| stages |"
    assert kept["stages"]["command"] == "python -m fer_bench stages --seconds 2"
    block = everything.format_block(kept["stages"])
    assert pages.read_text() == f"before\n<!-- measured: stages -->\n{block}\n<!-- /measured: stages -->\nafter\n"


def test_a_single_table_is_measured_again_beside_the_others(pages, commands):
    everything.main(["--full", "--only", "stages", "ceiling"])
    commands.clear()
    everything.main(["--full", "--only", "ceiling"])
    assert len(commands) == 1
    assert json.loads(everything.MEASURED.read_text()).keys() == {"stages", "ceiling"}


def test_what_fails_is_named_and_the_rest_is_kept(pages, commands, capsys):
    assert everything.main(["--full", "--only", "tune", "stages"]) == 1
    assert json.loads(everything.MEASURED.read_text()).keys() == {"stages"}
    assert "not measured: tune" in capsys.readouterr().err


def test_without_another_checkout_nothing_is_compared_with_it(pages, commands, capsys):
    assert everything.main(["--full", "--only", "frameworks", "checkouts"]) == 0
    assert commands == ["python -m fer_bench frameworks --rounds 2 --seconds 1.5"]
    assert "checkouts: left out, because there is no --old" in capsys.readouterr().err


def test_a_quick_run_writes_nothing(pages, commands, tmp_path):
    before = pages.read_text()
    assert everything.main(["--quick", "--only", "stages"]) == 0
    assert not everything.MEASURED.exists()
    with pytest.raises(SystemExit):
        everything.main(["--quick", "--publish"])
    assert pages.read_text() == before


def test_a_checkout_that_is_not_there_is_one_line(pages, commands, tmp_path, capsys):
    assert everything.main(["--quick", "--old", str(tmp_path / "none")]) == 2
    assert "--old must be the folder of a checkout" in capsys.readouterr().err
    assert not commands


def test_a_table_without_a_place_is_named(pages, commands, capsys):
    assert everything.main(["--full", "--only", "ceiling", "--publish"]) == 0
    assert "No place in the documents for: ceiling." in capsys.readouterr().err


def test_the_folder_of_another_checkout_is_in_no_command(tmp_path):
    command = "python -c 'import sys; print(sys.argv[1:])' OLD"
    assert everything.measure(command, tmp_path) == f"```text\n{[str(tmp_path)]}\n```"
    command = f"python -c 'print(\"report: {everything.CHECKOUT}/reports/report.html\")'"
    assert everything.measure(command, None) == "```text\nreport: reports/report.html\n```"
    with pytest.raises(CommandError, match=r"`python -c 'raise SystemExit\(3\)'` ended with exit code 3"):
        everything.measure("python -c 'raise SystemExit(3)'", None)


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "measured.json").write_text('{"stages": 3}')
    with pytest.raises(CommandError, match="is no file of measured tables"):
        everything.read_measured(tmp_path / "measured.json")


def test_the_documents_have_what_was_measured():
    measured = everything.read_measured(everything.MEASURED)
    for page in everything.DOCUMENTS:
        text = page.read_text()
        assert everything.fill_page(text, measured)[0] == text, "python -m fer_bench all --full --publish"
