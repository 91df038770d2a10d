"""The client for asyncio: awaits the steps of `_core`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from typing import Protocol as Interface

from fer_client._calls import Call
from fer_client._core import Ask, Core, Encode, Pause, Step, Steps
from fer_client._endpoint import Protocol
from fer_client._errors import FerClientError
from fer_client._extras import require_extra
from fer_client._images import Channels, ImageSource, encoded
from fer_client._results import CroppedPrediction, Prediction
from fer_client._server_info import ServerInfo
from fer_client._settings import DEFAULT_RETRIES, DEFAULT_TIMEOUT_S, Compression, Settings, read_settings
from fer_client._tls import Tls

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Result = TypeVar("_Result")


class AsyncTransport(Interface):
    """A way to reach one server, of one event loop. What goes wrong on the way comes out as FerClientError."""

    async def ask(self, call: Call, timeout_s: float) -> Any:
        """Make a call."""

    async def close(self) -> None:
        """Close all connections."""


class AsyncFerClient:
    """`FerClient` for asyncio: the same names, arguments, results and errors, to be awaited.

    Use it in one event loop at a time, from any number of its tasks, in an `async with` statement or with `close` at
    the end. When that loop is closed, it may be used in another one; before, over HTTP, that raises RuntimeError.

    Forked and spawned processes: as `FerClient` says. A forked process needs an event loop of its own, and must not
    close or drop one that it inherits and that was not running: Python would stop it in the parent too.
    """

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
        """Say where the server is, and how to talk to it. Arguments and errors are those of `FerClient`."""
        settings = read_settings(url, protocol, timeout_s, deadline_s, retries, tls, headers, token, compression)
        self._core = Core(settings)
        self._transport = _open_transport(settings)

    @property
    def url(self) -> str:
        """See `FerClient.url`."""
        return self._core.settings.endpoint.url

    async def labels(self) -> tuple[str, ...]:
        """See `FerClient.labels`."""
        return (await self._run(self._core.served())).labels

    async def model_version(self) -> str:
        """See `FerClient.model_version`."""
        return (await self._run(self._core.served())).version

    async def uncertain_below(self) -> float:
        """See `FerClient.uncertain_below`."""
        return (await self._run(self._core.served())).uncertain_below

    async def quality_columns(self) -> tuple[str, ...]:
        """See `FerClient.quality_columns`."""
        return (await self._run(self._core.served())).quality_columns

    async def predict(self, image: ImageSource, *, channels: Channels | None = None) -> Prediction:
        """See `FerClient.predict`. Files are read and pixels encoded in a thread, so that the event loop goes on."""
        return await self._run(self._core.predict(image, channels))

    async def predict_cropped(self, image: ImageSource, *, channels: Channels | None = None) -> CroppedPrediction:
        """See `FerClient.predict_cropped`."""
        return await self._run(self._core.predict_cropped(image, channels))

    async def infer(self, image: ImageSource, *, channels: Channels | None = None) -> dict[str, NDArray[Any]]:
        """See `FerClient.infer`."""
        return await self._run(self._core.infer(image, channels))

    def predict_many(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        *,
        concurrency: int = 8,
        channels: Channels | None = None,
    ) -> AsyncGenerator[Prediction | FerClientError, None]:
        """See `FerClient.predict_many`. Images may come from an asynchronous iterable too.

        A loop that is left early ends when its iterator is closed: by `aclose()`, `contextlib.aclosing`, or when it is
        garbage collected.
        """
        return _without_index(self._many(images, concurrency, channels, in_order=True))

    def predict_as_completed(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        *,
        concurrency: int = 8,
        channels: Channels | None = None,
    ) -> AsyncGenerator[tuple[int, Prediction | FerClientError], None]:
        """See `FerClient.predict_as_completed`, and `predict_many`."""
        return self._many(images, concurrency, channels, in_order=False)

    async def describe(self) -> ServerInfo:
        """See `FerClient.describe`."""
        return await self._run(self._core.describe())

    async def is_ready(self) -> bool:
        """See `FerClient.is_ready`."""
        return await self._run(self._core.is_ready())

    async def check_health(self) -> None:
        """See `FerClient.check_health`."""
        await self._run(self._core.check_health())

    async def close(self) -> None:
        """Close the connections; what is still in flight is given up. Closing twice is fine."""
        self._core.is_closed = True
        await self._transport.close()

    async def __aenter__(self) -> AsyncFerClient:
        """The client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.close()

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: all that the client was told, headers and token included."""
        return {"settings": self._core.settings, "is_closed": self._core.is_closed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the same client anew, with connections of its own."""
        self._core = Core(state["settings"])
        self._core.is_closed = state["is_closed"]
        self._transport = _open_transport(state["settings"])

    def __repr__(self) -> str:
        return f"AsyncFerClient({self.url!r})"

    def _many(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        concurrency: int,
        channels: Channels | None,
        in_order: bool,
    ) -> AsyncGenerator[tuple[int, Prediction | FerClientError], None]:
        from fer_client._tasks import work_in_tasks  # Not at the top, so that `import fer_client` stays light.

        async def predict(image: ImageSource) -> Prediction | FerClientError:
            try:
                return await self._run(self._core.predict(image, channels))
            except FerClientError as error:
                return error

        return work_in_tasks(images, predict, concurrency, in_order)

    async def _run(self, steps: Steps[_Result]) -> _Result:
        """Carry out steps until they end."""
        try:
            step = next(steps)
            while True:
                try:
                    result = await self._carry_out(step)
                except FerClientError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            value: _Result = end.value
            return value

    async def _carry_out(self, step: Step) -> Any:
        import asyncio  # Not at the top, so that `import fer_client` stays light.

        match step:
            case Ask(call, timeout_s):
                return await self._transport.ask(call, timeout_s)
            case Encode(bytes() as content):
                return content
            case Encode(image, channels):
                return await asyncio.to_thread(encoded, image, channels)
            case Pause(duration_s):
                return await asyncio.sleep(duration_s)


async def _without_index(numbered: AsyncGenerator[tuple[int, _Result], None]) -> AsyncGenerator[_Result, None]:
    async with contextlib.aclosing(numbered):
        async for _, result in numbered:
            yield result


def _open_transport(settings: Settings) -> AsyncTransport:
    """The transport for the endpoint's protocol. The other one, and what it imports, is not even loaded."""
    if settings.endpoint.protocol == "grpc":
        require_extra("grpc")
        from fer_client._grpc_aio import AsyncGrpcTransport

        return AsyncGrpcTransport(settings)
    require_extra("async")
    from fer_client._aiohttp import AsyncHttpTransport

    return AsyncHttpTransport(settings)
