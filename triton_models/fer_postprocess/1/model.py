"""The model `fer_postprocess`: drops the dummy row that stands for "no face", so that N faces give N rows."""

import sys
from pathlib import Path
from typing import Any

sys.dont_write_bytecode = True  # Triton takes a __pycache__ in the repository's root for a model
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # that root, for fer_*.py

import fer_contract as contract
import fer_tensors


class TritonPythonModel:
    """Each instance answers one request at a time."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return one response per request, in order: PROBABILITIES float32 (N, 7), N from FACE_COUNT, perhaps 0."""
        return [self._trimmed(request) for request in requests]

    def _trimmed(self, request: Any) -> Any:
        rows = fer_tensors.array_of(request, contract.CLASSIFIED)
        (count,) = fer_tensors.array_of(request, contract.FACE_COUNT)
        return fer_tensors.response({contract.PROBABILITIES: rows[:count]})
