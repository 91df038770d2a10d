"""The course of a load: its levels, fixed beforehand or found on the way, and the conductor that leads through them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from fer_loadtest.capacity import Found, search_rate
from fer_loadtest.options import Options

REPORT_EVERY_S: Final = 1.0
"""Interval at which workers tell the master what they have counted."""

_STREAMS: Final = 100
"""Most users at the highest rate of a fixed course. Each is a stream of arrivals, and the load is their sum."""
_SEARCH_STREAMS: Final = 20
"""Users at the rate that a search begins with."""
_SLOT_S: Final = 10.0
"""Shortest span in which a stream has exactly as many arrivals as its rate says, at random moments."""
_NEEDED: Final = 200
"""Requests in a trial at a low rate: p99 means little on fewer."""
_LONGEST_S: Final = 60.0
"""Longest trial that a low rate asks for."""
_ENOUGH: Final = 150
"""Requests in the longest trial at the lowest rate that is tried: p99 takes 100 answers."""
_DRAIN_LIMIT_S: Final = 60.0


@dataclass(frozen=True)
class Level:
    """A load that stays the same for a while.

    Attributes:
        name: Name for people.
        users: Users who wait for their answers; 0 for an open load.
        rate: Arrivals per second; 0 for a closed load.
        seconds: Duration, in seconds.
        counts: Whether thresholds apply to it.
        drains: Whether nothing is sent after it until everything is answered.
    """

    name: str
    users: int
    rate: float
    seconds: float
    counts: bool = True
    drains: bool = False

    @property
    def load(self) -> float:
        """Users or arrivals per second."""
        return self.users or self.rate


Course: TypeAlias = Generator[Level, bool, "Found | None"]
"""Yields levels, receives whether each held the objective, returns what a search found."""


def course_of(options: Options) -> Course:
    """Return the levels that the options ask for."""
    loads = options.levels or options.rates
    if options.shape == "capacity":
        return _search(options)
    if options.shape == "spike":
        usual, high = loads
        spike = _level(options, "spike", high, counts=False)
        return _fixed([_level(options, "before", usual), spike, _level(options, "after", usual)])
    if options.shape == "steps":
        return _fixed([_level(options, _named(load, bool(options.levels)), load) for load in loads])
    return _fixed([_level(options, options.shape, loads[0])])


def _named(load: float, is_closed: bool) -> str:
    return f"{load:g} user{'s' * (load != 1)}" if is_closed else f"{load:g} arrivals/s"


def _level(options: Options, name: str, load: float, *, counts: bool = True) -> Level:
    users, rate = (int(load), 0.0) if options.levels else (0, load)
    return Level(name, users, rate, options.level_s, counts)


def _fixed(levels: list[Level]) -> Course:
    for level in levels:  # noqa: UP028 - `yield from` a list cannot be sent anything
        yield level
    return None


def _search(options: Options) -> Course:
    smallest = _ENOUGH / max(options.level_s - options.settle_s, _LONGEST_S)
    steps = search_rate(options.rates[0], options.tolerance_percent / 100, options.confirmations, smallest)
    held = None
    try:
        while True:
            trial = next(steps) if held is None else steps.send(held)
            seconds = max(options.level_s, options.settle_s + min(_NEEDED / trial.rate, _LONGEST_S))
            held = yield Level(f"{trial.purpose} {trial.rate:.4g}/s", 0, trial.rate, seconds, drains=True)
    except StopIteration as end:
        found: Found = end.value
        return found


def stream_rate(shape: str, rates: Sequence[float]) -> float:
    """Return the arrivals per second of one user of an open load; 0 for a closed load. All processes agree on it."""
    if not rates:
        return 0.0
    if shape == "capacity":
        return rates[0] / _SEARCH_STREAMS
    # A single rate need not be divided finely, and each stream has an arrival in the shortest slot then.
    return max(rates) / (min(_STREAMS, math.ceil(rates[0] * _SLOT_S)) if len(rates) == 1 else _STREAMS)


def users_of(level: Level, options: Options) -> int:
    """Return how many of Locust's users make the load of a level."""
    return level.users or max(1, math.floor(level.rate / stream_rate(options.shape, options.rates) + 0.5))


