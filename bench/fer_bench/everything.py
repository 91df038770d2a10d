"""Every table of the documents, measured one after the other, each by the command that is named above it.

What is finished is kept in a file, so that single tables can be measured again, and `--publish` writes it into the
documents, where `<!-- measured: NAME -->` and `<!-- /measured: NAME -->` mark a table's place.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fer_bench.command import make_parser, run
from fer_bench.frameworks import name_commit
from fer_bench.serving import CHECKOUT
from fer_commands.exit_codes import ExitCode
from fer_commands.running import CommandError

MEASURED: Final = CHECKOUT / "bench" / "measured.json"
DOCUMENTS: Final = (CHECKOUT / "bench" / "README.md", CHECKOUT / "loadtest" / "README.md")
_BENCH: Final = "python -m fer_bench"
_UNDER_LOAD: Final = "fer-serve --free-ports -- fer-loadtest"


@dataclass(frozen=True)
class Table:
    """A table of the documents."""

    minutes: float
    """How long it takes on two quiet cores."""
    full: str
    """The command that makes it. OLD stands for the checkout of `--old`."""
    quick: str
    """The same with as little as shows that it works."""

    @property
    def needs_old(self) -> bool:
        """Whether it compares with another checkout."""
        return " OLD" in self.full


TABLES: Final[Mapping[str, Table]] = {
    "frameworks": Table(
        9,
        f"{_BENCH} frameworks --rounds 2 --seconds 1.5 --functions-of OLD",
        f"{_BENCH} frameworks --rounds 1 --seconds 1 --workloads w1 --in-flight 4 --functions-of OLD",
    ),
    "checkouts": Table(
        2.5,
        f"{_BENCH} checkouts OLD . --rounds 2 --seconds 1.5",
        f"{_BENCH} checkouts OLD . --rounds 1 --seconds 1 --workloads w1 --in-flight 4",
    ),
    "ceiling": Table(
        3,
        f"{_BENCH} ceiling --rounds 2 --seconds 2",
        f"{_BENCH} ceiling --rounds 1 --seconds 1 --workloads w1 --in-flight 4",
    ),
    "stages": Table(0.7, f"{_BENCH} stages --seconds 2", f"{_BENCH} stages --seconds 1 --workloads w1"),
    "tune": Table(
        2,
        f"{_BENCH} tune --workload w4 --rounds 2 --seconds 1.5",
        f"{_BENCH} tune --workload w1 --rounds 1 --seconds 1 --in-flight 4",
    ),
    "runtimes": Table(
        3, f"{_BENCH} runtimes --rounds 2 --seconds 1.5", f"{_BENCH} runtimes --rounds 1 --seconds 1 --batches 4"
    ),
    "detection": Table(1.5, f"{_BENCH} detection --invented 1000", f"{_BENCH} detection --seeds 1 --invented 5"),
    "video": Table(1, f"{_BENCH} video", f"{_BENCH} video --rounds 1"),
    "loadtest": Table(
        1.5,
        f"{_UNDER_LOAD} run --shape steps --levels 1,2,4,8,16,32 --level-s 12 --out reports/steps",
        f"{_UNDER_LOAD} run --shape steps --levels 1,2 --level-s 3 --out reports/quick",
    ),
    "capacity": Table(
        4,
        f"{_UNDER_LOAD} capacity --p99-ms 200 --level-s 12 --out reports/capacity",
        f"{_UNDER_LOAD} capacity --p99-ms 2000 --level-s 3 --tolerance-percent 50 --out reports/quick",
    ),
    "sizing": Table(
        1.2,
        "python -m fer_sizing measure --seconds 60",
        "python -m fer_sizing measure --seconds 3 --out reports/capacity.toml",
    ),
}
"""The tables by name. Those that matter most come first."""


def measure(command: str, old: Path | None) -> str:
    """Run a command of this checkout, and return what it prints, in Markdown and without the place of the checkout.

    Args:
        command: With `python`, or a console script, as its first word.
        old: What OLD stands for.

    Raises:
        CommandError: It failed.
    """
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    words = [str(old) if word == "OLD" else word for word in shlex.split(command)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT, env=environment, check=False)
    if done.returncode:
        raise CommandError(f"`{command}` ended with exit code {done.returncode}", ExitCode.FAILED)
    printed = done.stdout.strip().replace(f"{CHECKOUT}/", "")
    return printed if command.startswith(_BENCH) else f"```text\n{printed}\n```"


def read_measured(file: Path) -> dict[str, Any]:
    """Return what a file of measured tables has, by the tables' names; nothing where there is no file.

    Raises:
        CommandError: It is something else.
    """
    if not file.exists():
        return {}
    try:
        measured: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        for table in measured.values():
            _ = format_block(table)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CommandError(f"{file} is no file of measured tables ({error}): remove it, and measure again") from None
    return measured


def format_block(table: Mapping[str, Any]) -> str:
    """Return what stands in a document between a table's two comments."""
    return f"`{table['command']}` on {table['date']}, at commit {table['commit']}:\n\n{table['markdown']}"


