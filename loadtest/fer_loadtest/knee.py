"""Where a server's curve bends, and what it takes at an objective: read off the levels of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_STILL_GROWS: Final = 1.1
"""A knee at the last level is none if throughput grew by more than this factor up to it."""


def find_knee(levels: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The level with the most throughput for its latency, beyond which load buys waiting more than answers.

    Args:
        levels: As in a report.

    Returns:
        Its index, name and figures, and `is_reached`: False where throughput still grew at the end. None for fewer than
        three levels that were answered.

    Source: L. Kleinrock, Power and deterministic rules of thumb for probabilistic problems in computer communications,
    1979: power is throughput over mean delay, greatest at the knee.
    """
    answered = [(index, level) for index, level in enumerate(levels) if level["latency_ms"]["mean"]]
    if len(answered) < 3:
        return None
    index, best = max(answered, key=lambda pair: pair[1]["images_per_s"] / pair[1]["latency_ms"]["mean"])
    before = [level["images_per_s"] for level in levels[:index]]
    at_the_end = index == answered[-1][0] and bool(before) and best["images_per_s"] > _STILL_GROWS * max(before)
    return {**_figures(index, best), "is_reached": not at_the_end}


def find_capacity(levels: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The level with the most throughput of those that held the objective; None where none did."""
    held = [(index, level) for index, level in enumerate(levels) if level["held"] and level["latency_ms"]["p99"]]
    if not held:
        return None
    return _figures(*max(held, key=lambda pair: pair[1]["images_per_s"]))


def _figures(index: int, level: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "level": index,
        "name": level["name"],
        "images_per_s": level["images_per_s"],
        "faces_per_s": level["faces_per_s"],
        "p99_ms": level["latency_ms"]["p99"],
    }
