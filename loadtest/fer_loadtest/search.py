"""The search for the highest rate that holds an objective: doubling, bisection, then the same rate again."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

_LARGEST: Final = 100_000.0
_STEPS_BACK: Final = 6
"""How often a rate that does not stand up to being tried again is lowered, before the search gives up."""


@dataclass(frozen=True)
class Trial:
    """A rate to be tried, and why."""

    rate: float
    purpose: str


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes:
        rate: The highest rate that held, again and again; None if none did.
        fails_at: The lowest rate above it that did not hold; None if none was met.
        held: How often `rate` held when it was tried again.
        tried: How often it was.
    """

    rate: float | None
    fails_at: float | None
    held: int = 0
    tried: int = 0

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain values for JSON."""
        return {"rate": self.rate, "fails_at": self.fails_at, "held": self.held, "tried": self.tried}


def search_rate(
    start: float, tolerance: float, confirmations: int, smallest: float = 0.1
) -> Generator[Trial, bool, Found]:
    """Find it. Yields rates to try, is sent whether each held.

    One trial is one sample of a noisy thing: what bisection ends with was lucky as often as not. So the rate found is
    tried again, and lowered until it holds in most of the trials.

    Args:
        start: Rate of the first trial.
        tolerance: How far apart the highest rate that holds and the lowest that does not may stay, relative to the
            former.
        confirmations: How often a rate is tried again.
        smallest: Rate below which a trial has too few answers to say anything; the search ends there.
    """
    low, high = yield from _enclose(start, smallest)
    while low is not None and high is not None and high - low > tolerance * low:
        rate = (low + high) / 2
        if (yield Trial(rate, "try")):
            low = rate
        else:
            high = rate
    for _ in range(_STEPS_BACK):
        if low is None:
            break
        held = 0
        for _ in range(confirmations):
            held += yield Trial(low, "confirm")
        if held * 2 > confirmations:
            return Found(low, high, held, confirmations)
        low, high = low / (1 + max(tolerance, 0.05)), low
    return Found(None, high)


def _enclose(start: float, smallest: float) -> Generator[Trial, bool, tuple[float | None, float | None]]:
    """A rate that holds and one that does not, a factor of two apart; None where there is none within reason."""
    low, high, rate = None, None, max(start, smallest)
    while smallest <= rate <= _LARGEST and (low is None or high is None):
        if (yield Trial(rate, "try")):
            low, rate = rate, rate * 2
        else:
            high, rate = rate, rate / 2
    return low, high
