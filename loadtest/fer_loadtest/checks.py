"""Checks an answer against what was expected, and names the kind of failure where it is something else."""

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
from fer_loadtest.transports import ServedModel

WRONG_ANSWER: Final = "wrong answer"
OVERLOADED: Final = "overloaded (503)"
TIMEOUT: Final = "timeout"
UNREACHABLE: Final = "unreachable"
NOT_SENT: Final = "not sent"

_SUM_TOLERANCE: Final = 1e-3
"""For seven probabilities in float32 from a softmax that may have been rounded to half precision."""
_BOX_TOLERANCE_PX: Final = 1e-3


class WrongAnswerError(Exception):
    """An answer is well-formed and cannot be right. It is counted as a failure of its request."""


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


@dataclass(frozen=True)
class Expected:
    """What the server has to answer to one picture.

    Attributes:
        faces: Number of faces in the answer; None if the server has to refuse the picture.
        width: Width of the upright image, in px.
        height: Height of the upright image, in px.
        found: Number of faces found in the picture, of which the answer has the largest; None where the server does
            not say.
    """

    faces: int | None
    width: int = 0
    height: int = 0
    found: int | None = None

    @classmethod
    def of(cls, tensors: Mapping[str, npt.NDArray[Any]]) -> Expected:
        """Take an answer's own figures as what is expected from now on."""
        width, height = tensors[contract.IMAGE_SIZE].tolist()
        found = int(tensors[contract.FACES_FOUND][0]) if contract.FACES_FOUND in tensors else None
        return cls(len(tensors[contract.BOXES]), width, height, found)


def check_tensors(tensors: Mapping[str, npt.NDArray[Any]], expected: Expected, served: ServedModel, url: str) -> int:
    """Check that an answer is what it has to be.

    Args:
        tensors: Outputs of `fer`.
        expected: What they have to say.
        served: What the server says about `fer`.
        url: URL of the server, for messages.

    Returns:
        The number of faces in the answer.

    Raises:
        ContractError: A tensor is missing or has the wrong type or shape, or fewer faces were found than returned.
        WrongAnswerError: A value is out of range, or is not that of this picture.
    """
    if expected.faces is None:
        raise WrongAnswerError("a file that is no picture was answered, expected a refusal with 400")
    checked = served.checked(tensors, url)
    width, height = checked[contract.IMAGE_SIZE].tolist()
    if (width, height) != (expected.width, expected.height):
        raise WrongAnswerError(f"IMAGE_SIZE is {width}x{height}, expected {expected.width}x{expected.height}")
    boxes = checked[contract.BOXES]
    if len(boxes) != expected.faces:
        raise WrongAnswerError(f"{len(boxes)} faces, expected {expected.faces}")
    if contract.FACES_FOUND in checked and (found := int(checked[contract.FACES_FOUND][0])) != expected.found:
        raise WrongAnswerError(f"FACES_FOUND is {found}, expected {expected.found}")
    if expected.faces:
        _check_faces(checked, width, height)
    return expected.faces


def _check_faces(checked: Mapping[str, npt.NDArray[Any]], width: int, height: int) -> None:
    boxes = checked[contract.BOXES]
    limits = np.array([width, height], np.float32) + _BOX_TOLERANCE_PX
    corners = boxes.reshape(-1, 2, 2)  # (faces, lower and upper corner, x and y)
    if not ((corners >= -_BOX_TOLERANCE_PX) & (corners <= limits)).all() or not (corners[:, 0] < corners[:, 1]).all():
        raise WrongAnswerError(f"BOXES {boxes.tolist()} do not lie within {width}x{height} px")
    for name in (contract.LANDMARKS, contract.QUALITY):
        if name in checked and not np.isfinite(checked[name]).all():
            raise WrongAnswerError(f"{name} has values that are not finite: {checked[name].tolist()}")
    for name in (contract.DETECTION_SCORES, contract.PROBABILITIES):
        values = checked[name]
        if not ((values >= 0) & (values <= 1)).all():  # NaN is neither.
            raise WrongAnswerError(f"{name} are not within 0..1: {values.tolist()}")
    sums = checked[contract.PROBABILITIES].sum(axis=1)
    if (np.abs(sums - 1) > _SUM_TOLERANCE).any():
        raise WrongAnswerError(f"PROBABILITIES sum to {sums.tolist()}, expected 1")


def is_expected_refusal(error: Exception, expected: Expected) -> bool:
    """Return whether the picture had to be refused, and was, by a message that names the tensor."""
    return expected.faces is None and isinstance(error, ImageRefusedError) and contract.IMAGE in error.reason


def kind_of(error: Exception) -> str:
    """Return what reports call a failure.

    Over gRPC a connection that was dropped is UNAVAILABLE, as a full queue is. The message tells them apart.
    """
    if isinstance(error, ServerOverloadedError) and re.search(
        r"socket closed|connection reset|broken pipe|goaway|recvmsg|failed to connect", error.reason, re.IGNORECASE
    ):
        return UNREACHABLE
    return next(name for kind, name in _KINDS if isinstance(error, kind))
