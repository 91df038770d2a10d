"""The client for asyncio: awaits the steps of `_base_client` and `_retries`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload
from typing import Protocol as Interface

from fer_client._base_client import BaseClient
from fer_client._config import Settings
from fer_client._errors import FerClientError, require_extra
from fer_client._images import Channels, ImageSource, encode
from fer_client._results import CroppedPrediction, Prediction
from fer_client._retries import Ask, Encode, Pause, Step, Steps
from fer_client._server import ServerInfo
from fer_client.protocol import Call

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Result = TypeVar("_Result")

Images: TypeAlias = Iterable[ImageSource] | AsyncIterable[ImageSource]
Results: TypeAlias = AsyncGenerator[_Result | FerClientError, None]
IndexedResults: TypeAlias = AsyncGenerator[tuple[int, _Result | FerClientError], None]


class AsyncTransport(Interface):
    """A way to reach one server, of one event loop. What goes wrong on the way comes out as FerClientError."""

    async def ask(self, call: Call, timeout_s: float) -> Any:
        """Make a call."""

    async def close(self) -> None:
        """Close all connections."""


class AsyncFerClient(BaseClient):
    """`FerClient` for asyncio: the same names, arguments, results and errors, to be awaited.

    Use it in one event loop at a time, from any number of its tasks, in an `async with` statement or with `close` at
    the end. When that loop is closed, it may be used in another one; before, over HTTP, that raises RuntimeError.

    Forked and spawned processes: as `FerClient` says. A forked process needs an event loop of its own, and must not
    close or drop one that it inherits and that was not running: Python would stop it in the parent too.
    """

    _transport: AsyncTransport

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

    @overload
    def predict_many(
        self, images: Images, *, concurrency: int = 8, channels: Channels | None = None, cropped: Literal[False] = False
    ) -> Results[Prediction]: ...

    @overload
    def predict_many(
        self, images: Images, *, concurrency: int = 8, channels: Channels | None = None, cropped: Literal[True]
    ) -> Results[CroppedPrediction]: ...

    @overload
    def predict_many(
        self, images: Images, *, concurrency: int = 8, channels: Channels | None = None, cropped: bool
    ) -> Results[Prediction | CroppedPrediction]: ...

    def predict_many(
        self, images: Images, *, concurrency: int = 8, channels: Channels | None = None, cropped: bool = False
    ) -> Results[Any]:
        """See `FerClient.predict_many`. Images may come from an asynchronous iterable too.

        A loop that is left early ends when its iterator is closed: by `aclose()`, `contextlib.aclosing`, or when it is
        garbage collected.
        """
        return _without_index(self._many(images, concurrency, channels, cropped, in_order=True))

    @overload
    def predict_as_completed(
        self, images: Images, *, concurrency: int = 8, channels: Channels | None = None, cropped: Literal[False] = False
    ) -> IndexedResults[Prediction]: ...

    @overload
    def predict_as_completed(
        self, images: Images, *, concurrency: int = 8, channels: Channels | None = None, cropped: Literal[True]
    ) -> IndexedResults[CroppedPrediction]: ...

    @overload
    def predict_as_completed(
        self, images: Images, *, concurrency: int = 8, channels: Channels | None = None, cropped: bool
    ) -> IndexedResults[Prediction | CroppedPrediction]: ...

    def predict_as_completed(
        self, images: Images, *, concurrency: int = 8, channels: Channels | None = None, cropped: bool = False
    ) -> IndexedResults[Any]:
        """See `FerClient.predict_as_completed`, and `predict_many`."""
        return self._many(images, concurrency, channels, cropped, in_order=False)

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
        """Return the client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.close()

    @staticmethod
    def _open_transport(settings: Settings) -> AsyncTransport:
        if settings.endpoint.protocol == "grpc":
            require_extra("grpc")
            from fer_client._grpc import AsyncGrpcTransport

            return AsyncGrpcTransport(settings)
        require_extra("async")
        from fer_client._http_async import AsyncHttpTransport

        return AsyncHttpTransport(settings)

    def _many(
        self, images: Images, concurrency: int, channels: Channels | None, cropped: bool, in_order: bool
    ) -> IndexedResults[Any]:
        from fer_client._many import work_in_tasks  # Not at the top, so that `import fer_client` stays light.

        steps_of = self._core.predict_cropped if cropped else self._core.predict

        async def predict(image: ImageSource) -> Any:
            try:
                return await self._run(steps_of(image, channels))
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
                return await asyncio.to_thread(encode, image, channels)
            case Pause(duration_s):
                return await asyncio.sleep(duration_s)


async def _without_index(numbered: AsyncGenerator[tuple[int, _Result], None]) -> AsyncGenerator[_Result, None]:
    async with contextlib.aclosing(numbered):
        async for _, result in numbered:
            yield result
