"""The model `fer_classifier` on a CPU: the same ONNX file that a TensorRT plan is made of.

Served under configs/cpu.pbtxt (`tritonserver --model-config-name=cpu`); a GPU serves model.plan instead.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.dont_write_bytecode = True  # Triton takes a __pycache__ in the repository's root for a model
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # that root, for fer_*.py

import fer_contract as contract
import fer_runtimes
import fer_tensors
from fer_settings import Settings


class TritonPythonModel:
    """Each instance classifies the faces of all requests in a batch at once, on as many cores as it has threads."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load model.onnx beside this file with the runtime that configs/cpu.pbtxt names."""
        settings = Settings(args)
        runtime, threads = settings.read("runtime", str), settings.read("threads", int)
        self._classify = fer_runtimes.open_served_classifier(runtime, threads)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return one response per request, in order.

        Each request brings FACES uint8 (n, 1, 48, 48), and gets PROBABILITIES float32 (n, 7).
        """
        faces = [fer_tensors.array_of(request, contract.FACES) for request in requests]
        probabilities = self._classify(np.concatenate(faces))
        ends = np.cumsum([len(batch) for batch in faces])[:-1]
        return [fer_tensors.response({contract.PROBABILITIES: rows}) for rows in np.split(probabilities, ends)]
