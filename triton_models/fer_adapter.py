"""What `fer_preprocess` and `fer_preprocess_cropped` share: an IMAGE out of a request, a refusal into a response.

Runs inside Triton's Python backend only, which alone offers `triton_python_backend_utils`.
"""

import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

import fer_contract as contract
import fer_settings
import fer_tensors
from fer_images import ImageLimits, ImageRefusedError
from fer_metrics import ImageCounters, StageClock


def image_limits(settings: fer_settings.Settings) -> ImageLimits:
    """Read what an image may weigh and measure."""
    return ImageLimits(settings.read("max_image_bytes", int), settings.read("max_image_pixels", int))


def answer(
    request: Any,
    tensors_of: Callable[[bytes, StageClock], Mapping[str, np.ndarray[Any, Any]]],
    counters: ImageCounters,
) -> Any:
    """Answer one request with the tensors that `tensors_of` makes of its image, or with the error that fits.

    An image that is refused gets INVALID_ARGUMENT (HTTP 400) for this request alone. Anything unforeseen gets
    INTERNAL with nothing of the server's inside in it; the traceback goes to the server's log. Each is counted.
    """
    clock = StageClock()
    try:
        tensors = tensors_of(_image_bytes(request), clock)
    except ImageRefusedError as error:
        counters.count_refused(error.reason)
        return _error(f"{contract.IMAGE}: {error}", pb_utils.TritonError.INVALID_ARG)
    except Exception:
        counters.count_failed()
        pb_utils.Logger.log_error(traceback.format_exc())
        return _error(f"{contract.IMAGE}: the server failed on this image", pb_utils.TritonError.INTERNAL)
    counters.count_answered(clock.durations_us, *_face_counts(tensors))
    return fer_tensors.response(tensors)


def _face_counts(tensors: Mapping[str, np.ndarray[Any, Any]]) -> tuple[int | None, int]:
    """Return how many faces an answer has, None where none are looked for, and how many more were found."""
    if contract.FACES_FOUND not in tensors:
        return None, 0
    count = len(tensors[contract.BOXES])
    return count, int(tensors[contract.FACES_FOUND][0]) - count


def _image_bytes(request: Any) -> bytes:
    # Triton has checked type, shape and the element's length.
    (element,) = fer_tensors.array_of(request, contract.IMAGE)
    return bytes(element)


def _error(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
