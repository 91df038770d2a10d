"""The server beside its ceiling: the same functions in one process per core, without a server.

Every cell is measured in turn, several rounds of it; a ratio is taken within its round. With one request in flight the
ceiling is one process. The load (h2load) runs on the same cores as the server; the ceiling needs no load.
"""

import argparse
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from tqdm import tqdm

from fer_bench.command import choose_workloads, describe_rounds, format_markdown, make_parser, median, run
from fer_bench.load import grpc_request, http_request
from fer_bench.machine import describe_machine, usable_cores
from fer_bench.pictures import Workload
from fer_bench.pipeline import Workers, start_workers
from fer_bench.serving import load_checked
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
        """Share of its ceiling that the server reaches."""
        return self.server_per_s / self.ceiling_per_s


Measured = dict[Cell, list[Measurement]]


def measure(
    server: EmbeddedTriton, workers: dict[int, Workers], workload: Workload, in_flight: int, seconds: float
) -> dict[Cell, Measurement]:
    """Measure one workload once: the ceiling, then the server over each protocol, then the ceiling again."""
    processes = workers[min(in_flight, max(workers))]
    before = processes.images_per_s(workload.image, seconds / 2)
    requests = {
        "http": http_request(server.http_url, workload.image),
        "grpc": grpc_request(server.grpc_url, workload.image),
    }
    loads = {name: load_checked(server.metrics_url, requests[name], in_flight, seconds)[0] for name in PROTOCOLS}
    ceiling = (before + processes.images_per_s(workload.image, seconds / 2)) / 2
    return {
        Cell(workload.name, in_flight, protocol): Measurement(ceiling, load.per_s, load.p50_ms, load.p99_ms)
        for protocol, load in loads.items()
    }


def format_table(measured: Measured) -> str:
    """Return a Markdown table of the medians over the rounds, and another of the means of the ratios."""
    header = ["workload", "in flight", "ceiling, images/s", "HTTP, images/s", "gRPC, images/s", "HTTP ratio"]
    header += ["gRPC ratio", "HTTP p50 / p99, ms", "gRPC p50 / p99, ms"]
    rows = []
    for workload, in_flight in dict.fromkeys((cell.workload, cell.in_flight) for cell in measured):
        rounds = [measured[Cell(workload, in_flight, protocol)] for protocol in PROTOCOLS]
        cells = [workload, str(in_flight), f"{median(rounds[0], 'ceiling_per_s'):.1f}"]
        cells += [f"{median(one, 'server_per_s'):.1f}" for one in rounds]
        cells += [f"{median(one, 'ratio'):.2f}" for one in rounds]
        rows.append([*cells, *(f"{median(one, 'p50_ms'):.1f} / {median(one, 'p99_ms'):.1f}" for one in rounds)])
    means = []
    for in_flight in dict.fromkeys(cell.in_flight for cell in measured):
        ratios = [median(rounds, "ratio") for cell, rounds in measured.items() if cell.in_flight == in_flight]
        means.append([str(in_flight), f"{statistics.mean(ratios):.3f}", f"{min(ratios):.3f}"])
    return f"{format_markdown(header, rows)}\n\n{format_markdown(['in flight', 'mean ratio', 'lowest'], means)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand. Return its exit code."""
    parser = make_parser(
        "ceiling",
        "Compare the server with the same functions in one process per core, without a server.",
        rounds=3,
        seconds=4.0,
        in_flight=(1, 4, 16),
        workloads=True,
        repository=True,
    )
    options = parser.parse_args(arguments)
    return run(parser, options, lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    measured: Measured = {}
    with ExitStack() as stack:
        server = stack.enter_context(serving(options.repository))
        workers = {count: stack.enter_context(start_workers(count)) for count in {1, usable_cores()}}
        cells = [(workload, n) for workload in choose_workloads(options) for n in options.in_flight]
        for workload, in_flight in tqdm(cells * options.rounds, unit="cell", leave=False, disable=None):
            for cell, one in measure(server, workers, workload, in_flight, options.seconds).items():
                measured.setdefault(cell, []).append(one)
    print(format_table(measured))
    print(f"\n{describe_machine()}; {describe_rounds(options)}.")
