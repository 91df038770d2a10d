"""Faces through the classifier of a running server, as any client would send them. Used by `evaluate` and `compare`."""

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt

from fer_client import ContractError, FerClient
from fer_contract import FACE_SIZE_PX, FER_CROPPED_MODEL, LABELS

IN_FLIGHT: Final = 8
"""Requests at a time: enough to keep a server busy and its batches filled, far below the 32 that may wait there."""
RETRIES: Final = 6
"""Of a request that an overloaded server has no room for: 3 s of pauses on average, 6 s at most."""


def predict_served(url: str, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Classifies faces with the model `fer_cropped` of a server, each as one PNG, which loses nothing.

    Args:
        url: `host:port`, `http://host:port` or `grpc://host:port`.
        images: uint8, (N, 48, 48), gray, 0..255.

    Returns:
        PROBABILITIES, float32, (N, 7).

    Raises:
        ValueError: the URL is none.
        ServerUnreachableError: no server answers there.
        ContractError: it does not serve this model, or one of other labels.
        RequestTimeoutError: an answer takes longer than 30 s.
        ServerOverloadedError: it has no room for a request, seven times in a row.
        ImageRefusedError: it does not accept a face.
        ServerError: it failed.
    """
    with FerClient(url, retries=RETRIES) as client, ThreadPoolExecutor(IN_FLIGHT) as threads:
        answers = threads.map(lambda image: _classify(client, encode_png(image)), images)
        return np.array(list(answers), np.float32)  # (N, 7). After a failure, what has not been sent yet stays unsent.


def _classify(client: FerClient, png: bytes) -> list[float]:
    """The probabilities of one face, in the order of LABELS."""
    probabilities = client.predict_cropped(png).probabilities
    if tuple(probabilities) != LABELS:
        labels = ",".join(probabilities)
        raise ContractError(client.url, f"labels of {FER_CROPPED_MODEL!r} are {labels}, expected {','.join(LABELS)}")
    return list(probabilities.values())


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """A face as a PNG file: uint8, (48, 48), gray -> 8 bits of gray per pixel."""
    rows = np.pad(image, ((0, 0), (1, 0)))  # (48, 49): each row begins with its filter, none.
    header = struct.pack(">IIBBBBB", FACE_SIZE_PX, FACE_SIZE_PX, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
