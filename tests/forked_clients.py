"""python tests/forked_clients.py CASE KIND URL: uses a client before and after forks, and prints what came of it.

The tests run it as a process of its own, because the stand-in's gRPC server in theirs would be in the way of forks.
Each picture has a size of its own, and the server repeats it in its answer: so answers tell whose they are.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import numpy as np

from fer_client import AsyncFerClient, FerClient, Tls

WORKERS = 4
PICTURES = int(os.environ.get("FORKED_PICTURES", "200"))
"""For all workers together, at most 1,600."""
LIMIT_S = max(30, PICTURES // 10)
"""A process that takes longer hangs, and is ended. A busy machine answers ten pictures a second."""


def size_of(number: int) -> tuple[int, int]:
    return 16 + number % 40, 16 + number // 40


def picture(number: int) -> np.ndarray[Any, Any]:
    width, height = size_of(number)
    return np.full((height, width), number % 256, np.uint8)


class Asking:
    """A client of either kind, and what its answers were."""

    def __init__(self, kind: str, url: str, **options: Any) -> None:
        self.kind = kind
        self.client: Any = {"sync": FerClient, "async": AsyncFerClient}[kind](url, retries=0, **options)
        self.process = 0
        self.loop: Any = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Runs in an event loop that is this process's own, in a thread, as that of a web server goes on meanwhile.

        One that does not run at the fork would be closed by Python in the child, when it is dropped there, and would
        stop working in the parent: both have the same epoll instance.
        """
        if self.process != os.getpid():
            self.process, self.loop = os.getpid(), asyncio.new_event_loop()
            threading.Thread(target=self.loop.run_forever, daemon=True).start()
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(LIMIT_S)

    def count_right(self, numbers: Iterable[int]) -> int:
        """How many pictures got their own answer. Some are sent one by one, some several at a time."""
        numbers = list(numbers)
        half = len(numbers) // 2
        if self.kind == "async":
            return self.run(self.count_right_later(numbers[:half], numbers[half:]))
        sizes = [self.client.predict(picture(number)).image_size for number in numbers[:half]]
        sizes += [one.image_size for one in self.client.predict_many(map(picture, numbers[half:]), concurrency=3)]
        return sum(size == size_of(number) for size, number in zip(sizes, numbers, strict=True))

    async def count_right_later(self, one_by_one: list[int], together: list[int]) -> int:
        sizes = [(await self.client.predict(picture(number))).image_size for number in one_by_one]
        results = self.client.predict_many(map(picture, together), concurrency=3)
        sizes += [result.image_size async for result in results]
        return sum(size == size_of(number) for size, number in zip(sizes, one_by_one + together, strict=True))

    def close(self) -> None:
        if self.kind == "async":
            self.run(self.client.close())
        else:
            self.client.close()


