"""The generator of the load: what it costs, and the machine that it runs on.

A generator that cannot keep up measures itself, not the server.
"""

from __future__ import annotations

import platform
import socket
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import psutil

from fer_loadtest.histogram import Histogram
from fer_loadtest.recorder import Recorder

_BUSY_CORES: Final = 0.85
"""Share of its one core that a process may use in a second: beyond it, requests queue in the process."""
BUSY_SHARE: Final = 0.1
"""Share of the seconds that may be busier than that."""
_LATE_MS: Final = 10.0
_LATE_OF_LATENCY: Final = 0.1
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


def watch(recorder: Recorder, clock: Callable[[], float], in_flight: Callable[[], int], sleep: Any) -> None:
    """Record CPU time, lag and requests in flight of this process every quarter of a second, without end.

    Args:
        recorder: Counts of this process.
        clock: Returns seconds since 1970, as the recorder counts them.
        in_flight: Returns the number of requests without an answer.
        sleep: Cooperative sleep.
    """
    step_s = 0.25
    cpu_s, last_s = time.process_time(), time.perf_counter()
    while True:
        sleep(step_s)
        now_s, new_cpu_s = time.perf_counter(), time.process_time()
        second = recorder.generator_second(clock())
        second.cpu_s += new_cpu_s - cpu_s
        second.lag_ms = max(second.lag_ms, 1000 * (now_s - last_s - step_s))
        second.in_flight = in_flight()
        cpu_s, last_s = new_cpu_s, now_s


@dataclass(frozen=True)
class GeneratorCost:
    """The cost of the load.

    Attributes:
        processes: Number of processes that made the load.
        cores: CPU time of all processes per second, in cores.
        peak_cores: Most CPU time of one process in one second, in cores.
        busy_share: Share of seconds in which a process used nearly all of its core, 0..1.
        ms_per_request: CPU time per request, in ms.
        late_p99_ms: Delay with which 1 % of the requests or more were sent, in ms.
        lag_max_ms: Longest delay with which a process woke up, in ms.
        is_saturated: Whether the generator, and not the server, set the limit.
    """

    processes: int
    cores: float
    peak_cores: float
    busy_share: float
    ms_per_request: float | None
    late_p99_ms: float | None
    lag_max_ms: float
    is_saturated: bool


def cost_of(recorder: Recorder, begin_s: float, end_s: float, p99_ms: float | None) -> GeneratorCost:
    """Add up the cost of all processes in a span.

    Args:
        recorder: Counts of all processes.
        begin_s: Begin of the span, in seconds since 1970.
        end_s: End of the span, in seconds since 1970.
        p99_ms: Latency measured in the span, which delays are compared with; None where there is none.
    """
    seconds = {key: one for key, one in recorder.generator.items() if begin_s <= key[0] < end_s}
    processes = {process for (_, process), one in seconds.items() if one.cpu_s}
    by_second: dict[int, float] = defaultdict(float)
    for (second, _), one in seconds.items():
        by_second[second] = max(by_second[second], one.cpu_s)
    cpu_s = sum(one.cpu_s for one in seconds.values())
    late = Histogram.sum_of(one.late for one in seconds.values())
    late_p99_ms = late.percentile_ms(99)
    busy = [second for second, cores in by_second.items() if cores > _BUSY_CORES]
    busy_share = len(busy) / len(by_second) if by_second else 0.0
    is_late = late_p99_ms is not None and late_p99_ms > max(_LATE_MS, _LATE_OF_LATENCY * (p99_ms or 0.0))
    return GeneratorCost(
        processes=len(processes),
        cores=cpu_s / max(len(by_second), 1),
        peak_cores=max(by_second.values(), default=0.0),
        busy_share=busy_share,
        ms_per_request=1000 * cpu_s / len(late) if len(late) else None,
        late_p99_ms=late_p99_ms,
        lag_max_ms=max((one.lag_ms for one in seconds.values()), default=0.0),
        is_saturated=busy_share > BUSY_SHARE or is_late,
    )


def describe_machine() -> dict[str, Any]:
    """Return CPU, cores, memory, system and versions as plain values. They name neither the machine nor a user."""
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
    """Return whether the address of a host is one of this machine."""
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
