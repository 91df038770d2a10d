"""Two reports beside each other: what became worse is a regression, noise is not, and bad files are named."""

import json

import pytest

from fer_commands.exit_codes import ExitCode
from fer_loadtest.compare import compare, differences_of_setup, main

WORDS = ("--rates", "20,40,60", "--level-s", "20", "--settle-s", "2")


@pytest.fixture
def reports(pretend, tmp_path):
    """Writes a report of a pretended run; returns its folder."""

    def write(name, *words, **run):
        return pretend(*(words or WORDS), "--out", str(tmp_path / name), **run).play().write().parent

    return write


def test_the_same_run_twice_has_no_regression(reports, capsys):
    assert main([str(reports("a")), str(reports("b") / "report.json")]) == 0
    printed = capsys.readouterr().out
    assert "| all: p99 ms |" in printed
    assert "REGRESSION" not in printed
    assert "not the same" not in printed


def test_a_slower_server_is_a_regression_and_named(reports, capsys):
    assert main([str(reports("a")), str(reports("b", slow=1.4))]) == ExitCode.CHECK_FAILED
    rows = [line for line in capsys.readouterr().out.splitlines() if "REGRESSION" in line]
    assert any(row.startswith("| all: p50 ms |") and "+4" in row for row in rows)
    assert any(row.startswith("| 40 arrivals/s: p99 ms |") for row in rows)
    assert not any("images/s" in row for row in rows)


def test_a_faster_server_is_none(reports):
    assert main([str(reports("a", slow=1.4)), str(reports("b"))]) == 0


def document_of(folder):
    return json.loads((folder / "report.json").read_text())


def test_errors_that_appear_are_a_regression(reports):
    changes = compare(document_of(reports("a")), document_of(reports("b", capacity=50.0)), 10)
    [errors] = [one for one in changes if one.name == "60 arrivals/s: errors %"]
    assert errors.is_regression
    assert errors.percent is None


def test_a_p99_that_moves_within_its_interval_is_noise(reports):
    before, after = (document_of(reports(name)) for name in "ab")
    after["totals"]["latency_ms"]["p99"] *= 1.5
    before["totals"]["p99_interval_ms"], after["totals"]["p99_interval_ms"] = [10, 40], [30, 90]
    [p99] = [one for one in compare(before, after, 10) if one.name == "all: p99 ms"]
    assert not p99.is_regression
    after["totals"]["p99_interval_ms"] = [41, 90]
    [p99] = [one for one in compare(before, after, 10) if one.name == "all: p99 ms"]
    assert p99.is_regression


def test_another_setup_is_said(reports):
    before, after = (document_of(reports(name)) for name in "ab")
    after["server"]["model_version"] = "test-2"
    after["options"]["rates"] = [1]
    differences = differences_of_setup(before, after)
    assert differences == ["option rates: [20.0, 40.0, 60.0] before, [1] after", "model: test-1 before, test-2 after"]


def test_reports_that_are_to_be_doubted_are_said(reports, capsys):
    before, after = reports("a"), reports("b")
    document = document_of(after)
    document["is_complete"], document["generator"]["is_saturated"] = False, True
    (after / "report.json").write_text(json.dumps(document))
    assert main([str(before), str(after)]) == 0
    last = capsys.readouterr().out.splitlines()[-3:]
    assert last == ["", "after: the run was broken off", "after: the load generator could not keep up"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as a report.json"),
        ("{", "cannot be read as a report.json"),
        ("[]", "has the format None, expected 1"),
        ('{"format": 9}', "has the format 9, expected 1"),
    ],
)
def test_a_file_that_is_no_report_is_named(reports, tmp_path, capsys, content, message):
    path = tmp_path / "other.json"
    if content is not None:
        path.write_text(content)
    assert main([str(reports("a")), str(path)]) == ExitCode.USAGE
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
