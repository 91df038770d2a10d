"""OpenCV, loaded when it is needed: it is no part of the base install."""

from __future__ import annotations

import importlib.util
import os
from types import ModuleType

from fer_client.video.errors import VideoError

_QUIET: str = "-8"  # AV_LOG_QUIET of FFmpeg


def require_opencv() -> None:
    """Find out whether OpenCV is there, without loading it.

    Raises:
        VideoError: It is not.
    """
    if importlib.util.find_spec("cv2") is None:
        raise VideoError("reading video needs OpenCV: pip install 'opencv-python-headless<5'")


def load_opencv() -> ModuleType:
    """The module `cv2`.

    Raises:
        VideoError: It is not installed.
    """
    require_opencv()
    import cv2

    return cv2


def silence_opencv() -> None:
    """Keep OpenCV and its FFmpeg from writing to standard error, for the whole process.

    They report there what a caller learns by itself, and in words that help nobody ("moov atom not found"). FFmpeg's
    part reads its variable once, at the first video.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _QUIET)
    load_opencv().setLogLevel(0)
