"""Compares the server with its ceiling: the same functions in one process per core, without a server.

    python -m fer_bench.ceiling [--rounds N] [--seconds S] [--in-flight 1 4 16] [--repository DIR]

Every cell is measured in turn, several rounds of it; a ratio is taken within its round. With one request in flight the
ceiling is one process. The load (h2load) runs on the same cores as the server, the ceiling needs none.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tqdm import tqdm

from fer_bench.load import Request, grpc_request, http_request, send_load
from fer_bench.machine import describe_machine, usable_cores
from fer_bench.processes import Workers, start_workers
from fer_bench.serving import check_answers
from fer_bench.workloads import Workload, make_workloads
from fer_commands.exit_codes import describe
from fer_commands.running import run_command
from fer_serve.server import EmbeddedTriton, serving

PROTOCOLS: Final = ("http", "grpc")


@dataclass(frozen=True)
class Cell:
    """One thing that is compared with the ceiling."""

    workload: str
    in_flight: int
    protocol: str


@dataclass(frozen=True)
class Measurement:
    """One cell in one round."""

    ceiling_per_s: float
    """Images per second without a server."""
    server_per_s: float
    """Images per second through it."""
    p50_ms: float
    p99_ms: float

    @property
    def ratio(self) -> float:
        """What the server reaches of its ceiling."""
        return self.server_per_s / self.ceiling_per_s


Measured = dict[Cell, list[Measurement]]


def measure(
    server: EmbeddedTriton, workers: dict[int, Workers], workload: Workload, in_flight: int, seconds: float
) -> dict[Cell, Measurement]:
    """One round of one workload: the ceiling, then the server over each protocol, then the ceiling again."""
    processes = workers[min(in_flight, max(workers))]
    before = processes.images_per_s(workload.image, seconds / 2)
    requests: dict[str, Request] = {
        "http": http_request(server.http_url, workload.image),
        "grpc": grpc_request(server.grpc_url, workload.image),
    }
    loads = {}
    for protocol in PROTOCOLS:
        with check_answers(server, in_flight):
            loads[protocol] = send_load(requests[protocol], in_flight, seconds)
    ceiling = (before + processes.images_per_s(workload.image, seconds / 2)) / 2
    return {
        Cell(workload.name, in_flight, protocol): Measurement(ceiling, load.per_s, load.p50_ms, load.p99_ms)
        for protocol, load in loads.items()
    }


def format_table(measured: Measured) -> str:
    """A Markdown table of the medians over the rounds, and the means of the ratios below."""
    lines = [
        "| workload | in flight | ceiling, images/s | HTTP, images/s | gRPC, images/s | HTTP ratio | gRPC ratio "
        "| HTTP p50 / p99, ms | gRPC p50 / p99, ms |",
        "|" + " --- |" * 9,
    ]
    for workload, in_flight in dict.fromkeys((cell.workload, cell.in_flight) for cell in measured):
        rounds = {protocol: measured[Cell(workload, in_flight, protocol)] for protocol in PROTOCOLS}
        cells = [workload, str(in_flight), f"{_median(rounds['http'], 'ceiling_per_s'):.1f}"]
        cells += [f"{_median(rounds[protocol], 'server_per_s'):.1f}" for protocol in PROTOCOLS]
        cells += [f"{_median(rounds[protocol], 'ratio'):.2f}" for protocol in PROTOCOLS]
        cells += [
            f"{_median(rounds[protocol], 'p50_ms'):.1f} / {_median(rounds[protocol], 'p99_ms'):.1f}"
            for protocol in PROTOCOLS
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    for in_flight in dict.fromkeys(cell.in_flight for cell in measured):
        ratios = [_median(rounds, "ratio") for cell, rounds in measured.items() if cell.in_flight == in_flight]
        lines.append(f"{in_flight} in flight: mean ratio {statistics.mean(ratios):.3f}, lowest {min(ratios):.3f}")
    return "\n".join(lines)


def _median(rounds: list[Measurement], name: str) -> float:
    return statistics.median(float(getattr(one, name)) for one in rounds)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_bench.ceiling",
        description="Compare the server with the same functions in one process per core, without a server.",
        epilog=describe(),
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=4.0, metavar="S", help="of each cell; default: %(default)s")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 4, 16], metavar="N", help="default: 1 4 16")
    parser.add_argument("--workloads", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--repository", type=Path, metavar="DIR", help="default: the released model, assembled anew")
    options = parser.parse_args(arguments)
    if min(options.rounds, *options.in_flight) < 1 or options.seconds <= 0:
        parser.error("--rounds and --in-flight must be at least 1, --seconds above 0")
    return run_command("fer_bench.ceiling", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    workloads = [one for one in make_workloads() if options.workloads is None or one.name in options.workloads]
    measured: Measured = {}
    with ExitStack() as stack:
        server = stack.enter_context(serving(options.repository))
        workers = {count: stack.enter_context(start_workers(count)) for count in {1, usable_cores()}}
        turns = [(workload, n) for _ in range(options.rounds) for workload in workloads for n in options.in_flight]
        for workload, in_flight in tqdm(turns, unit="cell", leave=False, disable=None):
            for cell, one in measure(server, workers, workload, in_flight, options.seconds).items():
                measured.setdefault(cell, []).append(one)
    print(format_table(measured))
    print(f"\n{describe_machine()}; {options.rounds} rounds of {options.seconds:g} s")


if __name__ == "__main__":
    sys.exit(main())
