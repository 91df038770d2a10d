"""Leads a load through its course: which level it is at, when a level is over, what it was worth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fer_loadtest.levels import Course, Level
from fer_loadtest.search import Found
from fer_loadtest.summary import Summary

REPORT_EVERY_S: Final = 1.0
"""How often workers tell the master what they have counted."""
_DRAIN_LIMIT_S: Final = 60.0


@dataclass
class Span:
    """When a level was measured, in seconds since 1970: between `settled_s` and `end_s`."""

    level: Level
    begin_s: float
    settled_s: float
    end_s: float
    held: bool | None = None
    """Whether it held the objective, where that was asked."""


@dataclass
class Conductor:
    """Says every second how many users there are to be.

    Attributes:
        course: The levels.
        settle_s: What does not count at the start of each.
        clock: Seconds since 1970.
        users_of: How many users a level takes.
        in_flight: Requests without an answer, in all processes.
        evaluate: Called when a level is over and all has been reported; returns whether it held.
        lag_s: How long the reports of what happened take to arrive.
        patience_s: How long an answer is waited for.
        spans: Levels so far, the present one among them.
        found: What a search has found, once it is over.
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
    _is_draining: bool = False
    _is_last: bool = False

    def tick(self) -> int | None:
        """How many users there are to be now; None when everything is over."""
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
        """Measure whole seconds of the clock, because that is what is counted."""
        settled_s = float(math.ceil(now + self.settle_s))
        measured_s = max(1, round(level.seconds - self.settle_s))
        self.spans.append(Span(level, now, settled_s, settled_s + measured_s))

    def _is_drained(self, now: float) -> bool:
        waited_s = now - self.spans[-1].end_s
        if waited_s > min(self.patience_s, _DRAIN_LIMIT_S) + self.lag_s:
            return True
        return waited_s >= self.lag_s and self.in_flight() == 0


def holds_objective(summary: Summary, p99_ms: float, max_error_percent: float, rate: float) -> bool:
    """Whether a level held: p99, errors, and, for arrivals, that as many were answered as came."""
    p99 = summary.latency.percentile_ms(99)
    keeps_up = not rate or summary.good >= 0.95 * summary.sent
    return p99 is not None and p99 <= p99_ms and summary.error_percent <= max_error_percent and keeps_up
