"""The client beside a bare loop of tritonclient, on a server that is running.

    python -m fer_bench client photo.jpg --url localhost:8000

Both send the same image to the same server, so many times, so many at a time, and read all tensors of each answer. The
rounds alternate, so that what else the machines are busy with falls on both; the ratio is the median over the rounds.
`bare` is tritonclient used well: threads that share a gRPC client, or, as its HTTP client is one thread's own, have a
client each. `fer-client bench` measures a server; this measures the client.
"""

import argparse
import importlib
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

import fer_contract
from fer_client import FerClient, FerClientError
from fer_commands.exit_codes import ExitCode
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command

ENOUGH: Final = 0.9
"""The least share of the bare loop's images a second that this client has to reach."""

_OUTPUTS: Final = (
    fer_contract.IMAGE_SIZE,
    fer_contract.BOXES,
    fer_contract.LANDMARKS,
    fer_contract.DETECTION_SCORES,
    fer_contract.PROBABILITIES,
)


class Measured(NamedTuple):
    """One pass over the images.

    Attributes:
        images_per_s: Images answered in a second.
        cpu_ms: CPU time of this process for each image, in milliseconds.
    """

    images_per_s: float
    cpu_ms: float


Rounds: TypeAlias = list[tuple[Measured, Measured]]
"""For each round, the bare loop and this client."""


class Bare:
    """tritonclient's own clients: one for all threads over gRPC; over HTTP each thread needs one of its own."""

    def __init__(self, client: FerClient, concurrency: int) -> None:
        """Connect nothing yet. `client` says where the server is."""
        protocol, _, self._address = client.url.partition("://")
        self._triton = importlib.import_module(f"tritonclient.{protocol}")
        self._shared = self._connect() if protocol == "grpc" else None
        self._concurrency = concurrency

    def run(self, image: bytes, count: int) -> None:
        """Send an image so many times."""
        numbers = itertools.count()  # Its next() is atomic.

        def work(_thread: int) -> None:
            client = self._shared or self._connect()
            while next(numbers) < count:
                self._infer(client, image)

        with ThreadPoolExecutor(self._concurrency) as threads:
            list(threads.map(work, range(self._concurrency)))

    def _connect(self) -> Any:
        return self._triton.InferenceServerClient(self._address)

    def _infer(self, client: Any, image: bytes) -> list[npt.NDArray[Any]]:
        tensor = self._triton.InferInput(fer_contract.IMAGE, [1], "BYTES")
        tensor.set_data_from_numpy(np.array([image], np.object_))
        wanted = [self._triton.InferRequestedOutput(name) for name in _OUTPUTS]
        answer = client.infer(fer_contract.FER_MODEL, [tensor], outputs=wanted)
        return [answer.as_numpy(name) for name in _OUTPUTS]


def measure(work: Callable[[], None], count: int) -> Measured:
    """Measure how fast some work on so many images is."""
    start_s, busy_s = time.perf_counter(), time.process_time()
    work()
    busy_s, took_s = time.process_time() - busy_s, time.perf_counter() - start_s
    return Measured(count / took_s, 1000 * busy_s / count)


def compare(client: FerClient, image: bytes, count: int, concurrency: int, rounds: int) -> Rounds:
    """Measure the bare loop and this client in turn, after one pass of each that does not count.

    Args:
        client: Asks the server.
        image: An image file that the server accepts.
        count: How often it is sent in each pass.
        concurrency: Requests in flight.
        rounds: How many passes of each.

    Returns:
        For each round, the bare loop and this client.

    Raises:
        FerClientError: A request of this client failed. What tritonclient raises comes as it is.
    """
    _ = client.labels  # What this client alone would say in words: no server, another contract.
    bare = Bare(client, concurrency)

    def run_ours() -> None:
        for result in client.predict_many(itertools.repeat(image, count), concurrency=concurrency):
            if isinstance(result, FerClientError):
                raise result

    def run_bare() -> None:
        bare.run(image, count)

    measured = []
    for number in range(rounds + 1):
        order = (run_bare, run_ours) if number % 2 else (run_ours, run_bare)
        passes = {work: measure(work, count) for work in order}
        measured.append((passes[run_bare], passes[run_ours]))
    return measured[1:]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table. Returns the exit code."""
    parser = subcommand_parser(
        "python -m fer_bench client",
        description="Measure this client beside a bare loop of tritonclient.",
        exit_codes=(ExitCode.OK, ExitCode.FAILED, ExitCode.USAGE, ExitCode.UNREACHABLE, ExitCode.CHECK_FAILED),
    )
    parser.add_argument("image", type=Path, help="an image file")
    url = os.environ.get("FER_URL") or "localhost"
    parser.add_argument("--url", default=url, help="default: $FER_URL, else localhost")
    parser.add_argument("--protocol", choices=("http", "grpc"), help="default: the URL's, else http")
    parser.add_argument("--images", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--concurrency", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    options = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> int:
    image = options.image.read_bytes()
    with FerClient(options.url, options.protocol) as client:
        rounds = compare(client, image, options.images, options.concurrency, options.rounds)
    sys.stdout.write(f"{client.url}: {options.images} times {options.image}, {options.concurrency} at a time, ")
    sys.stdout.write(f"{len(rounds)} rounds\n")
    for name, passes in zip(("bare tritonclient", "fer_client"), zip(*rounds, strict=True), strict=True):
        speeds = ", ".join(f"{each.images_per_s:.0f}" for each in passes)
        busy_ms = statistics.median(each.cpu_ms for each in passes)
        sys.stdout.write(f"{name:<18} images/s: {speeds}; median {busy_ms:.2f} ms of client CPU for an image\n")
    ratio = statistics.median(ours.images_per_s / bare.images_per_s for bare, ours in rounds)
    sys.stdout.write(f"ratio {ratio:.2f}, expected {ENOUGH} or more\n")
    return ExitCode.OK if ratio >= ENOUGH else ExitCode.CHECK_FAILED


if __name__ == "__main__":
    sys.exit(main())
