"""Compares the servers of two checkouts in one run, in turns: CPU per image, images per second, latency, memory, start.

    python -m fer_bench.checkouts OLD NEW [--rounds N] [--seconds S] [--in-flight 1 16] [--workloads w1 w2]

Each checkout has a virtual environment of its own in `.venv`. Who is not measured idles. CPU is that of all processes
of a server, per image answered: on a machine that others use as well, it says more than images per second.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
from tqdm import tqdm

from fer_bench.load import Load, LoadError, grpc_request, http_request, send_load
from fer_bench.machine import describe_machine
from fer_bench.serving import read_metrics
from fer_bench.workloads import make_workloads
from fer_commands.exit_codes import describe
from fer_commands.running import run_command
from fer_contract import PREPROCESS_MODEL

PROTOCOLS: Final = ("http", "grpc")
_READY_TIMEOUT_S: Final = 120.0
_TELL_AND_WAIT: Final = """
import json, os, sys
print(json.dumps({name: os.environ[name] for name in ("FER_URL", "FER_GRPC_URL", "FER_METRICS_URL")}), flush=True)
sys.stdin.read()
"""
"""What runs under a checkout's fer-serve: it tells where the server is, and the server runs until its input ends."""


@dataclass(frozen=True)
class Server:
    """A running server of a checkout."""

    http_url: str
    grpc_url: str
    metrics_url: str
    processes: tuple[psutil.Process, ...]
    ready_s: float
    """From the start of `fer-serve`, which assembles a repository first, to its first answer."""

    def cpu_s(self) -> float:
        """Seconds of CPU that all its processes have spent."""
        times = [process.cpu_times() for process in self.processes]
        return sum(one.user + one.system for one in times)

    def memory_mb(self) -> float:
        """Proportional set size of all its processes: what several share counts once."""
        return sum(process.memory_full_info().pss for process in self.processes) / 1e6


@contextmanager
def run_checkout(checkout: Path) -> Iterator[Server]:
    """Serves the released model of a checkout until the `with` block ends.

    Raises:
        LoadError: it has no virtual environment, or its server did not start.
    """
    command = checkout.absolute() / ".venv" / "bin" / "fer-serve"
    if not command.is_file():
        raise LoadError(f"{checkout} has no .venv/bin/fer-serve: make .venv/.serve there first")
    started = time.monotonic()
    arguments = [str(command), "--free-ports", "--", sys.executable, "-c", _TELL_AND_WAIT]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, cwd=checkout) as process:
        try:
            line = process.stdout.readline() if process.stdout else b""
            ready_s = time.monotonic() - started
            if not line:
                raise LoadError(f"the server of {checkout} did not start")
            urls = json.loads(line)
            family = psutil.Process(process.pid).children(recursive=True)
            ours = tuple(one for one in family if _TELL_AND_WAIT not in one.cmdline())
            http_url, grpc_url = (urls[name].partition("//")[2] for name in ("FER_URL", "FER_GRPC_URL"))
            yield Server(http_url, grpc_url, urls["FER_METRICS_URL"], ours, ready_s)
        finally:
            if process.stdin:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
            process.wait(_READY_TIMEOUT_S)


@dataclass(frozen=True)
class Measurement:
    """One cell in one round."""

    load: Load
    cpu_ms: float
    """Of all processes of the server, per image answered."""


Cell = tuple[str, int, str]
"""Workload, requests in flight, protocol."""
Measured = dict[Cell, dict[str, list[Measurement]]]
"""Rounds by cell and checkout."""


def measure(server: Server, protocol: str, image: bytes, in_flight: int, seconds: float) -> Measurement:
    """Sends one workload to one server."""
    make = {"http": http_request, "grpc": grpc_request}[protocol]
    request = make(server.http_url if protocol == "http" else server.grpc_url, image)
    cpu_s, counters = server.cpu_s(), read_metrics(server.metrics_url)
    load = send_load(request, in_flight, seconds)
    images = read_metrics(server.metrics_url).since(counters).total("nv_inference_request_success", PREPROCESS_MODEL)
    return Measurement(load, 1000 * (server.cpu_s() - cpu_s) / images)


def format_table(measured: Measured, names: tuple[str, str]) -> str:
    """A Markdown table of medians over the rounds; the last two columns are of ratios within a round."""
    header = ["workload", "in flight", "protocol"]
    header += [f"{what}, {name}" for what in ("CPU ms an image", "images/s", "p99 ms") for name in names]
    header += ["CPU ratio", "images/s ratio"]
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for (workload, in_flight, protocol), rounds in measured.items():
        old, new = (rounds[name] for name in names)
        cells = [workload, str(in_flight), protocol]
        cells += [f"{statistics.median(one.cpu_ms for one in side):.2f}" for side in (old, new)]
        cells += [f"{statistics.median(one.load.per_s for one in side):.0f}" for side in (old, new)]
        cells += [f"{statistics.median(one.load.p99_ms for one in side):.0f}" for side in (old, new)]
        pairs = list(zip(old, new, strict=True))
        cells.append(f"{statistics.median(a.cpu_ms / b.cpu_ms for a, b in pairs):.2f}")
        cells.append(f"{statistics.median(b.load.per_s / a.load.per_s for a, b in pairs):.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_bench.checkouts",
        description="Compare the servers of two checkouts in one run.",
        epilog=describe(),
    )
    parser.add_argument("old", type=Path, metavar="OLD", help="a checkout with a .venv in it")
    parser.add_argument("new", type=Path, metavar="NEW", help="another one")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of each cell; default: %(default)s")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 16], metavar="N", help="default: 1 16")
    parser.add_argument("--workloads", nargs="+", metavar="NAME", help="default: all")
    options = parser.parse_args(arguments)
    if min(options.rounds, *options.in_flight) < 1 or options.seconds <= 0:
        parser.error("--rounds and --in-flight must be at least 1, --seconds above 0")
    return run_command("fer_bench.checkouts", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    workloads = [one for one in make_workloads() if options.workloads is None or one.name in options.workloads]
    names = ("old", "new")
    measured: Measured = {}
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(run_checkout(path))
            for name, path in zip(names, (options.old, options.new), strict=True)
        }
        at_rest = {name: server.memory_mb() for name, server in servers.items()}
        cells = [(one, n, protocol) for one in workloads for n in options.in_flight for protocol in PROTOCOLS]
        turns = [(cell, name) for _ in range(options.rounds) for cell in cells for name in names]
        for (workload, in_flight, protocol), name in tqdm(turns, unit="cell", leave=False, disable=None):
            one = measure(servers[name], protocol, workload.image, in_flight, options.seconds)
            measured.setdefault((workload.name, in_flight, protocol), {}).setdefault(name, []).append(one)
        print(format_table(measured, names))
        for name, server in servers.items():
            print(
                f"{name}: {at_rest[name]:.0f} MB at rest, {server.memory_mb():.0f} MB after the load (proportional set "
                f"size), ready after {server.ready_s:.1f} s"
            )
    print(f"{describe_machine()}, {os.getloadavg()[0]:.1f} busy; {options.rounds} rounds of {options.seconds:g} s")


if __name__ == "__main__":
    sys.exit(main())
