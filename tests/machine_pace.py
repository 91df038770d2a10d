"""How fast this machine is at the moment, so that time limits mean the same on a busy one."""

import time

_LOOPS = 1_000_000
_QUIET_S = 0.06
"""The loop's time on one quiet core of an Intel Xeon at 2.5 GHz, CPython 3.10 to 3.12, rounded up."""


def slowness() -> float:
    """How many times slower than a quiet 2.5 GHz core this process runs now; at least 1."""
    started = time.monotonic()
    total = 0
    for number in range(_LOOPS):
        total += number
    return max(1.0, (time.monotonic() - started) / _QUIET_S)
