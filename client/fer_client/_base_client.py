"""What both clients have in common: their arguments, what they ask for each question, what they make of the answers.

Each method of `Core` is a generator that yields steps, is sent their results, and returns its own. `FerClient` carries
the steps out one after the other, `AsyncFerClient` awaits them: both are the same client, written once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import fer_contract
from fer_client._config import DEFAULT_RETRIES, DEFAULT_TIMEOUT_S, Compression, Protocol, Settings, Tls, read_settings
from fer_client._errors import ContractError, FerClientError
from fer_client._images import Channels, ImageSource
from fer_client._results import (
    CroppedPrediction,
    Prediction,
    cropped_prediction_from_tensors,
    prediction_from_tensors,
)
from fer_client._retries import Ask, Encode, Steps, ask, deadline_of
from fer_client._server import ModelInfo, ServedModel, ServerInfo, parameter
from fer_client.protocol import (
    Infer,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ServerMetadata,
    ServerReady,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MODELS: Final = (
    fer_contract.FER_MODEL,
    fer_contract.FER_CROPPED_MODEL,
    fer_contract.PREPROCESS_MODEL,
    fer_contract.PREPROCESS_CROPPED_MODEL,
    fer_contract.CLASSIFIER_MODEL,
    fer_contract.POSTPROCESS_MODEL,
)


class BaseClient(ABC):
    """A client without its questions: what it was told, and how it is pickled and shown."""

    def __init__(
        self,
        url: str = "localhost",
        protocol: Protocol | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        *,
        deadline_s: float | None = None,
        retries: int = DEFAULT_RETRIES,
        tls: Tls | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
        compression: Compression | None = None,
    ) -> None:
        """Say where the server is, and how to talk to it.

        Args:
            url: `host`, `host:port`, or that after `http://`, `grpc://`, `https://` or `grpcs://`. Without a port,
                Triton's own: 8000 for HTTP, 8001 for gRPC; with TLS 443.
            protocol: `http` or `grpc`; None takes the URL's, or HTTP where it names none.
            timeout_s: How long one try may take, in seconds.
            deadline_s: How long all tries of one call may take together, in seconds, pauses included; None for no
                limit beyond that of each try.
            retries: How often a request is sent again after the server was overloaded (HTTP 503, gRPC UNAVAILABLE) or
                the connection was refused or dropped, with growing random pauses. After nothing else.
            tls: Certificates for an encrypted connection, which this asks for where the URL has no scheme. With
                `https://` or `grpcs://`, None is good where the server's certificate is signed by a public authority.
            headers: Sent with each request; over gRPC as metadata.
            token: Sent with each request as `Authorization: Bearer TOKEN`.
            compression: `gzip` or `deflate`: compress requests, and ask for compressed answers. It pays for arrays of
                pixels over a slow line; JPEG and PNG files are compressed already.

        Raises:
            ValueError: An argument makes no sense, or contradicts another; the message says which, and no secret.
            MissingExtraError: The protocol needs libraries that are not installed.
        """
        settings = read_settings(url, protocol, timeout_s, deadline_s, retries, tls, headers, token, compression)
        self._begin(settings, is_closed=False)

    @property
    def url(self) -> str:
        """The server's URL in full: `http://host:port`, or another of the schemes."""
        return self._core.settings.endpoint.url

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle holds: all that the client was told, headers and token included."""
        return {"settings": self._core.settings, "is_closed": self._core.is_closed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make a client of what it was told, with connections of its own."""
        self._begin(**state)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _begin(self, settings: Settings, is_closed: bool) -> None:
        self._core = Core(settings)
        self._core.is_closed = is_closed
        self._transport = self._open_transport(settings)

    @staticmethod
    @abstractmethod
    def _open_transport(settings: Settings) -> Any:
        """Make the transport for the endpoint's protocol. The other one, and what it imports, is not even loaded."""


