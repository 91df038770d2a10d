"""What a client can ask of a server, whatever the protocol, as values.

The codecs turn them into requests and answers into results; what each call results in is written at the call. Results
that are JSON look the same over both protocols, but for what protobuf does to it: integers are strings there, and what
is zero or empty is left out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Infer:
    """Send one image through a model whose only input is IMAGE. Results in a dict of arrays by tensor name.

    Attributes:
        model: The model's name.
        image: One encoded image file.
        outputs: Names of the tensors wanted; the result may lack some.
        request_id: Comes back with the answer, and so tells that it is the answer to this request. Random, so that
            forked processes don't count on from the same number.
    """

    model: str
    image: bytes
    outputs: tuple[str, ...]
    request_id: str = field(default_factory=lambda: os.urandom(8).hex(), compare=False)


@dataclass(frozen=True)
class ModelConfig:
    """The configuration of a served model. Results in JSON."""

    model: str


@dataclass(frozen=True)
class ModelMetadata:
    """Versions and tensors of a served model. Results in JSON."""

    model: str


@dataclass(frozen=True)
class ServerMetadata:
    """Name, version and extensions of the server. Results in JSON."""


@dataclass(frozen=True)
class ServerLive:
    """Whether the server answers at all. Results in a bool."""


@dataclass(frozen=True)
class ServerReady:
    """Whether the server says that it is ready. Results in a bool."""


@dataclass(frozen=True)
class ModelReady:
    """Whether the server says that the model is ready. Results in a bool."""

    model: str


Call = Infer | ModelConfig | ModelMetadata | ServerMetadata | ServerLive | ServerReady | ModelReady
