"""A training step recorded once and replayed. Used by `training_run` on a GPU.

A small network's step is some hundred kernels of a few microseconds each: launching them takes longer than they do.
Replayed as one CUDA graph they follow each other without Python in between.
"""

from collections.abc import Callable
from typing import Final

import torch

EAGER_STEPS: Final = 3
"""Steps that run as they are before the recording, so that libraries have chosen their kernels and got buffers."""


class GraphedStep:
    """A step on a batch, the first few times as it is, then as one CUDA graph.

    What the step reads and writes besides the batch has to be tensors that stay where they are. The batch's size, and
    the path through the step's code, have to be the same every time. Random numbers go on from replay to replay.
    """

    def __init__(self, step: Callable[[torch.Tensor], None]) -> None:
        """Takes a step on a batch, int64, (B,), the numbers of its images, on the GPU."""
        self._step = step
        self._taken = 0
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch = torch.empty(0)

    def __call__(self, batch: torch.Tensor) -> None:
        """Takes one step."""
        if self._taken < EAGER_STEPS:
            self._taken += 1
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                self._step(batch)
            torch.cuda.current_stream().wait_stream(self._stream)
            return
        if self._graph is None:
            self._batch = batch.clone()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):  # Records, and computes nothing.
                self._step(self._batch)
        self._batch.copy_(batch)
        self._graph.replay()