class Core:
    """What one client knows and does. It may be shared by threads: all it keeps are answers that are the same for each.

    Attributes:
        settings: What the client was told.
        is_closed: Set when the client is closed; nothing is asked any more then.
    """

    def __init__(self, settings: Settings) -> None:
        """Start knowing nothing of the server."""
        self.settings = settings
        self.is_closed = False
        self._served: dict[str, ServedModel] = {}

    def predict(self, image: ImageSource, channels: Channels | None = None) -> Steps[Prediction]:
        """Find the faces in an image."""
        served, tensors = yield from self._infer(fer_contract.FER_MODEL, image, channels)
        return prediction_from_tensors(tensors, served)

    def predict_cropped(self, image: ImageSource, channels: Channels | None = None) -> Steps[CroppedPrediction]:
        """Classify an image that is one face."""
        served, tensors = yield from self._infer(fer_contract.FER_CROPPED_MODEL, image, channels)
        return cropped_prediction_from_tensors(tensors, served)

    def infer(self, image: ImageSource, channels: Channels | None = None) -> Steps[dict[str, NDArray[Any]]]:
        """Return the tensors of `fer`."""
        _, tensors = yield from self._infer(fer_contract.FER_MODEL, image, channels)
        return tensors

    def served(self) -> Steps[ServedModel]:
        """Return what the server says about `fer`."""
        return (yield from self._served_model(fer_contract.FER_MODEL, deadline_of(self.settings)))

    def is_ready(self) -> Steps[bool]:
        """Return whether server and model say that they are ready. Ask once, whatever `retries` says."""
        self._require_open()
        for call in (ServerReady(), ModelReady(fer_contract.FER_MODEL)):
            try:
                if not (yield Ask(call, self.settings.timeout_s)):
                    return False
            except FerClientError:
                return False
        return True

    def check_health(self) -> Steps[None]:
        """Send a plain gray picture through the whole model."""
        import numpy as np  # Not at the top, so that `import fer_client` stays light.

        yield from self.predict(np.full((64, 64), 128, np.uint8))

    def describe(self) -> Steps[ServerInfo]:
        """Return all that a server says about itself. What it has none of is left empty."""
        deadline = deadline_of(self.settings)
        served = yield from self._served_model(fer_contract.FER_MODEL, deadline)
        server = yield from ask(self.settings, ServerMetadata(), deadline)
        models = []
        for name in _MODELS:
            model = yield from self._model_info(name, deadline)
            if model.versions or name != fer_contract.POSTPROCESS_MODEL:  # A server on a CPU has no need of it.
                models.append(model)
        try:
            preprocess = yield from ask(self.settings, ModelConfig(fer_contract.PREPROCESS_MODEL), deadline)
        except ContractError:
            preprocess = {}
        return ServerInfo(
            url=self.settings.endpoint.url,
            name=str(server.get("name", "")),
            version=str(server.get("version", "")),
            extensions=tuple(map(str, server.get("extensions", ()))),
            models=tuple(models),
            labels=served.labels,
            model_version=served.version,
            uncertain_below=served.uncertain_below,
            quality_columns=served.quality_columns,
            quality_bounds=served.quality_bounds,
            max_image_bytes=_limit(preprocess, "max_image_bytes"),
            max_image_pixels=_limit(preprocess, "max_image_pixels"),
        )

    def _model_info(self, name: str, deadline: float | None) -> Steps[ModelInfo]:
        try:
            metadata = yield from ask(self.settings, ModelMetadata(name), deadline)
            ready = yield from ask(self.settings, ModelReady(name), deadline)
        except ContractError:
            return ModelInfo(name, (), ready=False)
        return ModelInfo(name, tuple(map(str, metadata.get("versions", ()))), ready)

    def _infer(
        self, model: str, image: ImageSource, channels: Channels | None
    ) -> Steps[tuple[ServedModel, dict[str, NDArray[Any]]]]:
        self._require_open()
        deadline = deadline_of(self.settings)
        content = yield Encode(image, channels)
        served = yield from self._served_model(model, deadline)
        tensors = yield from ask(self.settings, Infer(model, content, tuple(served.output_shapes)), deadline)
        return served, served.checked(tensors, self.settings.endpoint.url)

    def _served_model(self, name: str, deadline: float | None) -> Steps[ServedModel]:
        """Return what the server serves, asked for once. Two threads may both be the first; they learn the same."""
        self._require_open()
        if name not in self._served:
            config = yield from ask(self.settings, ModelConfig(name), deadline)
            self._served[name] = ServedModel.from_config(name, config, self.settings.endpoint.url)
        return self._served[name]

    def _require_open(self) -> None:
        if self.is_closed:
            raise RuntimeError("this client is closed: make a new one, or close it later")


def _limit(config: Any, name: str) -> int | None:
    try:
        return int(parameter(config, name))
    except (AttributeError, LookupError, TypeError, ValueError):
        return None
