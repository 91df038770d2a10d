"""Origin of a result: code, versions, hardware, time, and the names of runs.

Kept in checkpoints and published by `export`. A run's name begins with its recipe's: `averaged-seed2`, `posed-fold3`,
`polished-soup`.
"""

import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch


def utc_now() -> str:
    """Return the time in UTC to the minute, such as `2026-11-22 16:05 UTC`."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def describe_hardware(device_type: str) -> str:
    """Return the processor that does the work and how many CPU threads PyTorch uses, without the machine's name."""
    if device_type == "cuda":
        return torch.cuda.get_device_name()
    return f"{_cpu_name()}, {torch.get_num_threads()} threads"


def list_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python and of the installed ones among the packages."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def describe_commit() -> str:
    """Return the Git commit of the training room, with `-modified` where its code differs, or `unknown` outside git."""
    room = Path(__file__).resolve().parents[1]
    commit = _git(room, "rev-parse", "HEAD")
    if not commit:
        return "unknown"
    return f"{commit}-modified" if _git(room, "status", "--porcelain", "--", "fer_training", "recipes") else commit


def _git(directory: Path, *arguments: str) -> str:
    try:
        run = subprocess.run(
            ["git", "-C", str(directory), *arguments],  # noqa: S607 - whichever git the user works with
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return run.stdout.strip()


def _cpu_name() -> str:
    """Return the CPU's name from Linux, or else what Python knows of it."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def with_seed(name: str, seed: int) -> str:
    """Return the name of a run with another seed than its recipe's."""
    return f"{name}-seed{seed}"


def with_fold(name: str, fold: int) -> str:
    """Return the name of a run that is validated on one fold."""
    return f"{name}-fold{fold}"


def soup_of(name: str) -> str:
    """Return the name of the mean of several runs, from one run's."""
    return re.sub(r"-seed\d+", "", name) + "-soup"


def recipe_of(name: str) -> str:
    """Return the recipe's name, from a run's."""
    return re.sub(r"(-seed\d+|-fold\d+|-soup)*$", "", name)
