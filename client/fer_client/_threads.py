"""Works on many images at a time in threads. Used by `FerClient`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from queue import SimpleQueue
from typing import Final, Generic, TypeVar

from fer_client._cancellation import Cancellation, CancelledError
from fer_client._forks import require_same_process
from fer_client._window import Failure, Window

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

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
