"""`python -m fer_bench`: its subcommands, what they refuse, and the documents that name them."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from fer_bench.__main__ import BENCH
from fer_sizing.__main__ import SIZING

ROOT = Path(__file__).resolve().parents[3]
TIMED = ["ceiling", "checkouts", "frameworks", "runtimes", "stages", "tune"]


def documented(script):
    """The command lines of one script that the documents give, in console blocks and in sentences."""
    for path in {*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/**/*.md")} - {ROOT / "CHANGELOG.md"}:
        for line in re.findall(rf"-m {script}\b([^`#:|\n]*)", path.read_text()):
            yield path.relative_to(ROOT).as_posix(), line.strip()


@pytest.mark.parametrize("script", [BENCH, SIZING], ids=lambda one: one.name)
def test_every_subcommand_explains_itself(script, capsys):
    for name, subcommand in script.subcommands.items():
        with pytest.raises(SystemExit) as end:
            script.main([name, "--help"])
        assert end.value.code == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"usage: {script.name} {name} ")
        assert "exit codes:" in shown
        assert importlib.import_module(subcommand.module).main


@pytest.mark.parametrize(
    ("script", "document", "line"),
    [(script, *one) for script in (BENCH, SIZING) for one in sorted(set(documented(script.name.split()[-1])))],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_every_documented_line_is_understood(script, document, line, monkeypatch):
    """What it would do is not done: the real server's benchmarks take minutes."""
    words = shlex.split(line)
    if not words:
        return
    module = importlib.import_module(script.subcommands[words[0]].module)
    ran = []
    for name in ("run", "run_command"):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, lambda *_, **__: ran.append(True) or 0)
    assert script.main(words) == 0
    assert ran


@pytest.mark.parametrize("name", TIMED)
@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon"])
def test_nothing_is_measured_in_no_time(name, seconds, capsys):
    with pytest.raises(SystemExit) as end:
        BENCH.main(
            [name, "OLD", "NEW", f"--seconds={seconds}"] if name == "checkouts" else [name, f"--seconds={seconds}"]
        )
    assert end.value.code == 2
    assert f"expected a number above 0, got '{seconds}'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ceiling", "video", "runtimes"])
def test_no_round_is_no_measurement(name, capsys):
    with pytest.raises(SystemExit) as end:
        BENCH.main([name, "--rounds", "0"])
    assert end.value.code == 2
    assert "expected a whole number of at least 1, got '0'" in capsys.readouterr().err


@pytest.mark.parametrize("batch", ["0", "65"])
def test_faces_that_the_classifier_refuses_are_not_sent(batch, capsys):
    with pytest.raises(SystemExit) as end:
        BENCH.main(["runtimes", "--batches", batch])
    assert end.value.code == 2
    assert re.search("a request has 1 to 64 faces|at least 1", capsys.readouterr().err)
