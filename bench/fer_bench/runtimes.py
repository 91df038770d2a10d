"""Which runtime and precision classify the most faces on this machine's CPU, in the real server.

Every combination is served in turn, several rounds of it, so that a busy moment of the machine does not fall on one
alone. The last columns are ratios to ONNX Runtime FP32 on one thread within the same round: what decides.
"""

import argparse
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import psutil
from tqdm import tqdm

import fer_contract as contract
from fer_bench.command import at_least_one, describe_rounds, format_markdown, make_parser, median, run
from fer_bench.load import grpc_faces_request
from fer_bench.machine import Family, describe_machine
from fer_bench.serving import load_checked
from fer_build.release import FP32, RELEASED_ONNX, SMALLER, name_precision
from fer_runtimes import ONNX_RUNTIME, RUNTIMES
from fer_serve.server import EmbeddedTriton, serving

CONCURRENCY: Final = 4
"""Requests in flight: enough that the next batch is there when one is done."""


@dataclass(frozen=True)
class Candidate:
    """One way to serve the classifier."""

    runtime: str
    precision: str
    threads: int


BASE: Final = Candidate(ONNX_RUNTIME, FP32, 1)


@dataclass(frozen=True)
class Measurement:
    """One candidate in one round."""

    images_per_s: dict[int, float]
    """Faces classified per second, by the number of faces in a request."""
    resident_mb: float
    """Memory of the server's processes; pages that several share count once for each."""


def measure(candidate: Candidate, batches: Sequence[int], seconds: float) -> Measurement:
    """Serve a candidate and measure it.

    Args:
        candidate: What is served.
        batches: Numbers of faces in a request, 1..64.
        seconds: How long requests of each size are sent.
    """
    onnx = name_precision(RELEASED_ONNX, candidate.precision)
    with serving(onnx=onnx, runtime=candidate.runtime, threads=candidate.threads) as server:
        rates = {batch: _send_for(server, batch, seconds) for batch in batches}
        return Measurement(rates, Family(psutil.Process()).resident_mb())


def _send_for(server: EmbeddedTriton, batch: int, seconds: float) -> float:
    """Return the faces classified per second, by requests of so many faces, `CONCURRENCY` of them in flight."""
    shape = (batch, 1, contract.FACE_SIZE_PX, contract.FACE_SIZE_PX)
    request = grpc_faces_request(server.grpc_url, np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    load, _ = load_checked(server.metrics_url, request, CONCURRENCY, seconds, contract.CLASSIFIER_MODEL)
    return batch * load.per_s


def format_table(measured: dict[Candidate, list[Measurement]]) -> str:
    """Return a Markdown table of the medians over the rounds, best first; ratios are taken within each round."""
    batches = list(next(iter(measured.values()))[0].images_per_s)
    header = ["runtime", "precision", "threads"]
    header += [f"faces/s, {batch} a request" for batch in batches] + ["server, MB"]
    header += [f"ratio, {batch} a request" for batch in batches]
    rows = []
    for candidate, rounds in measured.items():
        rates = [statistics.median(one.images_per_s[batch] for one in rounds) for batch in batches]
        pairs = list(zip(rounds, measured[BASE], strict=True))
        ratios = [
            statistics.median(one.images_per_s[batch] / base.images_per_s[batch] for one, base in pairs)
            for batch in batches
        ]
        cells = [candidate.runtime, candidate.precision, str(candidate.threads), *(f"{rate:.0f}" for rate in rates)]
        cells += [f"{median(rounds, 'resident_mb'):.0f}", *(f"{ratio:.2f}" for ratio in ratios)]
        rows.append((statistics.geometric_mean(ratios), cells))
    rows.sort(key=lambda row: row[0], reverse=True)
    return format_markdown(header, [cells for _, cells in rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand. Return its exit code."""
    parser = make_parser(
        "runtimes",
        "Measure in the real server which runtime and precision are the fastest on this CPU.",
        rounds=3,
        seconds=2.0,
    )
    parser.add_argument(
        "--batches", type=at_least_one, nargs="+", default=[1, 16, 64], metavar="N", help="default: 1 16 64"
    )
    parser.add_argument("--threads", type=at_least_one, nargs="+", default=[1], metavar="N", help="default: 1")
    options = parser.parse_args(arguments)
    if max(options.batches) > contract.MAX_CLASSIFIER_BATCH:
        parser.error(f"a request has 1 to {contract.MAX_CLASSIFIER_BATCH} faces")
    return run(parser, options, lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    candidates = _list_candidates(options.threads)
    measured: dict[Candidate, list[Measurement]] = {candidate: [] for candidate in candidates}
    for candidate in tqdm(candidates * options.rounds, unit="server", leave=False, disable=None):
        measured[candidate].append(measure(candidate, options.batches, options.seconds))
    print(format_table(measured))
    print(f"\n{describe_machine()}; {describe_rounds(options)}.")


def _list_candidates(threads: Iterable[int]) -> list[Candidate]:
    """Return all combinations, and the one that the others are compared with."""
    precisions = (FP32, *SMALLER)
    listed = [Candidate(runtime, precision, n) for runtime in RUNTIMES for precision in precisions for n in threads]
    return list(dict.fromkeys([BASE, *listed]))
