"""The course of a load: levels, one after the other, fixed beforehand or found on the way."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, TypeAlias

from fer_loadtest.options import Options
from fer_loadtest.search import Found, search_rate

_STREAMS: Final = 100
"""Arrivals of a fixed course come from at most so many users, each a Poisson process; their sum is one too."""
_SEARCH_STREAMS: Final = 20
"""The same for the rate that a search begins with."""


@dataclass(frozen=True)
class Level:
    """A load that stays the same for a while.

    Attributes:
        name: For people.
        users: That wait for their answers; 0 for an open load.
        rate: Arrivals per second; 0 for a closed load.
        seconds: How long.
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
"""Yields levels, is sent whether each held the objective, returns what a search found."""


def course_of(options: Options) -> Course:
    """The levels that the options ask for."""
    loads = options.levels or options.rates
    if options.shape == "capacity":
        return _search(options)
    if options.shape == "spike":
        usual, high = loads
        return _fixed(
            [
                _level(options, "before", usual),
                _level(options, "spike", high, counts=False),
                _level(options, "after", usual),
            ]
        )
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
    longest_s = max(options.level_s - options.settle_s, _LONGEST_S)
    smallest = _ENOUGH / longest_s
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


_NEEDED: Final = 200
"""Requests in a trial, where the rate is low: p99 means little on fewer."""
_LONGEST_S: Final = 60.0
_ENOUGH: Final = 150
"""Fewer cannot be asked for: p99 takes 100 answers, and arrivals are random."""


def stream_rate(options: Options) -> float:
    """Arrivals per second of one user of an open load; 0 for a closed one. All processes work it out alike."""
    if not options.rates:
        return 0.0
    return options.rates[0] / _SEARCH_STREAMS if options.shape == "capacity" else max(options.rates) / _STREAMS


def users_of(level: Level, options: Options) -> int:
    """How many of Locust's users make a level's load."""
    return level.users or max(1, math.floor(level.rate / stream_rate(options) + 0.5))
