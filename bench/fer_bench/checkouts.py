"""The servers of two checkouts in one run, in turns: CPU per image, images per second, latency, memory, start.

Each checkout has a virtual environment of its own in `.venv`. A server that is not measured idles. CPU is that of all
processes of a server, per image answered: on a machine that others use as well, it says more than images per second.
"""

import argparse
import os
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tqdm import tqdm

from fer_bench.command import choose_workloads, describe_rounds, format_markdown, make_parser, median, run
from fer_bench.load import grpc_request, http_request
from fer_bench.machine import describe_machine
from fer_bench.serving import Cost, Server, check_answers, measure_cost, read_counters, run_checkout

PROTOCOLS: Final = ("http", "grpc")

Cell = tuple[str, int, str]
"""Workload, requests in flight, protocol."""
Measured = dict[Cell, dict[str, list[Cost]]]
"""The rounds' costs by cell and checkout."""


def measure(server: Server, protocol: str, image: bytes, in_flight: int, seconds: float) -> Cost:
    """Send one workload to one server over one protocol.

    Raises:
        LoadError: The server failed on requests.
    """
    is_http = protocol == "http"
    request = http_request(server.http_url, image) if is_http else grpc_request(server.grpc_url, image)
    before = read_counters(server.metrics_url)
    cost = measure_cost(request, server.family, in_flight, seconds)
    check_answers(read_counters(server.metrics_url).since(before), in_flight)
    return cost


def format_table(measured: Measured, names: tuple[str, str]) -> str:
    """Return a Markdown table of medians over the rounds; its last two columns are of ratios within a round."""
    header = ["workload", "in flight", "protocol"]
    header += [f"{what}, {name}" for what in ("CPU ms an image", "images/s", "p99 ms") for name in names]
    header += ["CPU ratio", "images/s ratio"]
    rows = []
    for (workload, in_flight, protocol), rounds in measured.items():
        old, new = (rounds[name] for name in names)
        cells = [workload, str(in_flight), protocol]
        cells += [f"{median(side, 'cpu_ms'):.2f}" for side in (old, new)]
        cells += [f"{median(side, 'images_per_s'):.0f}" for side in (old, new)]
        cells += [f"{median(side, 'p99_ms'):.0f}" for side in (old, new)]
        pairs = list(zip(old, new, strict=True))
        cells.append(f"{statistics.median(a.cpu_ms / b.cpu_ms for a, b in pairs):.2f}")
        cells.append(f"{statistics.median(b.images_per_s / a.images_per_s for a, b in pairs):.2f}")
        rows.append(cells)
    return format_markdown(header, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand. Return its exit code."""
    parser = make_parser(
        "checkouts",
        "Compare the servers of two checkouts in one run.",
        rounds=3,
        seconds=3.0,
        in_flight=(1, 16),
        workloads=True,
    )
    parser.add_argument("old", type=Path, metavar="OLD", help="a checkout with a .venv in it")
    parser.add_argument("new", type=Path, metavar="NEW", help="another one")
    options = parser.parse_args(arguments)
    return run(parser, options, lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    names, checkouts = ("old", "new"), (options.old, options.new)
    measured: Measured = {}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(run_checkout(one)) for name, one in zip(names, checkouts, strict=True)}
        at_rest = {name: server.family.memory_mb() for name, server in servers.items()}
        workloads = choose_workloads(options)
        cells = [(one, n, protocol) for one in workloads for n in options.in_flight for protocol in PROTOCOLS]
        turns = [(cell, name) for _ in range(options.rounds) for cell in cells for name in names]
        for (workload, in_flight, protocol), name in tqdm(turns, unit="cell", leave=False, disable=None):
            cost = measure(servers[name], protocol, workload.image, in_flight, options.seconds)
            measured.setdefault((workload.name, in_flight, protocol), {}).setdefault(name, []).append(cost)
        print(format_table(measured, names) + "\n")
        for name, server in servers.items():
            print(
                f"- {name}: {at_rest[name]:.0f} MB at rest, {server.family.memory_mb():.0f} MB after the load "
                f"(proportional set size), ready after {server.ready_s:.1f} s"
            )
    print(f"\n{describe_machine()}, load {os.getloadavg()[0]:.1f}; {describe_rounds(options)}.")
