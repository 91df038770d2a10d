"""`fer-loadtest compare`: two reports beside each other, with what became worse marked as a regression."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fer_commands.exit_codes import ExitCode
from fer_commands.parser import subcommand_parser
from fer_commands.running import CommandError, run_command
from fer_loadtest.report import FORMAT

_DESCRIPTION: Final = """\
Print a table of what changed from one report to another. A figure that became worse by more than
--tolerance-percent is a regression. A p99 is one only if the intervals of both reports do not
overlap either.
"""
_FIGURES: Final = (
    ("images/s", ("images_per_s",), True),
    ("faces/s", ("faces_per_s",), True),
    ("p50 ms", ("latency_ms", "p50"), False),
    ("p95 ms", ("latency_ms", "p95"), False),
    ("p99 ms", ("latency_ms", "p99"), False),
    ("errors %", ("error_percent",), False),
)
"""Name, place in a summary, and whether more is better."""


@dataclass(frozen=True)
class Change:
    """One figure of two reports.

    Attributes:
        name: Part of the report, and name of the figure.
        before: Value in the first report.
        after: Value in the second report.
        percent: Growth in percent; None where it grew from nothing.
        is_regression: Whether it became worse by more than is tolerated.
    """

    name: str
    before: float
    after: float
    percent: float | None
    is_regression: bool


def compare(before: Mapping[str, Any], after: Mapping[str, Any], tolerance_percent: float) -> list[Change]:
    """Return the figures that both reports have, of the whole and of levels of the same name and load.

    Args:
        before: Document of the first report.
        after: Document of the second report.
        tolerance_percent: Change that is no regression.
    """
    changes = list(_changes("all", before["totals"], after["totals"], tolerance_percent))
    for part, name in (("capacity", "images_per_s"), ("search", "rate")):
        old, new = ((document[part] or {}).get(name) for document in (before, after))
        if old is not None and new is not None:
            changes.append(_change(f"{part}: images/s", old, new, True, tolerance_percent, may_be_noise=False))
    if before["options"]["shape"] != "capacity":  # The trials of a search are not the same ones.
        others = {(level["name"], level["users"], level["rate"]): level for level in after["levels"]}
        for level in before["levels"]:
            same = others.get((level["name"], level["users"], level["rate"]))
            if same is not None and len(before["levels"]) > 1:
                changes += _changes(level["name"], level, same, tolerance_percent)
    return changes


def _changes(where: str, before: Mapping[str, Any], after: Mapping[str, Any], tolerance: float) -> Iterator[Change]:
    for name, path, more_is_better in _FIGURES:
        old, new = _at(before, path), _at(after, path)
        if old is None or new is None:
            continue
        may_be_noise = name == "p99 ms" and _overlap(before["p99_interval_ms"], after["p99_interval_ms"])
        yield _change(f"{where}: {name}", old, new, more_is_better, tolerance, may_be_noise=may_be_noise)


def _change(
    name: str, before: float, after: float, more_is_better: bool, tolerance: float, *, may_be_noise: bool
) -> Change:
    percent = 100 * (after - before) / before if before else None
    worse = (before - after if more_is_better else after - before) / before * 100 if before else 0.0
    appeared = not before and after > 0 and not more_is_better
    return Change(name, before, after, percent, (worse > tolerance or appeared) and not may_be_noise)


def _at(document: Mapping[str, Any], path: Sequence[str]) -> float | None:
    value: Any = document
    for name in path:
        value = value[name]
    return None if value is None else float(value)


def _overlap(one: Sequence[float] | None, other: Sequence[float] | None) -> bool:
    return one is not None and other is not None and one[0] <= other[1] and other[0] <= one[1]


def differences_of_setup(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return what makes two reports hard to compare: another load, another machine, another model."""
    named = [
        (f"option {name}", "options", name) for name in ("shape", "protocols", "levels", "rates", "mix", "pictures")
    ]
    named += [("CPU", "machine", "cpu"), ("cores", "machine", "cores")]
    named += [("model", "server", "model_version"), ("server", "server", "software")]
    return [
        f"{what}: {before[part][name]} before, {after[part][name]} after"
        for what, part, name in named
        if before[part][name] != after[part][name]
    ]


def doubts_of(report: Mapping[str, Any]) -> list[str]:
    """Return the reasons why the figures of a report may not be those of the server."""
    doubts = [] if report["is_complete"] else ["the run was broken off"]
    if report["generator"]["is_saturated"]:
        doubts.append("the load generator could not keep up")
    return doubts


def read_report(path: Path) -> dict[str, Any]:
    """Return the document of a report. Raises CommandError."""
    path = path / "report.json" if path.is_dir() else path
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} cannot be read as a report.json ({error}): give the folder of a report") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else None
        raise CommandError(f"{path} has the format {found!r}, expected {FORMAT}: compare reports of one version")
    return document


def format_changes(changes: Sequence[Change]) -> str:
    """Return a table in Markdown."""
    lines = ["| figure | before | after | change | |", "| --- | --- | --- | --- | --- |"]
    for one in changes:
        percent = "new" if one.percent is None and one.after else f"{one.percent or 0:+.1f} %"
        mark = "REGRESSION" if one.is_regression else ""
        lines.append(f"| {one.name} | {one.before:.4g} | {one.after:.4g} | {percent} | {mark} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Run the subcommand.

    Args:
        arguments: The words after the subcommand's name.

    Returns:
        The exit code.

    Raises:
        SystemExit: argparse printed the help or a usage error.
    """
    parser = subcommand_parser(
        "fer-loadtest compare",
        description=_DESCRIPTION,
        examples="  fer-loadtest compare reports/before reports/after --tolerance-percent 5\n",
        exit_codes=(ExitCode.OK, ExitCode.USAGE, ExitCode.CHECK_FAILED),
    )
    parser.add_argument("before", type=Path, help="report.json, or its folder")
    parser.add_argument("after", type=Path, help="report.json to compare it with, or its folder")
    parser.add_argument("--tolerance-percent", type=float, default=10.0, metavar="P", help="default: %(default)g")
    options = parser.parse_args(arguments)
    return run_command(
        parser.prog,
        lambda: _compare_files(options.before, options.after, options.tolerance_percent),
        debug=options.debug,
    )


def _compare_files(before_path: Path, after_path: Path, tolerance_percent: float) -> ExitCode:
    before, after = read_report(before_path), read_report(after_path)
    changes = compare(before, after, tolerance_percent)
    print(f"{before['label']}, {before['started']}  ->  {after['label']}, {after['started']}\n")
    print(format_changes(changes))
    notes = [f"not the same: {difference}" for difference in differences_of_setup(before, after)]
    for name, document in (("before", before), ("after", after)):
        notes += [f"{name}: {doubt}" for doubt in doubts_of(document)]
    if notes:
        print("", *notes, sep="\n")
    return ExitCode.CHECK_FAILED if any(one.is_regression for one in changes) else ExitCode.OK
