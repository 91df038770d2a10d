"""The servers that are measured: what starts them, their counters, and what an image costs them."""

import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

import fer_contract as contract
from fer_bench.load import Load, LoadError, Request, send_load, warm_up
from fer_bench.machine import Family

CHECKOUT: Final = Path(__file__).resolve().parents[2]
"""The checkout that this module is in."""

_END_TIMEOUT_S: Final = 120.0
_TELL_AND_WAIT: Final = """
import json, os, sys
print(json.dumps({name: os.environ[name] for name in ("FER_URL", "FER_GRPC_URL", "FER_METRICS_URL")}), flush=True)
sys.stdin.read()
"""
"""What runs under a checkout's fer-serve: it prints where the server is, and the server runs until its input ends."""


@dataclass(frozen=True)
class Server:
    """A running `fer-serve` of a checkout."""

    http_url: str
    """`host:port`."""
    grpc_url: str
    """`host:port`."""
    metrics_url: str
    family: Family
    """Its processes."""
    ready_s: float
    """From the start of `fer-serve`, which assembles a repository first, to its first answer."""


@contextmanager
def run_checkout(checkout: Path) -> Iterator[Server]:
    """Serve the released model of a checkout, by the code of that checkout, until the `with` block ends.

    Raises:
        LoadError: It has no virtual environment, or its server did not start.
    """
    command = checkout.absolute() / ".venv" / "bin" / "fer-serve"
    if not command.is_file():
        raise LoadError(f"{checkout} has no .venv/bin/fer-serve: run `make .venv/.serve` there first")
    started = time.monotonic()
    arguments = [str(command), "--free-ports", "--", sys.executable, "-c", _TELL_AND_WAIT]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, cwd=checkout) as process:
        try:
            line = process.stdout.readline() if process.stdout else b""
            ready_s = time.monotonic() - started
            if not line:
                raise LoadError(f"the server of {checkout} did not start: run {command} to see why")
            urls = json.loads(line)
            http_url, grpc_url = (urls[name].partition("//")[2] for name in ("FER_URL", "FER_GRPC_URL"))
            family = Family(psutil.Process(process.pid), without=_TELL_AND_WAIT)
            yield Server(http_url, grpc_url, urls["FER_METRICS_URL"], family, ready_s)
        finally:
            if process.stdin:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
            process.wait(_END_TIMEOUT_S)


@dataclass(frozen=True)
class Cost:
    """What one kind of request came to in one round."""

    images_per_s: float
    p99_ms: float
    cpu_ms: float
    """CPU time of all processes of the server, per image."""


def measure_cost(request: Request, family: Family, in_flight: int, seconds: float) -> Cost:
    """Send the same request over and over, and divide the CPU time of the server's processes by the images.

    When the time is over, what is in flight is dropped by h2load, but finished by the server: it is waited for, and
    counted.

    Raises:
        LoadError: A request was refused.
    """
    warm_up(request, in_flight)
    before_s = family.cpu_s()
    load = send_load(request, in_flight, seconds, warm_up_s=0)
    time.sleep(in_flight / load.per_s)
    return Cost(load.per_s, load.p99_ms, 1000 * (family.cpu_s() - before_s) / (load.answers + in_flight))


@dataclass(frozen=True)
class Counters:
    """Triton's `/metrics` at one moment."""

    values: dict[tuple[str, frozenset[tuple[str, str]]], float]
    """Value by the name and the labels of a series."""

    def since(self, earlier: "Counters") -> "Counters":
        """Return what was added since an earlier moment."""
        return Counters({series: value - earlier.values.get(series, 0.0) for series, value in self.values.items()})

    def total(self, name: str, model: str, **labels: str) -> float:
        """Return the sum over all series of this name and model that have these further labels."""
        wanted = {("model", model), *labels.items()}
        return sum(value for (one, has), value in self.values.items() if one == name and wanted <= has)


def read_counters(metrics_url: str) -> Counters:
    """Ask a server for its counters."""
    with urllib.request.urlopen(metrics_url, timeout=10) as answer:  # noqa: S310  # our own loopback
        text = answer.read().decode()
    series = re.findall(r"^(\w+)\{(.*)\} (\S+)$", text, re.MULTILINE)
    return Counters(
        {(name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels))): float(value) for name, labels, value in series}
    )


def load_checked(
    metrics_url: str, request: Request, in_flight: int, seconds: float, model: str = contract.FER_MODEL
) -> tuple[Load, Counters]:
    """Send a load, and make sure that the server answered it.

    Args:
        metrics_url: Where the server's counters are.
        request: What is sent.
        in_flight: Requests in flight.
        seconds: How long.
        model: What is asked.

    Returns:
        The load, and what the server's counters gained by it.

    Raises:
        LoadError: Requests failed, or none was answered.
    """
    before = read_counters(metrics_url)
    load = send_load(request, in_flight, seconds)
    change = read_counters(metrics_url).since(before)
    check_answers(change, in_flight, model)
    return load, change


def check_answers(change: Counters, in_flight: int, model: str = contract.FER_MODEL) -> None:
    """Check by what the server's counters gained that it has answered a load.

    An HTTP status tells as much, but gRPC tells its errors where h2load does not look. What is still in flight when a
    load's time is over is dropped by h2load, and counted as failed by Triton 2.51, twice.

    Raises:
        LoadError: The server failed on requests, or answered none.
    """
    failed = change.total("nv_inference_request_failure", model)
    if failed > 2 * in_flight or not change.total("nv_inference_request_success", model):
        raise LoadError(f"{failed:.0f} requests to {model} failed, of those that the load sent")
