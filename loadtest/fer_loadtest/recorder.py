"""Counts what happened in each second, in one process or, merged, in all of them, and adds up spans of it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fer_loadtest.histogram import Histogram, interval_ms

PERCENTILES = (50, 90, 95, 99)


class CellKey(NamedTuple):
    """The key of what is counted together: one second since 1970, one protocol, one kind of picture."""

    second: int
    protocol: str
    kind: str


@dataclass
class Cell:
    """The counts of one cell.

    Attributes:
        sent: Number of requests that were meant to start in this second.
        latency: Latencies of the requests sent in this second, counted from when they were meant to start: of those
            answered as expected, and of those that waited for an answer in vain. Requests that are refused at once
            make no percentile look better.
        good: Number of expected answers that came in this second.
        faces: Number of faces in these answers.
        errors: Number of requests that failed in this second, by kind of failure.
    """

    sent: int = 0
    latency: Histogram = field(default_factory=Histogram)
    good: int = 0
    faces: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def merge(self, other: Cell) -> None:
        """Add the counts of another cell."""
        self.sent += other.sent
        self.latency.merge(other.latency)
        self.good += other.good
        self.faces += other.faces
        self.errors.update(other.errors)


@dataclass
class GeneratorSecond:
    """The cost of the load for one process in one second.

    Attributes:
        cpu_s: CPU time of the process, in seconds; Python cannot use more than 1.0.
        lag_ms: Longest delay with which the process woke up from a sleep, in ms.
        in_flight: Number of requests without an answer at the end of the second.
        late: Delays with which requests were sent, in ms.
    """

    cpu_s: float = 0.0
    lag_ms: float = 0.0
    in_flight: int = 0
    late: Histogram = field(default_factory=Histogram)


class Recorder:
    """Counts requests and answers, and hands the counts over.

    Attributes:
        process: Name that no other process of the test has.
        cells: Counts by second, protocol and kind.
        generator: Cost of the load by second and process.
        examples: First message of each kind of failure.
    """

    def __init__(self, process: str) -> None:
        """Begin with nothing."""
        self.process = process
        self.cells: dict[CellKey, Cell] = {}
        self.generator: dict[tuple[int, str], GeneratorSecond] = {}
        self.examples: dict[str, str] = {}

    def sent(self, at_s: float, protocol: str, kind: str, late_ms: float) -> None:
        """Count a request that was meant to be sent at `at_s` and is sent `late_ms` later."""
        self._cell(at_s, protocol, kind).sent += 1
        self.generator_second(at_s).late.add(late_ms)

    def answered(self, at_s: float, end_s: float, protocol: str, kind: str, faces: int) -> None:
        """Count an expected answer at `end_s` to the request of `at_s`."""
        self._cell(at_s, protocol, kind).latency.add(1000 * (end_s - at_s))
        cell = self._cell(end_s, protocol, kind)
        cell.good += 1
        cell.faces += faces

    def failed(
        self, at_s: float, end_s: float, protocol: str, kind: str, error: str, message: str, *, in_vain: bool = False
    ) -> None:
        """Count a failure at `end_s` of the request of `at_s`; `in_vain` if an answer was waited for until then."""
        if in_vain:
            self._cell(at_s, protocol, kind).latency.add(1000 * (end_s - at_s))
        self._cell(end_s, protocol, kind).errors[error] += 1
        self.examples.setdefault(error, message)

    def generator_second(self, at_s: float) -> GeneratorSecond:
        """Return the cost of this process in a second, to be added to."""
        return self.generator.setdefault((math.floor(at_s), self.process), GeneratorSecond())

    def _cell(self, at_s: float, protocol: str, kind: str) -> Cell:
        key = CellKey(math.floor(at_s), protocol, kind)
        cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = Cell()
        return cell

    def within(self, begin_s: float, end_s: float) -> Iterator[tuple[CellKey, Cell]]:
        """Yield the cells of the whole seconds of a span."""
        first, last = math.ceil(begin_s), math.floor(end_s)
        return ((key, cell) for key, cell in self.cells.items() if first <= key.second < last)

    def hand_over(self) -> dict[str, Any]:
        """Return everything counted since the last call, as plain values, and forget it."""
        cells = [
            [*key, cell.sent, cell.latency.to_dict(), cell.good, cell.faces, dict(cell.errors)]
            for key, cell in self.cells.items()
        ]
        generator = [
            [*key, one.cpu_s, one.lag_ms, one.in_flight, one.late.to_dict()] for key, one in self.generator.items()
        ]
        plain = {"cells": cells, "generator": generator, "examples": self.examples}
        self.cells, self.generator, self.examples = {}, {}, {}
        return plain

    def take_over(self, plain: dict[str, Any]) -> None:
        """Add the counts that another process has handed over."""
        for second, protocol, kind, sent, latency, good, faces, errors in plain["cells"]:
            new = Cell(sent, Histogram(latency), good, faces, Counter(errors))
            self.cells.setdefault(CellKey(second, protocol, kind), Cell()).merge(new)
        for second, process, cpu_s, lag_ms, in_flight, late in plain["generator"]:
            known = self.generator.setdefault((second, process), GeneratorSecond())
            known.cpu_s += cpu_s
            known.lag_ms = max(known.lag_ms, lag_ms)
            known.in_flight = in_flight or known.in_flight
            known.late.merge(Histogram(late))
        for error, message in plain["examples"].items():
            self.examples.setdefault(error, message)


@dataclass
class Summary(Cell):
    """The counts of a span of whole seconds.

    Attributes:
        seconds: Length of the span, in whole seconds.
        by_second: Latencies by second.
    """

    seconds: int = 0
    by_second: dict[int, Histogram] = field(default_factory=lambda: defaultdict(Histogram))

    @property
    def ended(self) -> int:
        """Number of requests that were answered or failed."""
        return self.good + self.errors.total()

    @property
    def images_per_s(self) -> float:
        """Expected answers per second, refusals of corrupt files included."""
        return self.good / self.seconds if self.seconds else 0.0

    @property
    def faces_per_s(self) -> float:
        """Faces in these answers per second."""
        return self.faces / self.seconds if self.seconds else 0.0

    @property
    def error_percent(self) -> float:
        """Share of requests that failed, 0..100."""
        return 100 * self.errors.total() / self.ended if self.ended else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON. Latencies are in ms."""
        latency = {f"p{percent}": _rounded(self.latency.percentile_ms(percent)) for percent in PERCENTILES}
        interval = interval_ms(list(self.by_second.values()), 99)
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
        recorder: Counts.
        spans: Begin and end of each span, in seconds since 1970. They do not overlap.
        keep: Returns whether a cell counts.
    """
    summary = Summary()
    for begin_s, end_s in spans:
        for key, cell in recorder.within(begin_s, end_s):
            if keep(key):
                summary.merge(cell)
                summary.by_second[key.second].merge(cell.latency)
        summary.seconds += max(0, math.floor(end_s) - math.ceil(begin_s))
    return summary


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
