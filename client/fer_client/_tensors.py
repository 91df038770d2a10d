"""Tensors as they travel: the inference protocol's bytes and numbers on one side, NumPy arrays on the other."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DTYPES: Final = {"INT32": "<i4", "FP32": "<f4"}
"""The types that the contract's outputs have, in NumPy's words. Raw tensors are little-endian.

Source: the Open Inference Protocol, "Tensor Data" and its binary extension.
"""


def pack_bytes(content: bytes) -> bytes:
    """A BYTES tensor of one element: its length in four bytes, then itself."""
    return struct.pack("<I", len(content)) + content


def unpack(datatype: str, shape: Sequence[int], raw: bytes) -> NDArray[Any]:
    """Read a tensor from its raw form. The array is read-only, a view of `raw`.

    Raises:
        ValueError: The type is none of the contract's, or bytes and shape do not go together.
    """
    import numpy as np  # Not at the top, so that `import fer_client` stays light.

    return np.frombuffer(raw, _dtype(datatype)).reshape(_checked(shape))


def from_numbers(datatype: str, shape: Sequence[int], numbers: Sequence[float]) -> NDArray[Any]:
    """Read a tensor from the list of numbers that JSON holds instead.

    Raises:
        ValueError: The type is none of the contract's, or numbers and shape do not go together.
        OverflowError: A number does not fit the type.
    """
    import numpy as np  # Not at the top, so that `import fer_client` stays light.

    return np.array(numbers, _dtype(datatype)).reshape(_checked(shape))


def _dtype(datatype: str) -> str:
    try:
        return _DTYPES[datatype]
    except KeyError:
        raise ValueError(f"datatype {datatype!r}, expected one of {', '.join(_DTYPES)}") from None


def _checked(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape, free of the -1 that NumPy would fill in."""
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError(f"shape {shape!r}, expected sizes of 0 or more")
    return tuple(shape)
