"""What a test ran on: the machine that made the load, and whether the server was on it."""

from __future__ import annotations

import platform
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import psutil

_PACKAGES: Final = (
    "locust",
    "gevent",
    "geventhttpclient",
    "grpcio",
    "tritonclient",
    "numpy",
    "pillow",
    "nvidia-pytriton",
)


def describe_machine() -> dict[str, Any]:
    """CPU, cores, memory, system, versions, as plain values. No name of the machine or of a user."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions,
        "load_average_before": round(psutil.getloadavg()[0], 2),
    }


def is_this_machine(host: str) -> bool:
    """Whether a host's address is one of this machine's."""
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    return bool(addresses & own)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
