"""The model `fer_classifier` on a CPU: the same ONNX file that a TensorRT plan is made of, run by ONNX Runtime.

Served under configs/cpu.pbtxt (`tritonserver --model-config-name=cpu`); a GPU serves model.plan instead.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

sys.dont_write_bytecode = True  # Triton takes a __pycache__ in the repository's root for a model
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # that root, for fer_*.py

import fer_contract as contract
import fer_tensors


class TritonPythonModel:
    """Each instance keeps one core busy and classifies the faces of all requests in a batch at once."""

    def initialize(self, _args: dict[str, str]) -> None:
        """Loads model.onnx beside this file."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            Path(__file__).with_name("model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request, in order.

        Each request brings FACES uint8 (n, 1, 48, 48), and gets PROBABILITIES float32 (n, 7).
        """
        faces = [fer_tensors.array_of(request, contract.FACES) for request in requests]
        (probabilities,) = self._session.run([contract.PROBABILITIES], {contract.FACES: np.concatenate(faces)})
        ends = np.cumsum([len(batch) for batch in faces])[:-1]
        return [fer_tensors.response({contract.PROBABILITIES: rows}) for rows in np.split(probabilities, ends)]
