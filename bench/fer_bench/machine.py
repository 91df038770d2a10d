"""What a benchmark ran on, and what processes have used of it."""

import contextlib
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil

_PACKAGES: Final = ("nvidia-pytriton", "numpy", "onnxruntime", "openvino", "opencv-python-headless", "simplejpeg")

ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Environment of a process that keeps one core busy. Without it NumPy's OpenBLAS waits for work by spinning on other
cores (tried: a process for each of two cores was three times slower)."""


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def name_cpu() -> str:
    """Return the CPU's name as Linux has it, or its architecture where Linux does not know the name."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def describe_machine() -> str:
    """Return CPU, cores, Python and the versions that matter, on one line."""
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return f"{name_cpu()}, {usable_cores()} cores; Python {platform.python_version()}, {versions}"


@dataclass(frozen=True)
class Family:
    """A process and all that it has started, directly or not, at the time of asking."""

    root: psutil.Process
    without: str = ""
    """Processes that have this among their arguments are left out; empty leaves out none."""

    def members(self) -> Iterator[psutil.Process]:
        """Yield the processes that are there now."""
        for process in (self.root, *self.root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                if not self.without or self.without not in process.cmdline():
                    yield process

    def cpu_s(self) -> float:
        """Return the seconds of CPU that its members have spent so far."""
        times = [process.cpu_times() for process in self.members()]
        return sum(one.user + one.system for one in times)

    def memory_mb(self) -> float:
        """Return the proportional set size of its members in MB: what several share counts once."""
        return sum(process.memory_full_info().pss for process in self.members()) / 1e6

    def resident_mb(self) -> float:
        """Return the resident memory of all but the root in MB: what several share counts in each."""
        return sum(process.memory_info().rss for process in self.members() if process != self.root) / 1e6
