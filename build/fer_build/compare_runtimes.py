"""Measures in the real server which runtime and precision classify the most faces on this machine's CPU.

    python -m fer_build.compare_runtimes [--rounds N] [--seconds S] [--batches 1 16 64] [--threads 1 2]

Every combination is served in turn, several rounds of it, so that a busy moment of the machine does not fall on one
alone. The last columns are ratios to ONNX Runtime FP32 on one thread within the same round: what decides.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import psutil
import tritonclient.grpc as triton
from tqdm import tqdm
from tritonclient.utils import InferenceServerException

import fer_contract as contract
from fer_build.assemble import assemble
from fer_build.command import EXIT_STATUSES, run_command
from fer_build.errors import ServerFailedError
from fer_build.release import RELEASED_ONNX, SMALLER, WHOLE, name_precision
from fer_build.server import EmbeddedTriton
from fer_runtimes import ONNX_RUNTIME, RUNTIMES

CONCURRENCY: Final = 4
"""Requests in flight: enough that the next batch is there when one is done."""
_WARM_UP_S: Final = 0.5


@dataclass(frozen=True)
class Candidate:
    """One way to serve the classifier."""

    runtime: str
    precision: str
    threads: int


BASE: Final = Candidate(ONNX_RUNTIME, WHOLE, 1)


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
    with tempfile.TemporaryDirectory(prefix="fer-runtimes-") as folder:
        repository = Path(folder) / "repository"
        onnx = name_precision(RELEASED_ONNX, candidate.precision)
        assemble(repository, onnx, runtime=candidate.runtime, threads=candidate.threads)
        with EmbeddedTriton(repository) as server:
            rates = {batch: _send_for(server.grpc_url, batch, seconds) for batch in batches}
            return Measurement(rates, _resident_mb())


def _send_for(url: str, batch: int, seconds: float) -> float:
    """Faces classified per second by requests of so many faces, `CONCURRENCY` of them in flight."""
    faces = np.random.default_rng(0).integers(
        0, 256, (batch, 1, contract.FACE_SIZE_PX, contract.FACE_SIZE_PX), np.uint8
    )
    tensor = triton.InferInput(contract.FACES, list(faces.shape), "UINT8")
    tensor.set_data_from_numpy(faces)
    started = time.perf_counter() + _WARM_UP_S
    until = started + seconds

    with triton.InferenceServerClient(url) as client, ThreadPoolExecutor(CONCURRENCY) as pool:

        def send() -> int:
            answered = 0
            while (now := time.perf_counter()) < until:
                client.infer(contract.CLASSIFIER_MODEL, [tensor])
                answered += now >= started
            return answered

        senders = [pool.submit(send) for _ in range(CONCURRENCY)]
        try:
            return sum(sender.result() for sender in senders) * batch / seconds
        except InferenceServerException as error:
            raise ServerFailedError(f"the server refused a request of {batch} faces: {error.message()}") from error


def _resident_mb() -> float:
    processes = psutil.Process(os.getpid()).children(recursive=True)
    return sum(process.memory_info().rss for process in processes) / 1e6


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
        prog="python -m fer_build.compare_runtimes",
        description="Measure in the real server which runtime and precision are the fastest on this CPU.",
        epilog=EXIT_STATUSES,
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
    return run_command("fer_build.compare_runtimes", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    candidates = _list_candidates(options.threads)
    measured: dict[Candidate, list[Measurement]] = {candidate: [] for candidate in candidates}
    for candidate in tqdm(candidates * options.rounds, unit="server", leave=False, disable=None):
        measured[candidate].append(measure(candidate, options.batches, options.seconds))
    print(format_table(measured))
    versions = ", ".join(f"{name} {version(name)}" for name in RUNTIMES)
    print(f"\n{_cpu_name()}, {len(os.sched_getaffinity(0))} cores; {versions}; {options.rounds} rounds")


def _cpu_name() -> str:
    """The CPU's name as Linux tells it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def _list_candidates(threads: Iterable[int]) -> list[Candidate]:
    """All combinations, and the one that the others are compared with."""
    precisions = (WHOLE, *SMALLER)
    listed = [Candidate(runtime, precision, n) for runtime in RUNTIMES for precision in precisions for n in threads]
    return list(dict.fromkeys([BASE, *listed]))


if __name__ == "__main__":
    sys.exit(main())
