"""Whether an answer is the one that was expected, and what kind of failure it is where it is not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import fer_contract as contract
from fer_client import (
    AuthenticationError,
    ContractError,
    FerClientError,
    ImageRefusedError,
    RequestTimeoutError,
    ServerOverloadedError,
    ServerUnreachableError,
)
from fer_client.protocol import ServedModel
from fer_loadtest.errors import WrongAnswerError
from fer_loadtest.recorder import WRONG_ANSWER

OVERLOADED: Final = "overloaded (503)"
TIMEOUT: Final = "timeout"
UNREACHABLE: Final = "unreachable"

_KINDS: Final = (
    (WrongAnswerError, WRONG_ANSWER),
    (ContractError, WRONG_ANSWER),
    (ServerOverloadedError, OVERLOADED),
    (RequestTimeoutError, TIMEOUT),
    (ServerUnreachableError, UNREACHABLE),
    (ImageRefusedError, "refused (400)"),
    (AuthenticationError, "denied (401)"),
    (FerClientError, "server failed (500)"),
    (Exception, "defect of the load test"),
)

_SUM_TOLERANCE: Final = 1e-3
"""Seven probabilities in float32, from a softmax that may be rounded to half."""
_BOX_TOLERANCE_PX: Final = 1e-3


@dataclass(frozen=True)
class Expected:
    """What the server has to answer to one picture.

    Attributes:
        faces: How many; None if it has to refuse the picture.
        width: Of the upright image, in px.
        height: The same.
    """

    faces: int | None
    width: int = 0
    height: int = 0


def check_tensors(tensors: Mapping[str, npt.NDArray[Any]], expected: Expected, served: ServedModel, url: str) -> int:
    """Make sure that an answer is what it has to be.

    Args:
        tensors: The outputs of `fer`.
        expected: What they have to say.
        served: What the server says about `fer`.
        url: The server's, for messages.

    Returns:
        How many faces there are.

    Raises:
        ContractError: Tensors are missing, or of wrong types or shapes.
        WrongAnswerError: Values are out of range, or not those of this picture.
    """
    if expected.faces is None:
        raise WrongAnswerError("a file that is no picture was answered, where 400 was expected")
    checked = served.checked(tensors, url)
    width, height = checked[contract.IMAGE_SIZE].tolist()
    if (width, height) != (expected.width, expected.height):
        raise WrongAnswerError(f"IMAGE_SIZE is {width}x{height}, expected {expected.width}x{expected.height}")
    boxes = checked[contract.BOXES]
    if len(boxes) != expected.faces:
        raise WrongAnswerError(f"{len(boxes)} faces, expected {expected.faces}")
    if expected.faces:
        _check_faces(checked, width, height)
    return expected.faces


def _check_faces(checked: Mapping[str, npt.NDArray[Any]], width: int, height: int) -> None:
    boxes, landmarks = checked[contract.BOXES], checked[contract.LANDMARKS]
    limits = np.array([width, height], np.float32) + _BOX_TOLERANCE_PX
    corners = boxes.reshape(-1, 2, 2)  # (faces, lower and upper corner, x and y)
    if not ((corners >= -_BOX_TOLERANCE_PX) & (corners <= limits)).all() or not (corners[:, 0] < corners[:, 1]).all():
        raise WrongAnswerError(f"BOXES {boxes.tolist()} do not lie within {width}x{height} px")
    if not np.isfinite(landmarks).all():
        raise WrongAnswerError("LANDMARKS are not numbers")
    scores, probabilities = checked[contract.DETECTION_SCORES], checked[contract.PROBABILITIES]
    for name, values in ((contract.DETECTION_SCORES, scores), (contract.PROBABILITIES, probabilities)):
        if not ((values >= 0) & (values <= 1)).all():  # Not a number is neither.
            raise WrongAnswerError(f"{name} are not within 0..1: {values.tolist()}")
    if (np.abs(probabilities.sum(axis=1) - 1) > _SUM_TOLERANCE).any():
        raise WrongAnswerError(f"PROBABILITIES do not sum to 1 but to {probabilities.sum(axis=1).tolist()}")


def is_expected_refusal(error: Exception, expected: Expected) -> bool:
    """Whether a failure is what the picture deserves, and the message names the tensor, as the contract has it."""
    return expected.faces is None and isinstance(error, ImageRefusedError) and contract.IMAGE in error.reason


def kind_of(error: Exception) -> str:
    """What reports call a failure.

    Over gRPC a connection that was dropped is UNAVAILABLE as a full queue is; the words tell them apart.
    """
    if isinstance(error, ServerOverloadedError) and re.search(
        r"socket closed|connection reset|broken pipe|goaway|recvmsg|failed to connect", error.reason, re.IGNORECASE
    ):
        return UNREACHABLE
    return next(name for kind, name in _KINDS if isinstance(error, kind))
