"""Sweep the instance counts of `fer_preprocess`, and propose one for this machine.

    python -m fer_bench.tune [--workload w2] [--rounds N] [--seconds S] [--in-flight 1 4 16 32]

One instance fewer and one more are tried than `fer_build.assemble` chooses. All servers run at once, so that each cell
is measured in turn, in several rounds. What is proposed is the count with the highest throughput, as a geometric mean
over the numbers in flight; the smaller one where two are within 2 %.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tqdm import tqdm

import fer_contract as contract
from fer_bench.load import LoadError, grpc_request, send_load
from fer_bench.machine import describe_machine, usable_cores
from fer_bench.serving import check_answers
from fer_bench.workloads import Workload, make_workloads
from fer_build.assemble import assemble, count_instances
from fer_build.command import EXIT_STATUSES, run_command
from fer_build.server import EmbeddedTriton

_AS_GOOD: Final = 0.98
"""Less of a difference says nothing on a machine that does other things too."""


@dataclass(frozen=True)
class Measurement:
    """One count at one number of requests in flight, in one round."""

    images_per_s: float
    p99_ms: float


Measured = dict[tuple[int, int], list[Measurement]]
"""Rounds by instance count and requests in flight."""


def measure(server: EmbeddedTriton, workload: Workload, in_flight: int, seconds: float) -> Measurement:
    """One cell in one round, over gRPC."""
    with check_answers(server, in_flight):
        load = send_load(grpc_request(server.grpc_url, workload.image), in_flight, seconds)
    return Measurement(load.per_s, load.p99_ms)


def propose(measured: Measured) -> int:
    """The fewest instances that are as fast as the fastest."""
    speed = {count: _speed(measured, count) for count, _ in measured}
    return min(count for count in speed if speed[count] >= _AS_GOOD * max(speed.values()))


def _speed(measured: Measured, count: int) -> float:
    """Geometric mean, over the numbers in flight, of the medians over the rounds."""
    cells = [rounds for (one, _), rounds in measured.items() if one == count]
    return statistics.geometric_mean(statistics.median(one.images_per_s for one in rounds) for rounds in cells)


def format_table(measured: Measured, base: int) -> str:
    """A Markdown table: a row for each count, medians over the rounds."""
    levels = list(dict.fromkeys(in_flight for _, in_flight in measured))
    header = ["fer_preprocess", *(f"{level} in flight: images/s (p99 ms)" for level in levels), f"to {base}"]
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for count in dict.fromkeys(one for one, _ in measured):
        cells = [str(count)]
        for level in levels:
            rounds = measured[count, level]
            speed = statistics.median(one.images_per_s for one in rounds)
            cells.append(f"{speed:.1f} ({statistics.median(one.p99_ms for one in rounds):.0f})")
        cells.append(f"{_speed(measured, count) / _speed(measured, base):.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    workloads = {workload.name: workload for workload in make_workloads()}
    parser = argparse.ArgumentParser(
        prog="python -m fer_bench.tune",
        description="Sweep the instance counts of fer_preprocess, and propose one for this machine.",
        epilog=EXIT_STATUSES,
    )
    parser.add_argument("--workload", choices=workloads, default="w2", help="picture to send; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of each cell; default: %(default)s")
    parser.add_argument(
        "--in-flight", type=int, nargs="+", default=[1, 4, 16, 32], metavar="N", help="default: 1 4 16 32"
    )
    options = parser.parse_args(arguments)
    if min(options.rounds, *options.in_flight) < 1 or options.seconds <= 0:
        parser.error("--rounds and --in-flight must be at least 1, --seconds above 0")
    return run_command("fer_bench.tune", lambda: _run(options, workloads[options.workload]), LoadError)


def _run(options: argparse.Namespace, workload: Workload) -> None:
    base = count_instances(usable_cores(), is_separate=False)[contract.PREPROCESS_MODEL]
    counts = sorted({max(2, base - 1), base, base + 1})
    measured: Measured = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fer-tune-")))
        servers = {count: stack.enter_context(_serve(folder, count)) for count in counts}
        turns = [(one, level) for _ in range(options.rounds) for level in options.in_flight for one in counts]
        for count, level in tqdm(turns, unit="cell", leave=False, disable=None):
            found = measure(servers[count], workload, level, options.seconds)
            measured.setdefault((count, level), []).append(found)
    print(format_table(measured, base))
    print(f"\nproposed: python -m fer_build.assemble --instances fer_preprocess={propose(measured)}")
    print(f"{workload.description}; {options.rounds} rounds of {options.seconds:g} s; {describe_machine()}")


def _serve(folder: Path, count: int) -> EmbeddedTriton:
    repository = folder / str(count)
    assemble(repository, instances={contract.PREPROCESS_MODEL: count})
    return EmbeddedTriton(repository)


if __name__ == "__main__":
    sys.exit(main())
