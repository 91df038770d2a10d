"""Prove a server alive by real inferences: Triton reports itself ready even when its Python stubs are dead.

fer-serve probe [--url http://localhost:8000] [--timeout 12]
"""

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import tritonclient.http
from tritonclient.utils import InferenceServerException

import fer_contract as contract
from fer_commands.exit_codes import ExitCode
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_serve.errors import ServerFailedError

_HEADER: Final = struct.pack("<2sIHHI IiiHHIIiiII", b"BM", 58, 0, 0, 54, 40, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0)
"""The header of a BMP of one pixel, whose colour follows: a random one, lest the answer come from a response cache.
The picture has no face, but its dummy row still goes through every model of the ensemble. Source of the layout:
BITMAPFILEHEADER and BITMAPINFOHEADER."""

_EXPECTED_ROWS: Final = {contract.FER_MODEL: 0, contract.FER_CROPPED_MODEL: 1}
"""Rows of PROBABILITIES: the picture has no face, and as a crop it is taken for one."""

_OVERLOADED: Final = ("Exceeds maximum queue size", "timed out in queue", "Request timeout expired")


@dataclass(frozen=True)
class Problem:
    """A problem that a probe found."""

    description: str
    is_silence: bool = False
    """Whether there was no answer in time: the server is broken, or only very busy."""

    @property
    def is_final(self) -> bool:
        """Whether it is useless to wait: a Python stub has died, and this Triton does not start another."""
        return "is not healthy" in self.description

    def __str__(self) -> str:
        """Return the description."""
        return self.description


def probe(http_url: str, timeout_s: float) -> Problem | None:
    """Send an image through each of the ensembles, `fer` and `fer_cropped`, which together use every model.

    Args:
        http_url: `host:port` of the server.
        timeout_s: Limit for connecting and for the answer, each.

    Returns:
        None if the server works: it answered, or it is too busy and said so. Otherwise the problem.
    """
    problems = (_probe_model(http_url, timeout_s, model, rows) for model, rows in _EXPECTED_ROWS.items())
    return next(filter(None, problems), None)


def _probe_model(http_url: str, timeout_s: float, model: str, expected_rows: int) -> Problem | None:
    image = tritonclient.http.InferInput(contract.IMAGE, [1], "BYTES")
    image.set_data_from_numpy(np.array([_HEADER + os.urandom(4)], np.object_))
    try:
        client = tritonclient.http.InferenceServerClient(
            http_url, connection_timeout=timeout_s, network_timeout=timeout_s
        )
        with client:
            probabilities = client.infer(model, [image]).as_numpy(contract.PROBABILITIES)
    except InferenceServerException as error:
        message = str(error)
        return None if any(sign in message for sign in _OVERLOADED) else Problem(f"it answered: {message}")
    except Exception as error:  # gevent, geventhttpclient and sockets each bring their own kinds.
        return Problem(f"it does not answer ({error})", is_silence=True)
    if probabilities is None or probabilities.shape != (expected_rows, len(contract.LABELS)):
        return Problem(f"{model} gave a wrong answer to one pixel")
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `fer-serve probe` and return its exit code."""
    parser = subcommand_parser(
        "fer-serve probe",
        description="Check with real inferences through every model that a server works, whichever started it.",
        exit_codes=(ExitCode.OK, ExitCode.FAILED, ExitCode.USAGE, ExitCode.INTERRUPTED),
    )
    parser.add_argument("--url", default="http://localhost:8000", help="default: %(default)s")
    parser.add_argument("--timeout", type=float, default=12, metavar="S", help="seconds; default: %(default)s")
    options = parser.parse_args(arguments)
    host = options.url.removeprefix("http://").rstrip("/")

    def work() -> None:
        if problem := probe(host, options.timeout):
            raise ServerFailedError(f"{options.url}: {problem}")
        print(f"{options.url} answers as it should, or is busy and says so")

    return run_command(parser.prog, work, debug=options.debug)
