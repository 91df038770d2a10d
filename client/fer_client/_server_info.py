"""What a server says about itself, for people who look at it: `FerClient.describe` and `fer-client info`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fer_client._quality import QualityBound


@dataclass(frozen=True)
class ModelInfo:
    """One model of the server.

    Attributes:
        name: Its name.
        versions: The versions of it that the server has loaded, as Triton counts them; empty where it is not there.
        ready: Whether the server says that it is ready.
    """

    name: str
    versions: tuple[str, ...]
    ready: bool


@dataclass(frozen=True)
class ServerInfo:
    """A server and what it serves.

    Attributes:
        url: The server's.
        name: Name of the software, `triton` for Triton.
        version: Its version.
        extensions: Names of the protocol's extensions that it has.
        models: The models of the contract, whether the server has them or not.
        labels: The expressions told apart, in the model's order.
        model_version: Version of the network.
        uncertain_below: A face whose highest probability is below it is uncertain.
        quality_columns: What is measured of each face's picture; empty where the server does not say.
        quality_bounds: A face beyond one of them is uncertain too.
        max_image_bytes: The largest file that it accepts; None where it does not say.
        max_image_pixels: The largest image that it accepts, width times height; None where it does not say.
    """

    url: str
    name: str
    version: str
    extensions: tuple[str, ...]
    models: tuple[ModelInfo, ...]
    labels: tuple[str, ...]
    model_version: str
    uncertain_below: float
    quality_columns: tuple[str, ...]
    quality_bounds: tuple[QualityBound, ...]
    max_image_bytes: int | None
    max_image_pixels: int | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "quality_bounds": [bound.to_dict() for bound in self.quality_bounds]}
