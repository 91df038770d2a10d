"""What one image costs a server, as measured: capacity.toml beside this file, or another such file."""

import dataclasses
import json
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
_HEADER: Final = "# Seconds of one core that an image costs a CPU server. Written by python -m fer_sizing measure.\n"


@dataclass(frozen=True)
class Capacity:
    """Seconds of one core that an image takes, by who spends them, and what was measured."""

    preprocess_s: float
    """Decoding, detection and alignment, in fer_preprocess's Python processes."""
    classifier_s: float
    """Classification, in fer_classifier's processes, where it is separate. On a GPU this is the GPU's work instead."""
    rest_s: float
    """What tritonserver itself and fer_postprocess take."""
    image_bytes: int
    faces_per_image: float
    picture: str
    """Name of the picture that was sent."""
    source: str
    """Command, machine, versions and what disturbs the figures."""

    @property
    def images_per_core_s(self) -> float:
        """Images that one core of a CPU server answers in a second."""
        return 1 / (self.preprocess_s + self.classifier_s + self.rest_s)

    @property
    def images_per_core_s_beside_gpu(self) -> float:
        """Images that one core beside a GPU answers in a second: it does all but classifying."""
        return 1 / (self.preprocess_s + self.rest_s)


def read_capacity(file: Path = MEASURED) -> Capacity:
    """Read a capacity file.

    Raises:
        SizingError: It cannot be read, or a figure is missing or not positive.
    """
    try:
        table: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
        capacity = Capacity(**table)
    except (OSError, tomllib.TOMLDecodeError, TypeError) as error:
        raise SizingError(f"{file} is no capacity file ({error}): python -m fer_sizing measure --out {file}") from None
    figures = (capacity.preprocess_s, capacity.classifier_s, capacity.rest_s, capacity.faces_per_image)
    if min(figures) <= 0 or capacity.image_bytes < 1:
        raise SizingError(f"{file}: expected positive figures, got {figures} and {capacity.image_bytes} bytes")
    return capacity


def format_capacity(capacity: Capacity) -> str:
    """Return the text of a capacity file."""
    rounded = {
        name: round(value, 3 if name == "faces_per_image" else 6) if isinstance(value, float) else value
        for name, value in dataclasses.asdict(capacity).items()
    }
    return _HEADER + "".join(f"{name} = {json.dumps(value)}\n" for name, value in rounded.items())
