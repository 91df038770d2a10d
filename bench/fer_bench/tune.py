"""Sweep the instance counts of `fer_preprocess`, and propose one for this machine.

One instance fewer and one more are tried than `fer-build assemble` chooses. All servers run at once, so that each cell
is measured in turn, in several rounds. What is proposed is the count with the highest throughput, as a geometric mean
over the numbers in flight; the smaller one where two are within 2 %.
"""

import argparse
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from tqdm import tqdm

import fer_contract as contract
from fer_bench.command import describe_rounds, format_markdown, make_parser, median, run
from fer_bench.load import grpc_request
from fer_bench.machine import describe_machine, usable_cores
from fer_bench.pictures import WORKLOADS, Workload, make_workload
from fer_bench.serving import load_checked
from fer_build.assemble import count_instances
from fer_serve.server import EmbeddedTriton, serving

_AS_GOOD: Final = 0.98
"""A smaller difference says nothing on a machine that does other things too."""


@dataclass(frozen=True)
class Measurement:
    """One count at one number of requests in flight, in one round."""

    images_per_s: float
    p99_ms: float


Measured = dict[tuple[int, int], list[Measurement]]
"""The rounds' measurements by instance count and requests in flight."""


def measure(server: EmbeddedTriton, workload: Workload, in_flight: int, seconds: float) -> Measurement:
    """Measure one cell once, over gRPC."""
    load, _ = load_checked(server.metrics_url, grpc_request(server.grpc_url, workload.image), in_flight, seconds)
    return Measurement(load.per_s, load.p99_ms)


def propose(measured: Measured) -> int:
    """Return the fewest instances that are as fast as the fastest."""
    speed = {count: _speed(measured, count) for count, _ in measured}
    return min(count for count in speed if speed[count] >= _AS_GOOD * max(speed.values()))


def _speed(measured: Measured, count: int) -> float:
    """Return the geometric mean, over the numbers in flight, of the medians over the rounds."""
    cells = [rounds for (one, _), rounds in measured.items() if one == count]
    return statistics.geometric_mean(median(rounds, "images_per_s") for rounds in cells)


def format_table(measured: Measured, base: int) -> str:
    """Return a Markdown table with a row for each count, of medians over the rounds."""
    levels = list(dict.fromkeys(in_flight for _, in_flight in measured))
    header = ["fer_preprocess", *(f"{level} in flight: images/s (p99 ms)" for level in levels), f"to {base}"]
    rows = []
    for count in dict.fromkeys(one for one, _ in measured):
        cells = [str(count)]
        for level in levels:
            rounds = measured[count, level]
            cells.append(f"{median(rounds, 'images_per_s'):.1f} ({median(rounds, 'p99_ms'):.0f})")
        rows.append([*cells, f"{_speed(measured, count) / _speed(measured, base):.2f}"])
    return format_markdown(header, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand. Return its exit code."""
    parser = make_parser(
        "tune",
        "Sweep the instance counts of fer_preprocess, and propose one for this machine.",
        rounds=3,
        seconds=3.0,
        in_flight=(1, 4, 16, 32),
    )
    parser.add_argument("--workload", choices=WORKLOADS, default="w2", help="picture to send; default: %(default)s")
    options = parser.parse_args(arguments)
    return run(parser, options, lambda: _run(options, make_workload(options.workload)))


def _run(options: argparse.Namespace, workload: Workload) -> None:
    base = count_instances(usable_cores(), is_separate=False)[contract.PREPROCESS_MODEL]
    counts = sorted({max(2, base - 1), base, base + 1})
    measured: Measured = {}
    with ExitStack() as stack:
        servers = {
            count: stack.enter_context(serving(instances={contract.PREPROCESS_MODEL: count})) for count in counts
        }
        cells = [(one, level) for level in options.in_flight for one in counts]
        for count, level in tqdm(cells * options.rounds, unit="cell", leave=False, disable=None):
            found = measure(servers[count], workload, level, options.seconds)
            measured.setdefault((count, level), []).append(found)
    print(format_table(measured, base))
    best = propose(measured)
    print(f"\nProposed: `--instances fer_preprocess={best}`, an option of the command that assembles a repository.")
    print(f"{workload.name}: {workload.description}; {describe_machine()}; {describe_rounds(options)}.")
