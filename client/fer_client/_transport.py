"""The four things that a client asks of a server, whatever the protocol. `_http` and `_grpc` carry them out.

Everything that goes wrong on the way comes out as one of `fer_client`'s errors. A transport may be shared by threads.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import fer_contract
from fer_client._endpoint import Endpoint
from fer_client._errors import ContractError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Transport(ABC):
    """A way to reach one server.

    Attributes:
        endpoint: Where the server is.
        timeout_s: How long to wait for an answer, in seconds.
    """

    _triton: ModuleType
    """`tritonclient.http` or `tritonclient.grpc`: both name their tensor classes alike."""

    def __init__(self, endpoint: Endpoint, timeout_s: float) -> None:
        """Prepare to talk to the server; nothing is sent yet."""
        self.endpoint = endpoint
        self.timeout_s = timeout_s

    def infer(self, model: str, image: bytes, outputs: Sequence[str]) -> dict[str, NDArray[Any] | None]:
        """Send one image through a model.

        Args:
            model: Name of a model whose only input is IMAGE.
            image: One encoded image file.
            outputs: Names of the tensors wanted.

        Returns:
            The tensors by name, as the server shaped them; None for one that the answer lacks.

        Raises:
            ServerUnreachableError: No server answers.
            RequestTimeoutError: It takes longer than `timeout_s`.
            ServerOverloadedError: The server has no room for the request now.
            ImageRefusedError: The server does not accept the image.
            ContractError: There is no such model at the server, or no Triton, or its answer makes no sense.
            ServerError: The server failed.
        """
        import numpy as np  # Not at the top, so that `import fer_client` stays light.

        tensor = self._triton.InferInput(fer_contract.IMAGE, [1], "BYTES")
        tensor.set_data_from_numpy(np.array([image], dtype=np.object_))
        wanted = [self._triton.InferRequestedOutput(name) for name in outputs]
        result = self._infer(model, [tensor], wanted)
        with self._reading():
            return {name: result.as_numpy(name) for name in outputs}

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Where an answer is read: tritonclient trusts it, and fails in many ways where it should not have."""
        from tritonclient.utils import InferenceServerException  # Not at the top: it imports NumPy.

        try:
            yield
        except (
            ArithmeticError,
            AttributeError,
            InferenceServerException,
            LookupError,
            TypeError,
            ValueError,
            struct.error,
        ) as error:
            reason = f"its answer cannot be read ({type(error).__name__}: {error})"
            raise ContractError(self.endpoint.url, reason) from error

    @abstractmethod
    def _infer(self, model: str, inputs: list[Any], outputs: list[Any]) -> Any:
        """Send tritonclient's inputs and return its InferResult. Raises as `infer`."""

    @abstractmethod
    def model_config(self, model: str) -> Mapping[str, Any]:
        """The configuration of a served model, as JSON. Raises as `infer`."""

    @abstractmethod
    def is_ready(self, model: str) -> bool:
        """Whether the server and the model say that they are ready. Raises as `infer`."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""


def open_transport(endpoint: Endpoint, timeout_s: float) -> Transport:
    """The transport for the endpoint's protocol. The other one, and what it imports, is not even loaded."""
    if endpoint.protocol == "grpc":
        from fer_client._grpc import GrpcTransport

        return GrpcTransport(endpoint, timeout_s)
    from fer_client._http import HttpTransport

    return HttpTransport(endpoint, timeout_s)