def in_child(work: Callable[[], Any], leave: Callable[[int], Any] = os._exit) -> Callable[[], Any]:
    """Forks, and works there. Returns what waits for the outcome: a result, or an error as text."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(LIMIT_S)
        try:
            outcome = work()
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        os.write(writing, json.dumps(outcome).encode())
        leave(0)
    os.close(writing)

    def wait() -> Any:
        with os.fdopen(reading) as pipe:
            said = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return json.loads(said) if status == 0 else f"exit code {status}"

    return wait


def workers(asking: Asking) -> Any:
    """A client that was used once, then in forked workers and in their parent, which all begin at the same moment."""
    used = asking.count_right([0])
    waiting, starting = os.pipe()

    def work(first: int) -> int:
        os.read(waiting, 1)
        return asking.count_right(range(first, PICTURES, WORKERS))

    waits = [in_child(lambda first=first: work(first)) for first in range(WORKERS)]
    os.write(starting, bytes(WORKERS))
    meanwhile = asking.count_right(range(0, PICTURES, WORKERS))
    in_workers = [wait() for wait in waits]
    return [used, in_workers, meanwhile, asking.count_right(range(10))]


def unused(asking: Asking) -> Any:
    """A client that was made before the fork and first used after it."""
    return [wait() for wait in [in_child(lambda: asking.count_right(range(20))) for _ in range(2)]]


def busy(asking: Asking) -> Any:
    """Other threads of the parent are in the middle of requests all the time."""
    stopping = threading.Event()
    counts = []

    def ask_on(thread: int) -> None:
        mine = asking if asking.kind == "sync" else Asking("async", asking.client.url)
        asked = right = 0
        while not stopping.is_set():
            asked += 4
            right += mine.count_right(range(thread, thread + 4))
        counts.append(asked == right > 0)
        if mine is not asking:
            mine.close()

    asking.count_right([0])
    threads = [threading.Thread(target=ask_on, args=(100 * thread,)) for thread in range(3)]
    for thread in threads:
        thread.start()
    outcomes = []
    for _ in range(4):
        time.sleep(0.05)
        outcomes.append(in_child(lambda: asking.count_right(range(20)))())
    stopping.set()
    for thread in threads:
        thread.join()
    return [outcomes, counts, asking.count_right(range(10))]


def closing(asking: Asking) -> Any:
    """Children close the inherited client, drop it, or end with all that Python does then."""

    def close() -> str:
        asking.close()
        return "closed"

    def drop() -> str:
        del asking.client
        return "dropped"

    asking.count_right([0])
    outcomes = [
        in_child(close)(),
        in_child(drop)(),
        in_child(close, leave=sys.exit)(),
        in_child(lambda: asking.count_right(range(4)), leave=sys.exit)(),
    ]
    return [outcomes, asking.count_right([0])]


def grandchild(asking: Asking) -> Any:
    """A child that has used the client forks again, as daemons do."""
    asking.count_right([0])

    def fork_again() -> Any:
        before = asking.count_right(range(10))
        wait = in_child(lambda: asking.count_right(range(10, 20)))
        return [before, wait(), asking.count_right(range(10))]

    return in_child(fork_again)()


def half_done(asking: Asking) -> Any:
    """Results that were begun before the fork, and results that were asked for and not begun."""
    begun = asking.client.predict_many(map(picture, range(40)), concurrency=2)
    not_begun = asking.client.predict_many(map(picture, range(5)), concurrency=2)

    async def later(results: Any) -> Any:
        return await anext(results)

    async def close_later(results: Any) -> None:
        await results.aclose()

    def take(results: Any) -> Any:
        return (asking.run(later(results)) if asking.kind == "async" else next(results)).image_size

    def end(results: Any) -> str:
        asking.run(close_later(results)) if asking.kind == "async" else results.close()
        return "ended"

    first = take(begun) == size_of(0)
    outcomes = [in_child(lambda: take(begun))(), in_child(lambda: end(begun))(), in_child(lambda: take(not_begun))()]
    rest = [take(begun) == size_of(number) for number in range(1, 40)]
    end(begun), end(not_begun)
    return [first, outcomes, all(rest)]


def pauses(asking: Asking) -> Any:
    """How long forked workers would wait before they try again."""
    from fer_client._retries import pause_before

    pause_before(0)
    return [wait() for wait in [in_child(lambda: pause_before(5)) for _ in range(3)]]


def foreign(asking: Asking) -> Any:
    """Another part of the program is in the middle of gRPC calls of its own. Also says how long a child took."""
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    asking.count_right([0])
    stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(asking.client.url.partition("://")[2]))
    stopping = threading.Event()

    def ask_on() -> None:
        while not stopping.is_set():
            stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=10)

    thread = threading.Thread(target=ask_on)
    thread.start()
    start_s = time.monotonic()
    outcomes = [in_child(lambda: asking.count_right(range(4)))() for _ in range(3)]
    took_s = time.monotonic() - start_s
    stopping.set()
    thread.join()
    return [outcomes, took_s, asking.count_right(range(4))]


SHARED: Any = None
"""What workers of a pool find in their module, as forked ones do."""


def count_in_pool(numbers: list[int]) -> int:
    return SHARED.count_right(numbers)


def count_given(client: FerClient, numbers: list[int]) -> int:
    """A client as an argument, so pickled."""
    sizes = [client.predict(picture(number)).image_size for number in numbers]
    return sum(size == size_of(number) for size, number in zip(sizes, numbers, strict=True))


def count_given_later(client: FerClient, numbers: list[int], results: Any) -> None:
    results.put(count_given(client, numbers))


def pools(asking: Asking) -> Any:
    """multiprocessing's pool and concurrent.futures, with fork."""
    global SHARED
    SHARED = asking
    asking.count_right([0])
    shares = [list(range(first, 80, WORKERS)) for first in range(WORKERS)]
    fork = multiprocessing.get_context("fork")
    with fork.Pool(WORKERS) as pool:
        in_pool = pool.map_async(count_in_pool, shares).get(LIMIT_S)
    with concurrent.futures.ProcessPoolExecutor(WORKERS, mp_context=fork) as executor:
        in_executor = list(executor.map(count_in_pool, shares, timeout=LIMIT_S))
    return [in_pool, in_executor, asking.count_right(range(10))]


def spawned(asking: Asking) -> Any:
    """A used client as an argument of processes that are not forked."""
    asking.count_right([0])
    counts = []
    for method in ("spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        results = context.Queue()
        process = context.Process(target=count_given_later, args=(asking.client, list(range(10)), results))
        process.start()
        counts.append(results.get(timeout=LIMIT_S))
        process.join(LIMIT_S)
    return [counts, asking.count_right(range(10))]


class Sizes:
    """A data set of PyTorch's kind that asks a server for each of its items."""

    def __init__(self, client: FerClient) -> None:
        self.client = client

    def __len__(self) -> int:
        return 48

    def __getitem__(self, number: int) -> int:
        return int(self.client.predict(picture(number)).image_size == size_of(number))


def data_loader(asking: Asking) -> Any:
    """PyTorch's DataLoader with workers, which are forked. (Spawned ones take long: each imports torch.)"""
    from torch.utils.data import DataLoader

    asking.count_right([0])
    loader = DataLoader(Sizes(asking.client), batch_size=4, num_workers=2, multiprocessing_context="fork")
    return [sum(int(batch.sum()) for batch in loader), asking.count_right(range(10))]


CASES = (workers, unused, busy, closing, grandchild, half_done, pauses, foreign, pools, spawned, data_loader)


def main() -> None:
    name, kind, url = sys.argv[1:]
    signal.alarm(2 * LIMIT_S)
    case = {case.__name__: case for case in CASES}[name]
    authority = os.environ.get("FORKED_AUTHORITY")
    asking = Asking(kind, url, **({"tls": Tls(ca_file=authority)} if authority else {}))
    print(json.dumps(case(asking)))
    asking.close()


if __name__ == "__main__":
    main()
