"""Faces through the classifier of a running server, as any client would send them. Used by `evaluate` and `compare`."""

from contextlib import closing
from typing import Final

import numpy as np
import numpy.typing as npt

from fer_client import ContractError, CroppedPrediction, FerClient, FerClientError
from fer_contract import FER_CROPPED_MODEL, LABELS

IN_FLIGHT: Final = 8
"""Requests at a time: enough to keep a server busy and its batches filled, far below the 32 that may wait there."""
RETRIES: Final = 6
"""Of a request that an overloaded server has no room for: 3 s of pauses on average, 6 s at most."""


def predict_served(url: str, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Classify faces with the model `fer_cropped` of a server, each sent as one file without loss.

    Args:
        url: `host:port`, `http://host:port` or `grpc://host:port`.
        images: uint8, (N, 48, 48), gray, 0..255.

    Returns:
        PROBABILITIES, float32, (N, 7).

    Raises:
        ValueError: The URL is none.
        ServerUnreachableError: No server answers there.
        ContractError: It does not serve this model, or one of other labels.
        RequestTimeoutError: An answer takes longer than 30 s.
        ServerOverloadedError: It has no room for a request, seven times in a row.
        ImageRefusedError: It does not accept a face.
        ServerError: It failed.
    """
    with (
        FerClient(url, retries=RETRIES) as client,
        closing(client.predict_many(images, concurrency=IN_FLIGHT, cropped=True)) as answers,
    ):
        return np.array([_probabilities(answer, client.url) for answer in answers], np.float32)  # (N, 7)


def _probabilities(answer: CroppedPrediction | FerClientError, url: str) -> list[float]:
    """Return the probabilities of one face in the order of LABELS. Raises as `predict_served`."""
    if isinstance(answer, FerClientError):
        raise answer
    if tuple(answer.probabilities) != LABELS:
        labels = ",".join(answer.probabilities)
        raise ContractError(url, f"labels of {FER_CROPPED_MODEL!r} are {labels}, expected {','.join(LABELS)}")
    return list(answer.probabilities.values())