def arrivals(rate: float, begin_s: float, choice: random.Random) -> Iterator[float]:
    """Yield the moments of one stream of arrivals, in their order, without end.

    Time is cut into slots of at least 10 s with a whole number of arrivals, each uniform within its slot. That is a
    Poisson process given its count in each slot: as random as one within seconds, but the rate is the one that was
    asked for. (An unconditional one strays by 5 % in 400 arrivals, and with the same seed by the same 5 % each time.)

    Args:
        rate: Arrivals per second.
        begin_s: Start of the first slot, in seconds.
        choice: Source of the moments.

    Source: D. Daley and D. Vere-Jones, An Introduction to the Theory of Point Processes, 2003, 2.1.
    """
    count = _arrivals_in_slot(rate)
    while True:
        yield from sorted(begin_s + count / rate * choice.random() for _ in range(count))
        begin_s += count / rate


def _arrivals_in_slot(rate: float) -> int:
    return math.ceil(rate * _SLOT_S - 1e-9)


def slot_s(shape: str, rates: Sequence[float]) -> float:
    """Return the length of the slots of `arrivals`, in seconds; 0 for a closed load."""
    rate = stream_rate(shape, rates)
    return _arrivals_in_slot(rate) / rate if rate else 0.0


@dataclass
class Span:
    """A level and when it was measured, in seconds since 1970.

    Attributes:
        level: The load.
        begin_s: Begin of the load.
        settled_s: Begin of the measurement.
        end_s: End of both.
        held: Whether the level held the objective; None as long as that is not known.
    """

    level: Level
    begin_s: float
    settled_s: float
    end_s: float
    held: bool | None = None


@dataclass
class Conductor:
    """Leads through a course: says every second how many users there are to be.

    Attributes:
        course: Levels to come.
        settle_s: Seconds at the start of each level that are not counted.
        clock: Returns seconds since 1970.
        users_of: Returns how many users a level takes.
        in_flight: Returns the number of requests without an answer, in all processes.
        evaluate: Called when a level is over and everything is reported; returns whether it held.
        lag_s: Time that reports of workers take to arrive, in seconds.
        patience_s: Longest wait for an answer, in seconds.
        spans: Levels so far, the present one included.
        found: Result of a search, once it is over.
        is_done: Whether the course came to its end.
    """

    course: Course
    settle_s: float
    clock: Callable[[], float]
    users_of: Callable[[Level], int]
    in_flight: Callable[[], int]
    evaluate: Callable[[Span], bool]
    lag_s: float = 0.0
    patience_s: float = 30.0
    spans: list[Span] = field(default_factory=list)
    found: Found | None = None
    is_done: bool = False
    _is_last: bool = False

    def tick(self) -> int | None:
        """Return how many users there are to be now; None when everything is over."""
        now = self.clock()
        if not self.spans:
            self._begin(next(self.course), now)
        span = self.spans[-1]
        if now < span.end_s:
            return self.users_of(span.level)
        if self._is_last or span.level.drains:
            if not self._is_drained(now):
                return 0
        elif now < span.end_s + self.lag_s:
            return self.users_of(span.level)
        if self._is_last:
            self.is_done = True
            return None
        span.held = self.evaluate(span)
        try:
            following = self.course.send(span.held)
        except StopIteration as end:
            self.found, self._is_last = end.value, True
            return self.tick()
        self._begin(following, now)
        return self.users_of(following)

    def close(self) -> None:
        """End the present level where the load was broken off."""
        if self.spans and not self._is_last:
            span = self.spans[-1]
            span.end_s = min(span.end_s, self.clock())

    def _begin(self, level: Level, now: float) -> None:
        """Begin a level. It is measured in whole seconds of the clock, because that is what is counted."""
        settled_s = float(math.ceil(now + self.settle_s))
        measured_s = max(1, round(level.seconds - self.settle_s))
        self.spans.append(Span(level, now, settled_s, settled_s + measured_s))

    def _is_drained(self, now: float) -> bool:
        waited_s = now - self.spans[-1].end_s
        if waited_s > min(self.patience_s, _DRAIN_LIMIT_S) + self.lag_s:
            return True
        return waited_s >= self.lag_s and self.in_flight() == 0
