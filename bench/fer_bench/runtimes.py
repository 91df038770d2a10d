"""Measures in the real server which runtime and precision classify the most faces on this machine's CPU.

    python -m fer_bench.runtimes [--rounds N] [--seconds S] [--batches 1 16 64] [--threads 1 2]

Every combination is served in turn, several rounds of it, so that a busy moment of the machine does not fall on one
alone. The last columns are ratios to ONNX Runtime FP32 on one thread within the same round: what decides.
"""

import argparse
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from tqdm import tqdm

import fer_contract as contract
from fer_bench.load import grpc_faces_request, send_load
from fer_bench.machine import describe_machine, resident_mb
from fer_bench.serving import check_answers
from fer_build.release import FP32, RELEASED_ONNX, SMALLER, name_precision
from fer_commands.exit_codes import describe
from fer_commands.running import run_command
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
    """By the number of faces in a request."""
    resident_mb: float
    """Memory of the server with its stubs, shared pages counted once for each process that has them."""


def measure(candidate: Candidate, batches: Sequence[int], seconds: float) -> Measurement:
    """Serves a candidate and measures it.

    Args:
        candidate: what to serve.
        batches: faces in each request, 1..64.
        seconds: how long to send requests of each size.
    """
    onnx = name_precision(RELEASED_ONNX, candidate.precision)
    with serving(onnx=onnx, runtime=candidate.runtime, threads=candidate.threads) as server:
        rates = {batch: _send_for(server, batch, seconds) for batch in batches}
        return Measurement(rates, resident_mb())


def _send_for(server: EmbeddedTriton, batch: int, seconds: float) -> float:
    """Faces classified per second by requests of so many faces, `CONCURRENCY` of them in flight."""
    shape = (batch, 1, contract.FACE_SIZE_PX, contract.FACE_SIZE_PX)
    faces = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with check_answers(server, CONCURRENCY, contract.CLASSIFIER_MODEL):
        return batch * send_load(grpc_faces_request(server.grpc_url, faces), CONCURRENCY, seconds).per_s


def format_table(measured: dict[Candidate, list[Measurement]]) -> str:
    """A Markdown table of the medians over the rounds, best first; ratios are taken within each round."""
    batches = list(next(iter(measured.values()))[0].images_per_s)
    header = ["runtime", "precision", "threads"]
    header += [f"faces/s, {batch} a request" for batch in batches] + ["server, MB"]
    header += [f"ratio, {batch} a request" for batch in batches]
    rows = []
    for candidate, rounds in measured.items():
        rates = [statistics.median(one.images_per_s[batch] for one in rounds) for batch in batches]
        memory = statistics.median(one.resident_mb for one in rounds)
        ratios = [
            statistics.median(
                one.images_per_s[batch] / base.images_per_s[batch]
                for one, base in zip(rounds, measured[BASE], strict=True)
            )
            for batch in batches
        ]
        cells = [candidate.runtime, candidate.precision, str(candidate.threads), *(f"{rate:.0f}" for rate in rates)]
        rows.append(
            (statistics.geometric_mean(ratios), [*cells, f"{memory:.0f}", *(f"{ratio:.2f}" for ratio in ratios)])
        )
    rows.sort(key=lambda row: row[0], reverse=True)
    return "\n".join(
        "| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *(cells for _, cells in rows))
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_bench.runtimes",
        description="Measure in the real server which runtime and precision are the fastest on this CPU.",
        epilog=describe(),
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="of each cell; default: %(default)s")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64], metavar="N", help="default: 1 16 64")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], metavar="N", help="default: 1")
    options = parser.parse_args(arguments)
    if not all(1 <= batch <= contract.MAX_CLASSIFIER_BATCH for batch in options.batches):
        parser.error(f"a request has 1 to {contract.MAX_CLASSIFIER_BATCH} faces")
    if min(options.rounds, *options.threads) < 1 or options.seconds <= 0:
        parser.error("--rounds and --threads must be at least 1, --seconds above 0")
    return run_command("fer_bench.runtimes", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    candidates = _list_candidates(options.threads)
    measured: dict[Candidate, list[Measurement]] = {candidate: [] for candidate in candidates}
    for candidate in tqdm(candidates * options.rounds, unit="server", leave=False, disable=None):
        measured[candidate].append(measure(candidate, options.batches, options.seconds))
    print(format_table(measured))
    print(f"\n{describe_machine()}; {options.rounds} rounds of {options.seconds:g} s")


def _list_candidates(threads: Iterable[int]) -> list[Candidate]:
    """All combinations, and the one that the others are compared with."""
    precisions = (FP32, *SMALLER)
    listed = [Candidate(runtime, precision, n) for runtime in RUNTIMES for precision in precisions for n in threads]
    return list(dict.fromkeys([BASE, *listed]))


if __name__ == "__main__":
    sys.exit(main())
