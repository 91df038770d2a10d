"""Asks the model server, within limits."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from fer_client import AsyncFerClient, ContractError, CroppedPrediction, FerClientError, Prediction, ServerInfo
from fer_web.problems import Problem, from_client_error
from fer_web.settings import Limits

_READY_FOR_S: Final = 2.0
"""How long the answer to `is_ready` is kept: probes of many balancers cost one inference."""
_DESCRIBED_FOR_S: Final = 10.0

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Answer:
    """What the model server found in one picture, and the time that it took in milliseconds."""

    prediction: Prediction | CroppedPrediction
    wait_ms: float
    inference_ms: float


class Model:
    """The model server, as the service sees it. Used in one event loop."""

    def __init__(self, make_client: Callable[[], AsyncFerClient], limits: Limits) -> None:
        """Ask nothing yet.

        Args:
            make_client: Makes a client of the server. A client keeps what it has learnt of the served network, so
                that a new one is made where the network may be another one.
            limits: How many pictures may be under way, and how long each may take.
        """
        self._make_client = make_client
        self._limits = limits
        self._client = make_client()
        self._turns = asyncio.Semaphore(limits.concurrency)
        self._ready = _Kept[None](_READY_FOR_S)
        self._description = _Kept[ServerInfo](_DESCRIBED_FOR_S)
        self._farewells: set[asyncio.Task[None]] = set()

    async def predict(self, image: bytes, *, cropped: bool) -> Answer:
        """Ask about one picture.

        Raises:
            Problem: There is no answer.
        """
        started = time.perf_counter()
        async with self._turn():
            asked = time.perf_counter()
            client = self._client
            try:
                prediction = await (client.predict_cropped(image) if cropped else client.predict(image))
            except ContractError as error:  # Another network, perhaps, than the client has learnt of.
                self._renew(client)
                raise from_client_error(error) from error
            except FerClientError as error:
                raise from_client_error(error) from error
            answered = time.perf_counter()
        return Answer(prediction, 1e3 * (asked - started), 1e3 * (answered - asked))

    async def check_ready(self) -> None:
        """Send a real picture through the model; an answer is kept for two seconds. Raises Problem where it fails."""
        await self._ready.get(lambda: self._look(lambda client: client.check_health()))

    async def describe(self) -> ServerInfo:
        """Ask the server about itself; an answer is kept for ten seconds. Raises Problem where it does not say."""
        return await self._description.get(lambda: self._look(lambda client: client.describe()))

    async def close(self) -> None:
        """Close the connections."""
        for farewell in self._farewells:
            farewell.cancel()
        await self._client.close()

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for one of the places. Raises Problem where that takes too long."""
        try:
            await asyncio.wait_for(self._turns.acquire(), self._limits.wait_s)
        except asyncio.TimeoutError as error:
            detail = f"There was no room for the picture within {self._limits.wait_s:g} s: try again a little later."
            raise Problem("overloaded", detail) from error
        try:
            yield
        finally:
            self._turns.release()

    async def _look(self, ask: Callable[[AsyncFerClient], Awaitable[_Result]]) -> _Result:
        """Ask with a client that knows nothing yet, and notice whether the network has changed."""
        used = self._client
        try:
            async with self._make_client() as client:
                result = await ask(client)
                if await client.model_version() != await used.model_version():
                    self._renew(used)
        except FerClientError as error:
            raise from_client_error(error) from error
        return result

    def _renew(self, client: AsyncFerClient) -> None:
        """Use a new client instead of one, which is closed when what it has been asked must be over."""
        if self._client is not client:
            return
        self._client = self._make_client()
        farewell = asyncio.create_task(self._close_later(client))
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

    async def _close_later(self, client: AsyncFerClient) -> None:
        try:
            await asyncio.sleep(self._limits.inference_timeout_s)
        finally:
            await client.close()


class _Kept(Generic[_Result]):
    """A result that is kept for a while, and asked for once however many wait for it. A Problem is kept too."""

    def __init__(self, duration_s: float) -> None:
        self._duration_s = duration_s
        self._task: asyncio.Task[_Result] | None = None
        self._made_at = 0.0

    async def get(self, make: Callable[[], Awaitable[_Result]]) -> _Result:
        """Return the kept result, or make another one."""

        async def run() -> _Result:
            try:
                return await make()
            finally:
                self._made_at = time.monotonic()

        is_old = self._task is not None and self._task.done() and time.monotonic() > self._made_at + self._duration_s
        if self._task is None or is_old:
            self._task = asyncio.create_task(run())
        return await asyncio.shield(self._task)  # Who leaves does not take the answer of the others along.
