"""Latencies counted in narrow buckets, so that those of many seconds, kinds and processes can be added up.

Percentiles of parts cannot be averaged; counts can be added. A bucket is 2 % wide: that much a percentile is too high
at most, never too low.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

_SMALLEST_MS: Final = 0.01
_WIDTH: Final = math.log(1.02)
_RESAMPLES: Final = 400


class Histogram:
    """How many latencies fell into each bucket."""

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        """Begin empty, or with the counts of `to_dict`."""
        self.counts: dict[int, int] = dict(counts or {})

    @classmethod
    def sum_of(cls, parts: Iterable[Histogram]) -> Histogram:
        """All latencies of several."""
        total = cls()
        for part in parts:
            total.merge(part)
        return total

    def add(self, latency_ms: float) -> None:
        """Count one."""
        bucket = 0 if latency_ms <= _SMALLEST_MS else math.ceil(math.log(latency_ms / _SMALLEST_MS) / _WIDTH)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1

    def merge(self, other: Histogram) -> None:
        """Count all of another one too."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count

    def __len__(self) -> int:
        return sum(self.counts.values())

    def percentile_ms(self, percent: float) -> float | None:
        """The latency that so many percent do not exceed (nearest rank); None where there are too few to say."""
        count = len(self)
        if count < needed(percent):
            return None
        rank, seen = math.ceil(round(percent / 100 * count, 9)), 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return _edge_ms(bucket)
        return None

    def mean_ms(self) -> float | None:
        """The mean, by the upper edges of the buckets; None where there is nothing."""
        count = len(self)
        return sum(_edge_ms(bucket) * n for bucket, n in self.counts.items()) / count if count else None

    def share_above(self, limit_ms: float) -> float:
        """The share of latencies above a limit, 0..1."""
        count = len(self)
        above = sum(n for bucket, n in self.counts.items() if _edge_ms(bucket) > limit_ms * (1 + 1e-9))
        return above / count if count else 0.0

    def to_dict(self) -> dict[int, int]:
        """Plain values: bucket to count."""
        return dict(self.counts)


def needed(percent: float) -> int:
    """How many latencies it takes to say anything about a percentile: one at least has to be beyond it."""
    return math.ceil(round(100 / (100 - percent), 6))


def interval_ms(seconds: Sequence[Histogram], percent: float, seed: int = 0) -> tuple[float, float] | None:
    """Where the percentile would lie if the test were repeated: the 95 % interval of a bootstrap over whole seconds.

    Latencies within a second depend on each other, through the same queue, so seconds are drawn and not latencies.

    Args:
        seconds: The latencies of each second.
        percent: Which percentile.
        seed: Of the random choice.

    Returns:
        Lower and upper bound in ms; None for fewer than five seconds, or too few latencies for the percentile.

    Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, 8.6 (blocks) and 13.3 (percentiles).
    """
    filled = [second for second in seconds if second.counts]
    if len(filled) < 5 or sum(map(len, filled)) < needed(percent):
        return None
    buckets = sorted({bucket for second in filled for bucket in second.counts})
    counts = np.array([[second.counts.get(bucket, 0) for bucket in buckets] for second in filled])  # (seconds, buckets)
    draws = np.random.default_rng(seed).multinomial(len(filled), [1 / len(filled)] * len(filled), _RESAMPLES)
    cumulative = np.cumsum(draws @ counts, axis=1)  # (resamples, buckets)
    ranks = np.ceil(percent / 100 * cumulative[:, -1:])
    found = np.argmax(cumulative >= ranks, axis=1)
    low, high = np.percentile(found, [2.5, 97.5], method="nearest").astype(int)
    return _edge_ms(buckets[low]), _edge_ms(buckets[high])


def _edge_ms(bucket: int) -> float:
    """The largest latency that falls into a bucket."""
    return _SMALLEST_MS * math.exp(bucket * _WIDTH)
