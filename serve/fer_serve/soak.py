"""Send many requests to a server of its own, and tell how much more memory it holds after them: a leak shows as growth.

    fer-serve soak --image examples/astronaut.png --requests 10000

Photos, crops, and files cut in half, eight in flight. The memory is that of the server's processes and its
shared-memory regions. Growth is the slope of a line through twenty readings, one after each twentieth of the requests,
because single readings swing by more than the growth to be found.
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

import fer_contract as contract
from fer_commands.exit_codes import ExitCode
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_serve.errors import LeakError, ServerFailedError
from fer_serve.server import serving

_IN_FLIGHT: Final = 8
_READINGS: Final = 20
_REFUSED: Final = "StatusCode.INVALID_ARGUMENT"
PER_REQUESTS: Final = 10_000
"""The number of requests that growth is given for."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `fer-serve soak` and return its exit code."""
    options = _parse(arguments)

    def work() -> None:
        grown_mb = soak(options.image.read_bytes(), options.requests, options.warm_up)
        if grown_mb > options.limit:
            raise LeakError(f"memory grew by {grown_mb:.2f} MB per {PER_REQUESTS:,} requests, over {options.limit:g}")

    return run_command("fer-serve soak", work, debug=options.debug)


def soak(image: bytes, requests: int, warm_up: int) -> float:
    """Send the requests to a server that serves the released classifier, and print what it holds meanwhile.

    Args:
        image: A photo.
        requests: The number of requests that are measured, at least 20.
        warm_up: The number of requests before. Somewhere in the first 10,000 memory grows by 2 MB once, and then stays.

    Returns:
        The growth of memory with 10,000 requests, MB.

    Raises:
        FerBuildError, FerServeError: What `serving` raises, or the server gave a wrong answer.
    """
    with serving() as server, tritonclient.grpc.InferenceServerClient(server.grpc_url) as client:
        _send(client, image, warm_up)
        held = [server.memory_bytes() / 1e6]
        print(f"{held[0]:.1f} MB after {warm_up:,} requests of warm-up", flush=True)
        step = requests // _READINGS
        for reading in range(1, _READINGS + 1):
            _send(client, image, step)
            held.append(server.memory_bytes() / 1e6)
            print(f"{held[-1]:.1f} MB after {reading * step:,} more", flush=True)
    slope, _ = np.polyfit(np.arange(len(held)) * step, held, 1)
    grown_mb = float(slope) * PER_REQUESTS
    print(f"{grown_mb:+.2f} MB per {PER_REQUESTS:,} requests")
    return grown_mb


def _send(client: tritonclient.grpc.InferenceServerClient, image: bytes, count: int) -> None:
    """Send photos, crops and halves of files in turn."""
    halves = image[: len(image) // 2]
    kinds = [(contract.FER_MODEL, image), (contract.FER_CROPPED_MODEL, image), (contract.FER_MODEL, halves)]

    def ask(index: int) -> None:
        model, data = kinds[index % len(kinds)]
        tensor = tritonclient.grpc.InferInput(contract.IMAGE, [1], "BYTES")
        tensor.set_data_from_numpy(np.array([data], np.object_))
        try:
            client.infer(model, [tensor])
        except InferenceServerException as error:
            if data is image or error.status() != _REFUSED:
                raise ServerFailedError(f"{model} answered: {error}") from None
        else:
            if data is not image:
                raise ServerFailedError(f"{model} accepted half a file")

    with ThreadPoolExecutor(_IN_FLIGHT) as pool:
        for _ in pool.map(ask, range(count)):
            pass


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = subcommand_parser(
        "fer-serve soak",
        description="Send many requests to a server of its own, and check that its memory does not grow.",
        exit_codes=(ExitCode.OK, ExitCode.FAILED, ExitCode.USAGE, ExitCode.CHECK_FAILED, ExitCode.INTERRUPTED),
    )
    parser.add_argument("--image", type=Path, required=True, metavar="FILE", help="a photo to send")
    parser.add_argument("--requests", type=int, default=PER_REQUESTS, metavar="N", help="default: %(default)s")
    parser.add_argument("--warm-up", type=int, default=PER_REQUESTS, metavar="N", help="before; default: %(default)s")
    parser.add_argument(
        "--limit", type=float, default=1.0, metavar="MB", help=f"per {PER_REQUESTS} requests; default: %(default)s"
    )
    options = parser.parse_args(arguments)
    if options.requests < _READINGS or options.warm_up < 0:
        parser.error(f"--requests must be at least {_READINGS}, --warm-up at least 0")
    return options
