"""From bytes to probabilities without a server, by the very functions that the server calls.

This is what the ceiling runs, in a number of processes, and what a user of another framework would put behind it.
"""

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

import fer_contract as contract
from fer_bench.machine import ONE_THREAD
from fer_build.release import SERVED_ONNX, SERVED_RUNTIME
from fer_detector import YUNET, open_network
from fer_faces import Faces, find_faces
from fer_images import ImageLimits
from fer_process import set_up_process
from fer_runtimes import open_classifier
from fer_search import FaceSearch

_READY_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True)
class Answer:
    """What the model `fer` answers."""

    faces: Faces
    probabilities: npt.NDArray[np.float32]
    """float32, (N, 7)."""

    def to_dict(self) -> dict[str, object]:
        """Return it as what JSON can hold."""
        return {
            "image_size": self.faces.image_size.tolist(),
            "boxes": self.faces.boxes.tolist(),
            "landmarks": self.faces.landmarks.tolist(),
            "detection_scores": self.faces.scores.tolist(),
            "probabilities": self.probabilities.tolist(),
        }


class Pipeline:
    """Decodes, detects, aligns and classifies on one thread. It must not be shared between threads."""

    def __init__(self, onnx: Path = SERVED_ONNX, runtime: str = SERVED_RUNTIME) -> None:
        """Load the detector and the classifier, and run each once."""
        set_up_process()
        self.limits = ImageLimits()
        self.detector = FaceSearch(open_network(YUNET))
        self.detector.detect(np.zeros((240, 320, 3), np.uint8))
        self.classify = open_classifier(onnx, runtime, 1)
        self.classify(np.zeros((1, 1, contract.FACE_SIZE_PX, contract.FACE_SIZE_PX), np.uint8))

    def __call__(self, image: bytes) -> Answer:
        """Return the faces of an encoded image and their probabilities.

        Raises:
            fer_images.ImageRefusedError: The image is not accepted.
        """
        faces = find_faces(image, self.detector, self.limits)
        if not len(faces.crops):
            return Answer(faces, np.zeros((0, len(contract.LABELS)), np.float32))
        return Answer(faces, self.classify(faces.crops))


class Workers:
    """Processes that run the pipeline when they are told to. `start_workers` makes them."""

    def __init__(self, pipes: list[Connection]) -> None:
        """Keep the pipes to the processes."""
        self._pipes = pipes

    def images_per_s(self, image: bytes, seconds: float) -> float:
        """Return how many images all workers together answer per second, each at its own pace without a pause."""
        for pipe in self._pipes:
            pipe.send((image, seconds))
        return sum(float(pipe.recv()) for pipe in self._pipes)


@contextmanager
def start_workers(count: int) -> Iterator[Workers]:
    """Start `count` processes and wait until they are ready; they end with the `with` block."""
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
    pipeline = Pipeline()
    pipe.send("ready")
    try:
        while True:
            image, seconds = pipe.recv()
            pipeline(image)
            pipe.send(_measure(pipeline, image, seconds))
    except EOFError:
        return


def _measure(pipeline: Pipeline, image: bytes, seconds: float) -> float:
    done = 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        pipeline(image)
        done += 1
    return done / elapsed
