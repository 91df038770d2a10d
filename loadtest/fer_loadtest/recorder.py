"""What happened in each second, in one process or, merged, in all of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fer_loadtest.histogram import Histogram

WRONG_ANSWER = "wrong answer"
NOT_SENT = "not sent"


class CellKey(NamedTuple):
    """What is counted together: one second, one protocol, one kind of picture."""

    second: int
    """Of the clock that all machines share: seconds since 1970."""
    protocol: str
    kind: str


@dataclass
class Cell:
    """The counts of one cell.

    Attributes:
        sent: Requests that were meant to start in this second.
        latency: Of those answered as expected, from when they were meant to start; and of those that got no answer in
            time, for as long as was waited. A request that is turned away fast makes no percentile look better.
        good: Answers of this second that were as expected, whenever their requests were sent.
        faces: Faces in them.
        errors: Requests that failed in this second, by kind.
    """

    sent: int = 0
    latency: Histogram = field(default_factory=Histogram)
    good: int = 0
    faces: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def merge(self, other: Cell) -> None:
        """Add another one's counts."""
        self.sent += other.sent
        self.latency.merge(other.latency)
        self.good += other.good
        self.faces += other.faces
        self.errors.update(other.errors)


@dataclass
class GeneratorSecond:
    """What the load itself cost one process in one second.

    Attributes:
        cpu_s: CPU time of the process, in seconds; one core is 1.0, and more than Python can use.
        lag_ms: How much later than wanted the process woke up from a sleep.
        in_flight: Requests without an answer at the end of it.
        late: How much later than intended its requests were sent.
    """

    cpu_s: float = 0.0
    lag_ms: float = 0.0
    in_flight: int = 0
    late: Histogram = field(default_factory=Histogram)


class Recorder:
    """Counts, and hands over what it has counted.

    Attributes:
        cells: The counts by second, protocol and kind.
        generator: By second and process.
        examples: The first message of each kind of error.
    """

    def __init__(self, process: str) -> None:
        """Begin with nothing. `process` is a name that no other process of the test has."""
        self.process = process
        self.cells: dict[CellKey, Cell] = {}
        self.generator: dict[tuple[int, str], GeneratorSecond] = {}
        self.examples: dict[str, str] = {}

    def sent(self, at_s: float, protocol: str, kind: str, late_ms: float) -> None:
        """A request goes out that was meant to at `at_s`."""
        self._cell(at_s, protocol, kind).sent += 1
        self.generator_second(at_s).late.add(late_ms)

    def answered(self, at_s: float, end_s: float, protocol: str, kind: str, faces: int) -> None:
        """It was answered at `end_s` as expected."""
        self._cell(at_s, protocol, kind).latency.add(1000 * (end_s - at_s))
        cell = self._cell(end_s, protocol, kind)
        cell.good += 1
        cell.faces += faces

    def failed(
        self, at_s: float, end_s: float, protocol: str, kind: str, error: str, message: str, *, in_vain: bool = False
    ) -> None:
        """It failed at `end_s`; `in_vain` if that long was waited for an answer."""
        if in_vain:
            self._cell(at_s, protocol, kind).latency.add(1000 * (end_s - at_s))
        self._cell(end_s, protocol, kind).errors[error] += 1
        self.examples.setdefault(error, message)

    def generator_second(self, at_s: float) -> GeneratorSecond:
        """What is known of this process in a second, to be added to."""
        return self.generator.setdefault((math.floor(at_s), self.process), GeneratorSecond())

    def _cell(self, at_s: float, protocol: str, kind: str) -> Cell:
        key = CellKey(math.floor(at_s), protocol, kind)
        cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = Cell()
        return cell

    def within(self, begin_s: float, end_s: float) -> Iterator[tuple[CellKey, Cell]]:
        """The cells of the whole seconds of a span."""
        first, last = math.ceil(begin_s), math.floor(end_s)
        return ((key, cell) for key, cell in self.cells.items() if first <= key.second < last)

    def hand_over(self) -> dict[str, Any]:
        """Everything counted since the last time, as plain values; it is forgotten here."""
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
        """Add what another process has handed over."""
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
