"""What can go wrong, as problem details. Source: RFC 9457.

A problem's `type` is the place in this service's own documents that explains it: `/docs#rate-limited`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from fer_client import (
    AuthenticationError,
    FerClientError,
    ImageRefusedError,
    RequestTimeoutError,
    ServerOverloadedError,
    ServerUnreachableError,
)

MEDIA_TYPE: Final = "application/problem+json"
_RETRY_AFTER_S: Final = 1


class Kind(NamedTuple):
    """One kind of problem."""

    status: int
    title: str
    remedy: str


KINDS: Final = {
    "malformed-request": Kind(400, "The request cannot be read", "Correct it as the detail says."),
    "unauthorized": Kind(
        401, "A token is needed", "Send `Authorization: Bearer TOKEN` with one of the operator's tokens."
    ),
    "foreign-origin": Kind(
        403, "Pages of other origins are not let in", "Ask the operator to name the origin with `--cors-origin`."
    ),
    "not-found": Kind(404, "There is nothing at this path", "The paths are in `/openapi.json`."),
    "method-not-allowed": Kind(
        405, "The path does not have this method", "The header `Allow` lists those that it has."
    ),
    "slow-request": Kind(408, "The request body took too long", "Send it faster, or smaller."),
    "too-large": Kind(413, "The request is too large", "Send fewer or smaller pictures; `/v1/model` has the limits."),
    "unsupported-media-type": Kind(
        415,
        "The request body is of another kind",
        "Send multipart/form-data, image/* or application/json, not compressed.",
    ),
    "image-refused": Kind(
        422, "The picture is not accepted", "Send a whole JPEG, PNG, WebP or BMP file within the limits."
    ),
    "rate-limited": Kind(429, "This client sends too many pictures", "Wait as long as `Retry-After` says."),
    "head-too-large": Kind(431, "The head of the request is too large", "Send fewer and shorter headers."),
    "internal-error": Kind(500, "The service failed", "Report it with the request id."),
    "model-failed": Kind(
        502, "The model server failed", "The operator finds the reason in the logs, by the request id."
    ),
    "overloaded": Kind(503, "The service is busy", "Wait as long as `Retry-After` says."),
    "model-unreachable": Kind(
        503, "The model server does not answer", "Wait as long as `Retry-After` says; the operator sees `/readyz`."
    ),
    "model-timeout": Kind(
        504, "The model server took too long", "Try again a little later, or send a smaller picture."
    ),
}
"""By the last part of their type."""


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """Ends a request, or one of its pictures."""

    def __init__(
        self, kind: str, detail: str, *, retry_after_s: float | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Describe it.

        Args:
            kind: One of KINDS.
            detail: What was expected, what came, and what to do. Nothing about this machine.
            retry_after_s: When the same request may succeed; None where the kind says it all.
            headers: Further headers of the answer.
        """
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.status = KINDS[kind].status
        self._retry_after_s = retry_after_s
        self._headers = headers or {}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of an answer that is this problem."""
        headers = {**self._headers, **({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})}
        if self.status in (429, 503):
            headers["Retry-After"] = str(math.ceil(self._retry_after_s or _RETRY_AFTER_S))
        return headers

    def to_dict(self, request_id: str, image: int | None = None) -> dict[str, Any]:
        """Return the members of the problem details.

        Args:
            request_id: Of the request.
            image: Which of the request's pictures it is about, from 0; None where it is about the request.
        """
        return {
            "type": f"/docs#{self.kind}",
            "title": KINDS[self.kind].title,
            "status": self.status,
            "detail": self.detail,
            "request_id": request_id,
            **({} if image is None else {"image": image}),
        }


def from_client_error(error: FerClientError) -> Problem:
    """Return the problem that an error of the client is for those who asked. URLs and logs are not theirs to see."""
    match error:
        case ImageRefusedError():
            return Problem("image-refused", _gist(error.reason))
        case ServerOverloadedError():
            return Problem("overloaded", "The model server's queue is full: try again a little later.")
        case RequestTimeoutError():
            return Problem("model-timeout", "The model server did not answer in time: try again a little later.")
        case ServerUnreachableError():
            return Problem("model-unreachable", "The model server does not answer: try again later.")
        case AuthenticationError():
            return Problem("model-failed", "The model server does not let this service in.")
        case _:
            return Problem("model-failed", "The model server failed or serves something else.")


def _gist(reason: str) -> str:
    """Return the model's own words about a picture: the first line, without what Triton puts before it."""
    first_line = next((line.strip() for line in reason.splitlines() if line.strip()), "The picture was refused.")
    return re.sub(r"^(\[request id: [^\]]*\] |in ensemble '[^']*', )+", "", first_line)
