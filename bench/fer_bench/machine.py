"""What a benchmark ran on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil

_PACKAGES = ("nvidia-pytriton", "numpy", "onnxruntime", "openvino", "opencv-python-headless", "simplejpeg")


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Environment of a process that keeps one core busy. Without it NumPy's OpenBLAS waits for work by spinning on other
cores (tried: a process for each of two cores was three times slower)."""


def resident_mb() -> float:
    """Memory of all processes that this one has started, and those they have; what they share counts in each."""
    return sum(one.memory_info().rss for one in psutil.Process().children(recursive=True)) / 1e6


def describe_machine() -> str:
    """CPU, cores, Python and the versions that matter, on one line."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return f"{cpu}, {usable_cores()} cores; Python {platform.python_version()}, {versions}"
