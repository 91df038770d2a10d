"""Where the model sources and the released classifier are, and which of its precisions is served by default."""

from pathlib import Path
from typing import Final

from fer_runtimes import OPENVINO

_IN_WHEEL: Final = Path(__file__).resolve().parents[1] / "fer_shipped"
"""An installed wheel has them here, in the folders that they have in a checkout; see pyproject.toml."""
_HOME: Final = _IN_WHEEL if _IN_WHEEL.is_dir() else Path(__file__).resolve().parents[2]
SOURCES: Final = _HOME / "triton_models"
"""The models as they are written by hand."""

FP32: Final = "fp32"
"""The precision of a classifier as training exports it."""
FP16: Final = "fp16"
INT8: Final = "int8"
SMALLER: Final = (FP16, INT8)
"""The precisions that are made of it."""

EXAMPLE_PHOTO: Final = _HOME / "examples" / "astronaut.png"
"""The one photo that is shipped."""

RELEASED_ONNX: Final = _HOME / "training" / "release" / "fer_classifier.onnx"


def name_precision(fp32_path: Path, precision: str) -> Path:
    """Return the path of a file in another precision: `fer_classifier.onnx` -> `fer_classifier_int8.onnx`."""
    return fp32_path if precision == FP32 else fp32_path.with_stem(f"{fp32_path.stem}_{precision}")


def ranges_path(fp32_path: Path) -> Path:
    """Return the path of the ranges that INT8 needs: in the folder of the float32 file."""
    return fp32_path.with_name("int8_ranges.json")


SERVED_ONNX: Final = name_precision(RELEASED_ONNX, INT8)
SERVED_RUNTIME: Final = OPENVINO
"""The fastest on a CPU that passes its gate (see DECISIONS.md)."""
