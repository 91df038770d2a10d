"""The ceiling: the pipeline in a number of processes, without a server between them and the pictures."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Final

from fer_bench.machine import ONE_THREAD

_READY_TIMEOUT_S: Final = 60.0


class Workers:
    """Processes that run the pipeline when they are told to."""

    def __init__(self, pipes: list[Connection]) -> None:
        """Use `start_workers`."""
        self._pipes = pipes

    def images_per_s(self, image: bytes, seconds: float) -> float:
        """How many images all workers together answer per second, each at its own pace without a pause."""
        for pipe in self._pipes:
            pipe.send((image, seconds))
        return sum(float(pipe.recv()) for pipe in self._pipes)


@contextmanager
def start_workers(count: int) -> Iterator[Workers]:
    """`count` processes, ready and waiting; they end with the `with` block."""
    spawn = multiprocessing.get_context("spawn")
    started = []
    before = dict(os.environ)
    os.environ.update(ONE_THREAD)  # what a spawned process inherits
    try:
        for _ in range(count):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_work, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            started.append((process, ours))
    finally:
        os.environ.clear()
        os.environ.update(before)
    try:
        for _, pipe in started:
            if not pipe.poll(_READY_TIMEOUT_S):
                raise TimeoutError(f"a worker was not ready within {_READY_TIMEOUT_S:g} s")
            pipe.recv()
        yield Workers([pipe for _, pipe in started])
    finally:
        for process, pipe in started:
            pipe.close()
            process.join(5)
            process.terminate()


def _work(pipe: Connection) -> None:
    from fer_bench.pipeline import Pipeline  # what is heavy is loaded in the workers only

    pipeline = Pipeline()
    pipe.send("ready")
    try:
        while True:
            image, seconds = pipe.recv()
            pipeline(image)
            pipe.send(_measure(pipeline, image, seconds))
    except EOFError:
        return


def _measure(pipeline: "Pipeline", image: bytes, seconds: float) -> float:  # type: ignore[name-defined] # noqa: F821
    done = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        pipeline(image)
        done += 1
    return done / elapsed
