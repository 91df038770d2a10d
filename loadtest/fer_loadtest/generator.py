"""What the load costs the process that makes it: a generator that cannot keep up measures itself, not the server."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from fer_loadtest.histogram import Histogram
from fer_loadtest.recorder import Recorder

_BUSY_CORES: Final = 0.85
"""Share of its one core that a process may use in a second: Python runs on one at a time, and queues form before it."""
BUSY_SHARE: Final = 0.1
"""Share of the seconds that may be busier."""
_LATE_MS: Final = 10.0
_LATE_OF_LATENCY: Final = 0.1


def watch(recorder: Recorder, clock: Callable[[], float], in_flight: Callable[[], int], sleep: Any) -> None:
    """Note CPU time, lag and requests in flight of this process, every quarter of a second, for ever.

    Args:
        recorder: Where to.
        clock: Seconds since 1970, as the recorder counts them.
        in_flight: How many requests have no answer yet.
        sleep: A cooperative one.
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
    """What the load cost.

    Attributes:
        processes: How many made it.
        cores: CPU time per second of all of them together, in cores.
        peak_cores: The most that one of them used in a second.
        busy_share: The share of seconds in which one of them used nearly all of a core, 0..1.
        ms_per_request: CPU time for each request.
        late_p99_ms: How much later than intended 1 % of the requests were sent at least.
        lag_max_ms: The longest that a process overslept.
        is_saturated: Whether it was the generator that set the limit.
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
    """Add up what is known of the processes in a span.

    Args:
        recorder: Of all processes.
        begin_s: Seconds since 1970.
        end_s: The same.
        p99_ms: The latency measured then, beside which lateness is large or small.
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
