"""The client without its input and output: what to ask, when to try again, what to make of the answers.

Each method is a generator that yields steps, is sent their results, and returns its own. `FerClient` carries the steps
out one after the other, `AsyncFerClient` awaits them: both are the same client, written once.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import fer_contract
from fer_client._calls import (
    Call,
    Infer,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
)
from fer_client._errors import (
    ContractError,
    FerClientError,
    RequestTimeoutError,
    ServerOverloadedError,
    ServerUnreachableError,
)
from fer_client._images import Channels, ImageSource
from fer_client._results import (
    CroppedPrediction,
    Prediction,
    cropped_prediction_from_tensors,
    prediction_from_tensors,
)
from fer_client._served import ServedModel, parameter
from fer_client._server_info import ModelInfo, ServerInfo
from fer_client._settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Result = TypeVar("_Result")

_FIRST_PAUSE_S: Final = 0.1
"""The longest pause before the first retry: about what a full queue takes to have room again."""
_LONGEST_PAUSE_S: Final = 5.0

_MODELS: Final = (
    fer_contract.FER_MODEL,
    fer_contract.FER_CROPPED_MODEL,
    fer_contract.PREPROCESS_MODEL,
    fer_contract.PREPROCESS_CROPPED_MODEL,
    fer_contract.CLASSIFIER_MODEL,
    fer_contract.POSTPROCESS_MODEL,
)


@dataclass(frozen=True)
class Ask:
    """Make a call, for no longer than `timeout_s`. Results in what is written at the call, or raises FerClientError."""

    call: Call
    timeout_s: float


@dataclass(frozen=True)
class Encode:
    """Turn an image into the file to be sent. Results in bytes, or raises as `encoded` does."""

    image: ImageSource
    channels: Channels | None


@dataclass(frozen=True)
class Pause:
    """Wait. Results in nothing."""

    duration_s: float


Step: TypeAlias = Ask | Encode | Pause
Steps: TypeAlias = Generator[Step, Any, _Result]


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
        """Faces in an image."""
        served, tensors = yield from self._infer(fer_contract.FER_MODEL, image, channels)
        return prediction_from_tensors(tensors, served)

    def predict_cropped(self, image: ImageSource, channels: Channels | None = None) -> Steps[CroppedPrediction]:
        """The expression of an image that is one face."""
        served, tensors = yield from self._infer(fer_contract.FER_CROPPED_MODEL, image, channels)
        return cropped_prediction_from_tensors(tensors, served)

    def infer(self, image: ImageSource, channels: Channels | None = None) -> Steps[dict[str, NDArray[Any]]]:
        """The tensors of `fer`."""
        _, tensors = yield from self._infer(fer_contract.FER_MODEL, image, channels)
        return tensors

    def served(self) -> Steps[ServedModel]:
        """What the server says about `fer`."""
        return (yield from self._served_model(fer_contract.FER_MODEL, self._deadline()))

    def is_ready(self) -> Steps[bool]:
        """Whether server and model say that they are ready. Asked once, whatever `retries` says."""
        self._require_open()
        for call in (ServerReady(), ModelReady(fer_contract.FER_MODEL)):
            try:
                if not (yield Ask(call, self.settings.timeout_s)):
                    return False
            except FerClientError:
                return False
        return True

    def check_health(self) -> Steps[None]:
        """A plain gray picture through the whole model."""
        import numpy as np  # Not at the top, so that `import fer_client` stays light.

        yield from self.predict(np.full((64, 64), 128, np.uint8))

    def describe(self) -> Steps[ServerInfo]:
        """All that a server says about itself. What it has none of is left empty."""
        deadline = self._deadline()
        served = yield from self._served_model(fer_contract.FER_MODEL, deadline)
        server = yield from self._ask(ServerMetadata(), deadline)
        models = []
        for name in _MODELS:
            model = yield from self._model_info(name, deadline)
            if model.versions or name != fer_contract.POSTPROCESS_MODEL:  # A server on a CPU has no need of it.
                models.append(model)
        try:
            preprocess = yield from self._ask(ModelConfig(fer_contract.PREPROCESS_MODEL), deadline)
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
            metadata = yield from self._ask(ModelMetadata(name), deadline)
            ready = yield from self._ask(ModelReady(name), deadline)
        except ContractError:
            return ModelInfo(name, (), ready=False)
        return ModelInfo(name, tuple(map(str, metadata.get("versions", ()))), ready)

    def _infer(
        self, model: str, image: ImageSource, channels: Channels | None
    ) -> Steps[tuple[ServedModel, dict[str, NDArray[Any]]]]:
        self._require_open()
        deadline = self._deadline()
        content = yield Encode(image, channels)
        served = yield from self._served_model(model, deadline)
        tensors = yield from self._ask(Infer(model, content, tuple(served.output_shapes)), deadline)
        return served, served.checked(tensors, self.settings.endpoint.url)

    def _served_model(self, name: str, deadline: float | None) -> Steps[ServedModel]:
        """What the server serves, asked for once. Two threads may both be the first; they learn the same."""
        self._require_open()
        if name not in self._served:
            config = yield from self._ask(ModelConfig(name), deadline)
            self._served[name] = ServedModel.from_config(name, config, self.settings.endpoint.url)
        return self._served[name]

    def _ask(self, call: Call, deadline: float | None) -> Steps[Any]:
        """Make a call, again and again while its failures may pass, within `retries` and the deadline."""
        retry = 0
        failure: FerClientError | None = None
        while True:
            timeout_s = self.settings.timeout_s
            if deadline is not None:
                timeout_s = min(timeout_s, deadline - time.monotonic())
                if timeout_s <= 0:
                    raise failure or RequestTimeoutError(
                        self.settings.endpoint.url, f"{self.settings.deadline_s:g} s in all"
                    )
            try:
                return (yield Ask(call, timeout_s))
            except FerClientError as error:
                # Why the tries before failed says more than that the deadline cut this one short.
                if failure is None or not (isinstance(error, RequestTimeoutError) and self._is_cut_short(timeout_s)):
                    failure = error
                pause_s = pause_before(retry)
                too_late = deadline is not None and time.monotonic() + pause_s >= deadline
                if not failure.is_temporary or retry == self.settings.retries or too_late:
                    yield from self._raise(failure, timeout_s)
            yield Pause(pause_s)
            retry += 1

    def _raise(self, error: FerClientError, timeout_s: float) -> Steps[None]:
        """Raise an error, after finding out what it is.

        gRPC says UNAVAILABLE of a server that has no room and of one that is gone. The former still answers what needs
        no queue.
        """
        if isinstance(error, ServerOverloadedError) and self.settings.endpoint.protocol == "grpc":
            try:
                is_live = yield Ask(ServerLive(), timeout_s)
            except RequestTimeoutError:
                is_live = self._is_cut_short(timeout_s)  # Then silence says nothing.
            except FerClientError:
                is_live = False
            if not is_live:
                raise ServerUnreachableError(error.url, error.reason, is_temporary=True) from error
        raise error

    def _is_cut_short(self, timeout_s: float) -> bool:
        """Whether the deadline left a try less than its usual time."""
        return timeout_s < self.settings.timeout_s

    def _deadline(self) -> float | None:
        """When all tries of a call that begins now have to be over, by the monotonic clock."""
        return None if self.settings.deadline_s is None else time.monotonic() + self.settings.deadline_s

    def _require_open(self) -> None:
        if self.is_closed:
            raise RuntimeError("this client is closed: make a new one, or close it later")


def pause_before(retry: int) -> float:
    """How long to wait before a retry, in seconds: anything up to a limit that doubles each time.

    Clients that failed together would all come back together after equal pauses. Source: "full jitter" in M. Brooker,
    Exponential Backoff and Jitter, 2015.

    Args:
        retry: 0 for the first one.
    """
    import random  # Not at the top, so that `import fer_client` stays light.

    return random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(retry, 10)))


def _limit(config: Any, name: str) -> int | None:
    try:
        return int(parameter(config, name))
    except (AttributeError, LookupError, TypeError, ValueError):
        return None
