"""What `fer_preprocess` and `fer_preprocess_cropped` share: an IMAGE out of a request, a refusal into a response.

Runs inside Triton's Python backend only, which alone offers `triton_python_backend_utils`.
"""

import traceback
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils

import fer_contract as contract
import fer_settings
import fer_tensors
from fer_images import ImageLimits, ImageRefusedError


def image_limits(settings: fer_settings.Settings) -> ImageLimits:
    """What an image may weigh and measure."""
    return ImageLimits(settings.read("max_image_bytes", int), settings.read("max_image_pixels", int))


def use_one_thread() -> None:
    """For OpenCV: a machine is filled by model instances, each of which keeps one core busy."""
    cv2.setNumThreads(1)


def answer(request: Any, tensors_of: Callable[[bytes], Mapping[str, np.ndarray[Any, Any]]]) -> Any:
    """Answers one request with the tensors that `tensors_of` makes of its image, or with the error that fits.

    An image that is refused gets INVALID_ARGUMENT (HTTP 400) for this request alone. Anything unforeseen gets
    INTERNAL with nothing of the server's inside in it; the traceback goes to the server's log.
    """
    try:
        tensors = tensors_of(_image_bytes(request))
    except ImageRefusedError as error:
        return _error(f"{contract.IMAGE}: {error}", pb_utils.TritonError.INVALID_ARG)
    except Exception:
        pb_utils.Logger.log_error(traceback.format_exc())
        return _error(f"{contract.IMAGE}: the server failed on this image", pb_utils.TritonError.INTERNAL)
    return fer_tensors.response(tensors)


def _image_bytes(request: Any) -> bytes:
    # Triton has checked type, shape and the element's length.
    (element,) = fer_tensors.array_of(request, contract.IMAGE)
    return bytes(element)


def _error(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
