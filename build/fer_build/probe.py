"""Proves a server alive by a real inference: Triton reports itself ready even when its Python stubs are dead.

Called by `fer_build.server` and, through it, by the supervisor in `fer_build.serve`.
"""

import os
import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import tritonclient.http
from tritonclient.utils import InferenceServerException

import fer_contract as contract

_HEADER: Final = struct.pack("<2sIHHI IiiHHIIiiII", b"BM", 58, 0, 0, 54, 40, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0)
"""Of a BMP of one pixel, whose colour follows: a random one, lest the answer come from a response cache. Without a
face, its dummy row still goes through every model of the ensemble. Source of the layout: BITMAPFILEHEADER and
BITMAPINFOHEADER."""

_EXPECTED_ROWS: Final = {contract.FER_MODEL: 0, contract.FER_CROPPED_MODEL: 1}
"""Rows of PROBABILITIES: there is no face in that image, and as a crop it is taken for one."""

_OVERLOADED: Final = ("Exceeds maximum queue size", "timed out in queue", "Request timeout expired")


@dataclass(frozen=True)
class Problem:
    """What a probe found wrong."""

    description: str
    is_silence: bool = False
    """No answer in time: broken, or only very busy."""

    @property
    def is_final(self) -> bool:
        """Whether waiting can't help: a Python stub has died, and this Triton does not start another."""
        return "is not healthy" in self.description

    def __str__(self) -> str:
        """The description."""
        return self.description


def probe(http_url: str, timeout_s: float) -> Problem | None:
    """Sends an image through each of the ensembles, `fer` and `fer_cropped`, which together use every model.

    Args:
        http_url: `host:port` of the server.
        timeout_s: limit for connecting and for the answer, each.

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
