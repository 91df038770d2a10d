"""What one image costs a server, as measured: capacity.toml beside this file, written by `fer_sizing.measure`.

Read by `fer_sizing.simulate` and `fer_sizing.table`.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fer_sizing.errors import SizingError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MEASURED: Final = Path(__file__).with_name("capacity.toml")


@dataclass(frozen=True)
class Capacity:
    """Seconds of one core that an image takes, by who spends them, and what was measured."""

    preprocess_s: float
    """Decoding, detection and alignment, in fer_preprocess's Python processes."""
    classifier_s: float
    """In fer_classifier's Python processes, where the steps are separate. On a GPU this is the GPU's work instead."""
    rest_s: float
    """tritonserver itself and fer_postprocess."""
    image_bytes: int
    faces_per_image: float
    picture: str
    source: str
    """Command, machine, versions and what disturbs the figures."""

    @property
    def images_per_core_s(self) -> float:
        """What one core of a CPU server does in a second."""
        return 1 / (self.preprocess_s + self.classifier_s + self.rest_s)

    @property
    def images_per_core_s_beside_gpu(self) -> float:
        """What one core beside a GPU does in a second: all but the classifier."""
        return 1 / (self.preprocess_s + self.rest_s)


def read_capacity(file: Path = MEASURED) -> Capacity:
    """Reads a capacity file.

    Raises:
        SizingError: it can't be read, or a figure is missing or not positive.
    """
    try:
        table: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
        capacity = Capacity(**table)
    except (OSError, tomllib.TOMLDecodeError, TypeError) as error:
        raise SizingError(f"{file} is no capacity file ({error}): python -m fer_sizing.measure --out {file}") from None
    figures = (capacity.preprocess_s, capacity.classifier_s, capacity.rest_s, capacity.faces_per_image)
    if min(figures) <= 0 or capacity.image_bytes < 1:
        raise SizingError(f"{file}: expected positive figures, found {figures} and {capacity.image_bytes} bytes")
    return capacity
