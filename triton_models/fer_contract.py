"""The public contract in one place: labels, sizes, and the names of models, tensors and metadata.

Standard library only, so that every room may import it: the Triton models, `fer_build`, `fer_training` and the
thin client. The `config.pbtxt` files beside this module say the same by hand; `tests/contract` compares the two.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

LABELS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Class names in FER2013's order. Column i of PROBABILITIES belongs to LABELS[i]."""

FACE_SIZE_PX: Final = 48
"""Width and height of an aligned face crop, FER2013's own."""

MAX_FACES: Final = 32
"""Faces reported per image; the largest are kept, and FACES_FOUND says how many there were. Stays under
MAX_CLASSIFIER_BATCH, which Triton enforces."""

MAX_CLASSIFIER_BATCH: Final = 64
"""`max_batch_size` of the classifier: faces of one request, or of several that are batched together."""

LANDMARK_NAMES: Final = ("right_eye", "left_eye", "nose_tip", "right_mouth_corner", "left_mouth_corner")
"""Rows of LANDMARKS. Right and left are the person's own, so the right eye is the one further left in the image."""

CROP_QUALITY_COLUMNS: Final = ("sharpness", "brightness", "contrast")
"""Columns of QUALITY of a ready crop, of which nothing else is known. `fer_quality` says what each measures."""

QUALITY_COLUMNS: Final = (
    "eye_distance_px",
    *CROP_QUALITY_COLUMNS,
    "yaw_deg",
    "pitch_deg",
    "roll_deg",
    "outside",
)
"""Columns of QUALITY of a face in a photo."""

# Models.
FER_MODEL: Final = "fer"
FER_CROPPED_MODEL: Final = "fer_cropped"
PREPROCESS_MODEL: Final = "fer_preprocess"
PREPROCESS_CROPPED_MODEL: Final = "fer_preprocess_cropped"
CLASSIFIER_MODEL: Final = "fer_classifier"
POSTPROCESS_MODEL: Final = "fer_postprocess"

# Tensors. Shapes and types are in the config.pbtxt of the model that has them.
IMAGE: Final = "IMAGE"
IMAGE_SIZE: Final = "IMAGE_SIZE"
BOXES: Final = "BOXES"
LANDMARKS: Final = "LANDMARKS"
DETECTION_SCORES: Final = "DETECTION_SCORES"
FACES: Final = "FACES"
FACE_COUNT: Final = "FACE_COUNT"
FACES_FOUND: Final = "FACES_FOUND"
QUALITY: Final = "QUALITY"
CLASSIFIED: Final = "CLASSIFIED"
PROBABILITIES: Final = "PROBABILITIES"

# Parameters in the served config of `fer` and `fer_cropped`, by which a client learns what it talks to.
LABELS_PARAMETER: Final = "labels"
"""Comma-separated class names in column order."""
MODEL_VERSION_PARAMETER: Final = "model_version"
UNCERTAIN_BELOW_PARAMETER: Final = "uncertain_below"
"""A face whose highest probability is below this decimal, 0..1, is to be called uncertain. 0 calls none so."""
QUALITY_COLUMNS_PARAMETER: Final = "quality_columns"
"""Comma-separated names of the columns of QUALITY."""
QUALITY_BOUNDS_PARAMETER: Final = "quality_bounds"
"""Comma-separated `column:min:max:reason`: a face with a value outside min..max is to be called uncertain for this
reason. Min, max, or both are left empty where there is no such bound. A column may have several, or none."""

# Metadata inside a classifier's ONNX file: what training hands over to the build.
ONNX_LABELS_KEY: Final = "fer.labels"
"""Comma-separated class names in column order."""
ONNX_VERSION_KEY: Final = "fer.version"
"""Version of the trained network, for people: a short word without spaces."""
ONNX_UNCERTAIN_BELOW_KEY: Final = "fer.uncertain_below"
"""The decimal that is published as `uncertain_below`."""


class OnnxTensor(Protocol):
    """An input or output of an ONNX file, as `onnxruntime.InferenceSession` lists them."""

    name: str
    type: str
    """`tensor(uint8)`, say."""
    shape: Sequence[int | str | None]
    """A number for a fixed dimension, a name or None for a free one."""


def find_misfit(inputs: Sequence[OnnxTensor], outputs: Sequence[OnnxTensor], metadata: Mapping[str, str]) -> str | None:
    """Return how a classifier's ONNX file differs from the contract, in words for people; None where it fits.

    Args:
        inputs: The file's inputs: one, FACES, uint8, (N, 1, 48, 48).
        outputs: The file's outputs: one, PROBABILITIES, float32, (N, 7).
        metadata: The file's `metadata_props`, which name the labels in the contract's order.
    """
    labels, found = ",".join(LABELS), metadata.get(ONNX_LABELS_KEY)
    if found != labels:
        return f"metadata {ONNX_LABELS_KEY} must be {labels!r}, not {found!r}"
    return _find_tensor_misfit("input", inputs, FACES, "tensor(uint8)", (1, FACE_SIZE_PX, FACE_SIZE_PX)) or (
        _find_tensor_misfit("output", outputs, PROBABILITIES, "tensor(float)", (len(LABELS),))
    )


def _find_tensor_misfit(
    kind: str, tensors: Sequence[OnnxTensor], name: str, type_: str, shape: tuple[int, ...]
) -> str | None:
    """Return what is wrong unless there is one tensor, of this name, type and shape, with a free first dimension."""
    if len(tensors) == 1:
        (tensor,) = tensors
        first, *others = tensor.shape or [0]
        if (tensor.name, tensor.type, tuple(others)) == (name, type_, shape) and not isinstance(first, int):
            return None
    found = ", ".join(f"{tensor.name} {tensor.type} {tuple(tensor.shape)}" for tensor in tensors) or "none"
    return f"expected one {kind} {name} {type_} (N, {', '.join(map(str, shape))}), found {found}"
