"""Where the model sources and the released classifier are, and which of it is served by default."""

from pathlib import Path
from typing import Final

from fer_runtimes import OPENVINO

_IN_WHEEL: Final = Path(__file__).resolve().parents[1] / "fer_shipped"
"""An installed wheel has them here, in the folders that they have in a checkout; see pyproject.toml."""
_HOME: Final = _IN_WHEEL if _IN_WHEEL.is_dir() else Path(__file__).resolve().parents[2]
SOURCES: Final = _HOME / "triton_models"
"""The models as they are written by hand."""

WHOLE: Final = "fp32"
"""The precision of a classifier as training exports it."""
FP16: Final = "fp16"
INT8: Final = "int8"
SMALLER: Final = (FP16, INT8)
"""What is made of it."""

EXAMPLE_PHOTO: Final = _HOME / "examples" / "astronaut.png"
"""The one photo that is shipped."""

RELEASED_ONNX: Final = _HOME / "training" / "release" / "fer_classifier.onnx"


def name_precision(whole: Path, precision: str) -> Path:
    """What the file of another precision is called: `fer_classifier.onnx` -> `fer_classifier_int8.onnx`."""
    return whole if precision == WHOLE else whole.with_stem(f"{whole.stem}_{precision}")


def name_calibration(whole: Path) -> Path:
    """Where the ranges are that INT8 needs: in the folder of the float32 file."""
    return whole.with_name("calibration.json")


SERVED_ONNX: Final = name_precision(RELEASED_ONNX, INT8)
SERVED_RUNTIME: Final = OPENVINO
"""On a CPU: the fastest that passes its gate (see DECISIONS.md)."""
