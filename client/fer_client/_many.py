"""Works on many images at a time, in threads for `FerClient` and in asyncio's tasks for `AsyncFerClient`.

A `Window` says which images to take from their source next and which results to hand out. It keeps memory flat however
many images there are, and keeps the server busy while the oldest image keeps others waiting. A `Cancellation` gives up
from outside what threads are waiting for.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from fer_client._forks import require_same_process

if TYPE_CHECKING:
    import asyncio

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_AHEAD: Final = 2
"""Images taken for each one worked on: so many that nobody waits for work while the oldest is still under way."""
_GRACE_S: Final = 2.0
"""How long to wait for threads whose work was given up. They are daemons: nothing waits for them after that."""


def work_in_threads(
    items: Iterable[_Item],
    work: Callable[[_Item, Cancellation], _Result],
    concurrency: int,
    in_order: bool,
) -> Generator[tuple[int, _Result], None, None]:
    """Work on items, and hand out results with the index of their item.

    Items are taken by the thread that asks for results, and no more than the window allows. When it stops asking, what
    is under way is given up.

    Args:
        items: Anything that can be iterated over, without an end too.
        work: Called in several threads at a time. What it raises is raised in place of the item's result.
        concurrency: How many threads there are at most.
        in_order: Whether results come in the order of the items, or else as they are ready.

    Raises:
        ValueError: The concurrency is less than 1.
    """
    window: Window[_Result] = Window(concurrency, in_order)
    return _hand_out(iter(items), work, window)


def _hand_out(
    items: Iterator[_Item], work: Callable[[_Item, Cancellation], _Result], window: Window[_Result]
) -> Generator[tuple[int, _Result], None, None]:
    process = os.getpid()
    crew = _Crew(work, window.concurrency)
    try:
        while not window.is_over:
            require_same_process(process)
            if window.wants_more:
                try:
                    item = next(items)
                except StopIteration:
                    window.end()
                except Exception as error:  # The source's own; the window raises it when its turn has come.
                    window.end(error)
                else:
                    crew.add(window.take(), item)
                while not crew.results.empty():
                    window.put(*crew.results.get())
                if not window.has_result:
                    continue
            while not window.has_result:
                window.put(*crew.results.get())
            yield window.hand_out()
    finally:
        if os.getpid() == process:  # Else the threads are the parent's.
            crew.stop()


class _Crew(Generic[_Item, _Result]):
    """Threads that work on what is added, and put results into a queue."""

    def __init__(self, work: Callable[[_Item, Cancellation], _Result], size: int) -> None:
        self._work = work
        self._size = size
        self._items: SimpleQueue[tuple[int, _Item] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._cancellation = Cancellation()
        self.results: SimpleQueue[tuple[int, _Result | Failure]] = SimpleQueue()

    def add(self, index: int, item: _Item) -> None:
        self._items.put((index, item))
        if len(self._threads) < self._size:
            thread = threading.Thread(target=self._run, name=f"fer-client-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Give up what is under way, and wait for the threads to notice."""
        self._cancellation.request()
        for _ in self._threads:
            self._items.put(None)
        end = time.monotonic() + _GRACE_S
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
            _await_exit(thread, end)

    def _run(self) -> None:
        while (numbered := self._items.get()) is not None:
            index, item = numbered
            try:
                self._cancellation.check()
                result: _Result | Failure = self._work(item, self._cancellation)
            except CancelledError:
                return
            except Exception as error:  # A thread's edge: raised where the result is asked for.
                result = Failure(error)
            self.results.put((index, result))
            del numbered, item, result  # Nothing is kept while waiting for more.


def _await_exit(thread: threading.Thread, end: float) -> None:
    """Wait until the system has ended a thread as well, which `join` does from Python 3.13 on.

    On its way out a thread takes locks of OpenSSL's. A process forked meanwhile would find them locked for ever, and
    hang at its first encrypted connection.
    """
    if sys.version_info < (3, 13):
        task = Path(f"/proc/self/task/{thread.native_id}")  # Linux only.
        while task.exists() and time.monotonic() < end:
            time.sleep(0.001)


def work_in_tasks(
    items: Iterable[_Item] | AsyncIterable[_Item],
    work: Callable[[_Item], Awaitable[_Result]],
    concurrency: int,
    in_order: bool,
) -> AsyncGenerator[tuple[int, _Result], None]:
    """Work on items, and hand out results with the index of their item. As `work_in_threads`, but for asyncio.

    Args:
        items: Anything that can be iterated over, with `for` or `async for`, without an end too.
        work: What it raises is raised in place of the item's result.
        concurrency: How many tasks there are.
        in_order: Whether results come in the order of the items, or else as they are ready.

    Raises:
        ValueError: The concurrency is less than 1.
    """
    window: Window[_Result] = Window(concurrency, in_order)
    source = aiter(items) if isinstance(items, AsyncIterable) else _as_async(items)
    return _hand_out_async(source, work, window)


