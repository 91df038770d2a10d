"""Counts of a span of time added up: throughput, latency, errors."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fer_loadtest.histogram import Histogram, interval_ms
from fer_loadtest.recorder import CellKey, Recorder

PERCENTILES = (50, 90, 95, 99)


@dataclass
class Summary:
    """What came of the requests of a span.

    Attributes:
        seconds: Its length in whole seconds.
        sent: Requests that were meant to start in it.
        good: Answers in it that were as expected, refusals of corrupt files among them.
        faces: Faces in them.
        errors: Failures in it by kind.
        latency: Of the requests meant to start in it.
        by_second: The same, second by second.
    """

    seconds: int = 0
    sent: int = 0
    good: int = 0
    faces: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)
    by_second: dict[int, Histogram] = field(default_factory=lambda: defaultdict(Histogram))

    @property
    def ended(self) -> int:
        """Requests that were answered or failed."""
        return self.good + self.errors.total()

    @property
    def images_per_s(self) -> float:
        """Good answers per second."""
        return self.good / self.seconds if self.seconds else 0.0

    @property
    def faces_per_s(self) -> float:
        """Faces in them per second."""
        return self.faces / self.seconds if self.seconds else 0.0

    @property
    def error_percent(self) -> float:
        """Share of failures, 0..100."""
        return 100 * self.errors.total() / self.ended if self.ended else 0.0

    def p99_interval_ms(self) -> tuple[float, float] | None:
        """Where p99 would lie if it were repeated, with 95 % confidence."""
        return interval_ms(list(self.by_second.values()), 99)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. Latencies in ms."""
        latency = {f"p{percent}": _rounded(self.latency.percentile_ms(percent)) for percent in PERCENTILES}
        interval = self.p99_interval_ms()
        return {
            "seconds": self.seconds,
            "sent": self.sent,
            "good": self.good,
            "images_per_s": round(self.images_per_s, 3),
            "faces_per_s": round(self.faces_per_s, 3),
            "errors": dict(self.errors),
            "error_percent": round(self.error_percent, 4),
            "latency_ms": {**latency, "mean": _rounded(self.latency.mean_ms()), "count": len(self.latency)},
            "p99_interval_ms": None if interval is None else [round(bound, 1) for bound in interval],
        }


def summarise(
    recorder: Recorder,
    spans: list[tuple[float, float]],
    keep: Callable[[CellKey], bool] = lambda key: True,  # noqa: ARG005
) -> Summary:
    """Add up the whole seconds of some spans.

    Args:
        recorder: What was counted.
        spans: Begin and end of each, seconds since 1970. They do not overlap.
        keep: Which cells count.
    """
    summary = Summary()
    for begin_s, end_s in spans:
        seconds = set()
        for key, cell in recorder.within(begin_s, end_s):
            seconds.add(key.second)
            if not keep(key):
                continue
            summary.sent += cell.sent
            summary.good += cell.good
            summary.faces += cell.faces
            summary.errors.update(cell.errors)
            summary.latency.merge(cell.latency)
            summary.by_second[key.second].merge(cell.latency)
        summary.seconds += max(0, int(end_s // 1) - int(-(-begin_s // 1)))
    return summary


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
