"""How a process that looks at images is set up. Called once in each by the preprocessing models, and by benchmarks."""

import ctypes
import gc
from typing import Final

import cv2

_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3
_LARGEST_KEPT_BYTES: Final = 32 << 20
"""The most that glibc allows: DEFAULT_MMAP_THRESHOLD_MAX in its malloc.c."""
_KEPT_BYTES: Final = 64 << 20
"""Enough for a decoded image at the size that is good enough, and for the detector's maps of it."""


def set_up_process() -> None:
    """Set up one thread for OpenCV, and memory that is used again for the next image instead of being given back.

    A machine is filled by model instances, each of which keeps one core busy.

    The detector allocates its maps anew for each image. By default glibc hands the large ones back to the kernel, which
    then has to find and clear them page by page for the next image: a fifth to a quarter of the time that an image of
    640x480 px takes.
    Blocks over 32 MiB, as of a large photo decoded whole, still go back at once.
    """
    cv2.setNumThreads(1)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc; others have no such habit to change
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def end_set_up() -> None:
    """Give back the memory that loading took, and stop looking for garbage in what was loaded.

    What is there by now stays for as long as the process does.
    """
    gc.collect()
    gc.freeze()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