async def _hand_out_async(
    items: AsyncIterator[_Item], work: Callable[[_Item], Awaitable[_Result]], window: Window[_Result]
) -> AsyncGenerator[tuple[int, _Result], None]:
    import asyncio  # Not at the top: threads do without it.

    process = os.getpid()
    taken: asyncio.Queue[tuple[int, _Item]] = asyncio.Queue()
    results: asyncio.Queue[tuple[int, _Result | Failure]] = asyncio.Queue()
    tasks = [asyncio.create_task(_work(work, taken, results)) for _ in range(window.concurrency)]
    try:
        while not window.is_over:
            require_same_process(process)
            if window.wants_more:
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    window.end()
                except Exception as error:  # The source's own; the window raises it when its turn has come.
                    window.end(error)
                else:
                    taken.put_nowait((window.take(), item))
                while not results.empty():
                    window.put(*results.get_nowait())
                if not window.has_result:
                    continue
            while not window.has_result:
                window.put(*(await results.get()))
            yield window.hand_out()
    finally:
        if os.getpid() == process:  # Else the tasks are the parent's.
            await _stop(tasks)


async def _work(
    work: Callable[[_Item], Awaitable[_Result]],
    taken: asyncio.Queue[tuple[int, _Item]],
    results: asyncio.Queue[tuple[int, _Result | Failure]],
) -> None:
    while True:
        index, item = await taken.get()
        try:
            result: _Result | Failure = await work(item)
        except Exception as error:  # A task's edge: raised where the result is asked for.
            result = Failure(error)
        results.put_nowait((index, result))
        del item, result  # Nothing is kept while waiting for more.


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    """Give up what is under way."""
    import asyncio

    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _as_async(items: Iterable[_Item]) -> AsyncIterator[_Item]:
    for item in items:
        yield item


@dataclass(frozen=True)
class Failure:
    """Stands for a result where there is none, but an error to be raised in its place."""

    error: Exception


@dataclass
class Window(Generic[_Result]):
    """The images that were taken from their source and whose results were not handed out yet.

    Attributes:
        concurrency: How many images are worked on at a time.
        in_order: Whether results are handed out in the order of the images, or else as they come.
    """

    concurrency: int
    in_order: bool
    _taken: int = 0
    _handed_out: int = 0
    _source_ended: bool = False
    _source_error: Exception | None = None
    _waiting: dict[int, _Result | Failure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError where nothing would ever be worked on."""
        if self.concurrency < 1:
            raise ValueError(f"concurrency of {self.concurrency}: expected 1 or more")

    @property
    def wants_more(self) -> bool:
        """Whether to take another image from the source."""
        return not self._source_ended and self._taken - self._handed_out < _AHEAD * self.concurrency

    @property
    def is_over(self) -> bool:
        """Whether all results were handed out. Raises what the source raised, once they were."""
        is_over = self._source_ended and self._handed_out == self._taken
        if is_over and self._source_error is not None:
            raise self._source_error
        return is_over

    @property
    def has_result(self) -> bool:
        """Whether there is a result to be handed out."""
        return self._handed_out in self._waiting if self.in_order else bool(self._waiting)

    def take(self) -> int:
        """Note that an image was taken, and return its index."""
        self._taken += 1
        return self._taken - 1

    def end(self, error: Exception | None = None) -> None:
        """Note that the source is at its end, or failed. Results under way are handed out before that is raised."""
        self._source_ended, self._source_error = True, error

    def put(self, index: int, result: _Result | Failure) -> None:
        """Note the result for an image."""
        self._waiting[index] = result

    def hand_out(self) -> tuple[int, _Result]:
        """Return the next result and the index of its image, or raise the error that stands in its place."""
        index = self._handed_out if self.in_order else next(iter(self._waiting))
        result = self._waiting.pop(index)
        self._handed_out += 1
        if isinstance(result, Failure):
            raise result.error
        return index, result


class CancelledError(Exception):
    """What a thread was waiting for has been given up."""


class Cancellation:
    """Shared by those who wait and the one who may give up on all of them."""

    def __init__(self) -> None:
        """Nothing is given up yet."""
        self._requested = threading.Event()
        self._lock = threading.Lock()
        self._aborts: set[Callable[[], object]] = set()

    def request(self) -> None:
        """Abort whatever is waited for now, and what anyone would wait for later."""
        with self._lock:
            self._requested.set()
            aborts, self._aborts = self._aborts, set()
        for abort in aborts:
            abort()

    @contextmanager
    def watching(self, abort: Callable[[], object]) -> Iterator[None]:
        """Let a request from outside abort what is waited for within the block.

        Args:
            abort: Ends the waiting; called from another thread, where the block then fails in any way.

        Raises:
            CancelledError: Everything has been given up, before the block or within it.
        """
        with self._lock:
            self.check()
            self._aborts.add(abort)
        try:
            yield
        except Exception:
            self.check()
            raise
        finally:
            with self._lock:
                self._aborts.discard(abort)

    def check(self) -> None:
        """Raise CancelledError if everything has been given up."""
        if self._requested.is_set():
            raise CancelledError

    def wait(self, duration_s: float) -> None:
        """Sleep. Raises CancelledError when everything is given up before or meanwhile."""
        if self._requested.wait(duration_s):
            raise CancelledError
