"""The server that is measured, and what its own counters say."""

import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import fer_contract as contract
from fer_bench.load import LoadError
from fer_serve.server import EmbeddedTriton


@dataclass(frozen=True)
class Counters:
    """Triton's `/metrics` at one moment."""

    values: dict[tuple[str, frozenset[tuple[str, str]]], float]
    """By name and labels."""

    def since(self, earlier: "Counters") -> "Counters":
        """What was added since."""
        return Counters({series: value - earlier.values.get(series, 0.0) for series, value in self.values.items()})

    def total(self, name: str, model: str, **labels: str) -> float:
        """The sum over all series of this name and model, and of these further labels if any."""
        wanted = {("model", model), *labels.items()}
        return sum(value for (one, has), value in self.values.items() if one == name and wanted <= has)


def read_counters(server: EmbeddedTriton) -> Counters:
    """Asks the server."""
    return read_metrics(server.metrics_url)


def read_metrics(url: str) -> Counters:
    """Asks the server that has its metrics at `url`."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  # our own loopback
        text = answer.read().decode()
    series = re.findall(r"^(\w+)\{(.*)\} (\S+)$", text, re.MULTILINE)
    return Counters(
        {(name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels))): float(value) for name, labels, value in series}
    )


@contextmanager
def check_answers(server: EmbeddedTriton, in_flight: int, model: str = contract.FER_MODEL) -> Iterator[None]:
    """Raises LoadError if the server failed on requests in this block, or answered none.

    An HTTP status tells as much, but gRPC tells its errors where h2load does not look. What is still in flight when a
    load's time is over is dropped by h2load, and counted as failed by Triton 2.51, twice.
    """
    before = read_counters(server)
    yield
    change = read_counters(server).since(before)
    failed = change.total("nv_inference_request_failure", model)
    if failed > 2 * in_flight or not change.total("nv_inference_request_success", model):
        raise LoadError(f"{failed:.0f} requests to {model} failed, of those that the load sent")
