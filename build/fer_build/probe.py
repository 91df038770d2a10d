"""Proves a server alive by a real inference: Triton reports itself ready even when its Python stubs are dead.

Called by `fer_build.server` and, through it, by the supervisor in `fer_build.serve`.
"""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import tritonclient.http
from tritonclient.utils import InferenceServerException

import fer_contract as contract

_IMAGE: Final = struct.pack("<2sIHHI IiiHHIIiiII 4s", b"BM", 58, 0, 0, 54, 40, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0, bytes(4))
"""A BMP of one black pixel. Without a face, its dummy row still goes through preprocessing, classifier and
postprocessing. Source of the layout: BITMAPFILEHEADER and BITMAPINFOHEADER."""

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
    """Sends an image through the ensemble `fer`.

    Args:
        http_url: `host:port` of the server.
        timeout_s: limit for connecting and for the answer, each.

    Returns:
        None if the server works: it answered, or it is too busy and said so. Otherwise the problem.
    """
    image = tritonclient.http.InferInput(contract.IMAGE, [1], "BYTES")
    image.set_data_from_numpy(np.array([_IMAGE], np.object_))
    try:
        client = tritonclient.http.InferenceServerClient(
            http_url, connection_timeout=timeout_s, network_timeout=timeout_s
        )
        with client:
            probabilities = client.infer(contract.FER_MODEL, [image]).as_numpy(contract.PROBABILITIES)
    except InferenceServerException as error:
        message = str(error)
        return None if any(sign in message for sign in _OVERLOADED) else Problem(f"it answered: {message}")
    except Exception as error:  # gevent, geventhttpclient and sockets each bring their own kinds.
        return Problem(f"it does not answer ({error})", is_silence=True)
    if probabilities is None or probabilities.shape != (0, len(contract.LABELS)):
        return Problem("it gave a wrong answer to an image without a face")
    return None
