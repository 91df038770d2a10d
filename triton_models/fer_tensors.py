"""NumPy arrays out of Triton's requests and into its responses. Shared by all Python models; imports nothing heavy.

Runs inside Triton's Python backend only, which alone offers `triton_python_backend_utils`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


def array_of(request: Any, name: str) -> np.ndarray[Any, Any]:
    """Return the input tensor `name`."""
    array: np.ndarray[Any, Any] = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return array


def response(tensors: Mapping[str, np.ndarray[Any, Any]]) -> Any:
    """Return a response of output tensors by name."""
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in tensors.items()])
