"""Faces through the classifier of a running server, as any client would send them. Used by `evaluate` and `compare`."""

import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fer_client import ContractError, ServerOverloadedError

# The client's public door leads to the model `fer` alone, which looks for a face first. A crop has none to be found.
from fer_client._endpoint import parse_endpoint
from fer_client._transport import Transport, open_transport
from fer_contract import FACE_SIZE_PX, FER_CROPPED_MODEL, LABELS, LABELS_PARAMETER, PROBABILITIES

IN_FLIGHT: Final = 8
"""Requests at a time: enough to keep a server busy and its batches filled, far below the 32 that may wait there."""
TIMEOUT_S: Final = 30.0
ATTEMPTS: Final = 6
FIRST_PAUSE_S: Final = 0.1
"""Before an overloaded server is asked again; each further pause is twice as long, all of them together are 3 s."""


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
        ServerOverloadedError: it has no room for a request, six times in a row.
        ImageRefusedError: it does not accept a face.
        ServerError: it failed.
    """
    transport = open_transport(parse_endpoint(url), TIMEOUT_S)
    try:
        _check_labels(transport)
        with ThreadPoolExecutor(IN_FLIGHT) as threads:
            answers = threads.map(lambda image: _classify(transport, encode_png(image)), images)
            return np.concatenate(list(answers))  # After a failure, what has not been sent yet stays unsent.
    finally:
        transport.close()


def _check_labels(transport: Transport) -> None:
    url, config = transport.endpoint.url, transport.model_config(FER_CROPPED_MODEL)
    try:
        labels = config["parameters"][LABELS_PARAMETER]["string_value"]
    except (LookupError, TypeError):
        labels = "none"
    if labels != ",".join(LABELS):
        raise ContractError(url, f"labels of {FER_CROPPED_MODEL!r} are {labels}, expected {','.join(LABELS)}")


def _classify(transport: Transport, png: bytes) -> npt.NDArray[Any]:
    """PROBABILITIES of one face: (1, 7)."""
    for attempt in range(ATTEMPTS):
        try:
            probabilities = transport.infer(FER_CROPPED_MODEL, png, [PROBABILITIES])[PROBABILITIES]
            break
        except ServerOverloadedError:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(FIRST_PAUSE_S * 2**attempt)
    expected = (1, len(LABELS))
    if probabilities is None or probabilities.shape != expected:
        found = None if probabilities is None else list(probabilities.shape)
        raise ContractError(transport.endpoint.url, f"{PROBABILITIES} has the shape {found}, expected {list(expected)}")
    return probabilities


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """A face as a PNG file: uint8, (48, 48), gray -> 8 bits of gray per pixel."""
    rows = np.pad(image, ((0, 0), (1, 0)))  # (48, 49): each row begins with its filter, none.
    header = struct.pack(">IIBBBBB", FACE_SIZE_PX, FACE_SIZE_PX, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