def fill_page(text: str, measured: Mapping[str, Any]) -> tuple[str, set[str]]:
    """Put the tables into a document. Return its new text, and the names of those that have a place in it."""
    placed = set()
    for name, table in measured.items():
        begin, end = f"<!-- measured: {name} -->\n", f"<!-- /measured: {name} -->\n"
        if text.count(begin) == text.count(end) == 1:
            before, _, rest = text.partition(begin)
            text = f"{before}{begin}{format_block(table)}\n{end}{rest.partition(end)[2]}"
            placed.add(name)
    return text, placed


def publish(measured: Mapping[str, Any], documents: Iterable[Path]) -> set[str]:
    """Write the tables into the documents. Return the names of those that have no place in any."""
    left = set(measured)
    for page in documents:
        text, placed = fill_page(page.read_text(encoding="utf-8"), measured)
        page.write_text(text, encoding="utf-8")
        left -= placed
    return left


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand. Return its exit code."""
    parser = make_parser("all", f"Measure every table of the documents: about {_minutes(TABLES):.0f} minutes.")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--full", action="store_true", help="as the documents have them; the machine must be quiet")
    size.add_argument("--quick", action="store_true", help="as little as shows that each command works")
    size.add_argument("--list", action="store_true", help="print the commands and their minutes, and measure nothing")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES), help="default: all of them")
    parser.add_argument(
        "--old", type=Path, metavar="CHECKOUT", help="what to compare with; without it, `checkouts` is left out"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"default: {MEASURED.name}; with --quick, none")
    parser.add_argument("--publish", action="store_true", help="write what the file has into the documents")
    options = parser.parse_args(arguments)
    if options.quick and options.publish and options.out is None:
        parser.error("--publish takes figures from --full")
    return run(parser, options, lambda: _run(options))


def _minutes(names: Iterable[str]) -> float:
    return sum(TABLES[name].minutes for name in names)


def _run(options: argparse.Namespace) -> None:
    if options.old is not None and not options.old.is_dir():
        raise CommandError(f"--old must be the folder of a checkout, got {options.old}")
    out = options.out or (None if options.quick else MEASURED)
    old = options.old.absolute() if options.old else None
    measured = read_measured(out) if out else {}
    failed = []
    for name in options.only:
        command = _choose_command(name, quick=options.quick, old=old)
        if options.list:
            print(f"{TABLES[name].minutes:4} min  {name:<10}  {TABLES[name].full}")
            continue
        if command is None:
            print(f"{name}: left out, because there is no --old", file=sys.stderr)
            continue
        started = time.monotonic()
        try:
            markdown = measure(command, old)
        except CommandError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed.append(name)
            continue
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
        found = {"command": command, "date": time.strftime("%Y-%m-%d"), "commit": name_commit(CHECKOUT)}
        measured[name] = found | {"markdown": markdown}
        print(f"## {name}\n\n{format_block(measured[name])}\n", flush=True)
        if out:
            out.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    if options.publish:
        left = publish(measured, DOCUMENTS)
        print(f"No place in the documents for: {', '.join(sorted(left)) or 'none of them'}.", file=sys.stderr)
    if failed:
        raise CommandError(f"not measured: {', '.join(failed)}", ExitCode.FAILED)


def _choose_command(name: str, *, quick: bool, old: Path | None) -> str | None:
    """Return the command of a table, or None where it is nothing without another checkout."""
    command = TABLES[name].quick if quick else TABLES[name].full
    if old is None and TABLES[name].needs_old:
        shorter = command.replace(" --functions-of OLD", "")
        return None if " OLD" in shorter else shorter
    return command
