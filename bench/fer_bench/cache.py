"""Shows what a response cache gains for images that come again, and costs for those that don't.

    python -m fer_bench.cache [--rounds N] [--seconds S] [--in-flight N]

Two servers, one with a cache, answer the same photo again and again, in turns. What the cache costs an image that it
doesn't know is by Triton's own counters, over photos that differ in their last bytes.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tqdm import tqdm

import fer_contract as contract
from fer_bench.load import LoadError, grpc_request, send_load
from fer_bench.machine import describe_machine
from fer_bench.serving import check_answers, read_counters, serve
from fer_bench.workloads import Workload, make_workloads
from fer_build.command import EXIT_STATUSES, run_command
from fer_build.server import EmbeddedTriton
from fer_client import FerClient

_CACHE_BYTES: Final = 64 << 20
_NEW_IMAGES: Final = 200


def time_a_miss(server: EmbeddedTriton, workload: Workload) -> float:
    """Microseconds that looking up and keeping costs for an image that is new. The server has a cache."""
    before = read_counters(server)
    with FerClient(server.http_url) as client:
        for number in range(_NEW_IMAGES):
            client.predict(workload.image + number.to_bytes(2, "big"))  # behind the JPEG's end marker
    change = read_counters(server).since(before)
    misses = change.total("nv_cache_num_misses_per_model", contract.FER_MODEL)
    if misses < _NEW_IMAGES:
        raise LoadError(f"the cache knew {_NEW_IMAGES - misses:.0f} of {_NEW_IMAGES} images that were new")
    return change.total("nv_cache_miss_duration_per_model", contract.FER_MODEL) / misses


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_bench.cache",
        description="Show what a response cache gains for images that come again, and costs for others.",
        epilog=EXIT_STATUSES,
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of each cell; default: %(default)s")
    parser.add_argument("--in-flight", type=int, default=16, metavar="N", help="default: %(default)s")
    parser.add_argument("--repository", type=Path, metavar="DIR", help="default: the released model, assembled anew")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.in_flight) < 1 or options.seconds <= 0:
        parser.error("--rounds and --in-flight must be at least 1, --seconds above 0")
    return run_command("fer_bench.cache", lambda: _run(options), LoadError)


def _run(options: argparse.Namespace) -> None:
    lines = ["| workload | without, images/s | all in the cache, images/s | faster by | a new image costs, us |"]
    lines.append("|" + " --- |" * 5)
    with serve(options.repository) as plain, serve(options.repository, _CACHE_BYTES) as caching:
        for workload in tqdm(make_workloads(), unit="workload", leave=False, disable=None):
            speeds: dict[EmbeddedTriton, list[float]] = {plain: [], caching: []}
            for _ in range(options.rounds):
                for server, rounds in speeds.items():
                    with check_answers(server, options.in_flight):
                        load = send_load(
                            grpc_request(server.grpc_url, workload.image), options.in_flight, options.seconds
                        )
                    rounds.append(load.per_s)
            faster = statistics.median(b / a for a, b in zip(speeds[plain], speeds[caching], strict=True))
            without, cached = (statistics.median(rounds) for rounds in speeds.values())
            miss_us = time_a_miss(caching, workload)
            lines.append(f"| {workload.name} | {without:.1f} | {cached:.1f} | {faster:.1f} | {miss_us:.0f} |")
    how = f"gRPC, {options.in_flight} in flight, {options.rounds} rounds of {options.seconds:g} s"
    print("\n".join(lines) + f"\n\n{how}\n{describe_machine()}")


if __name__ == "__main__":
    sys.exit(main())
