"""Works on many images at a time in asyncio's tasks. Used by `AsyncFerClient`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

from fer_client._forks import require_same_process
from fer_client._window import Failure, Window

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


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
    return _hand_out(source, work, window)


async def _hand_out(
    items: AsyncIterator[_Item], work: Callable[[_Item], Awaitable[_Result]], window: Window[_Result]
) -> AsyncGenerator[tuple[int, _Result], None]:
    process = os.getpid()
    taken: asyncio.Queue[tuple[int, _Item]] = asyncio.Queue()
    results: asyncio.Queue[tuple[int, _Result | Failure]] = asyncio.Queue()
    tasks = [asyncio.create_task(_run(work, taken, results)) for _ in range(window.concurrency)]
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
        await _stop(tasks, process)


async def _run(
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


async def _stop(tasks: list[asyncio.Task[None]], process: int) -> None:
    """Give up what is under way, but for a forked process: its parent's tasks are none of its business."""
    if os.getpid() == process:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _as_async(items: Iterable[_Item]) -> AsyncIterator[_Item]:
    for item in items:
        yield item
