"""Histograms of latencies, so that those of many seconds, kinds and processes can be added up.

Percentiles of parts cannot be averaged, but counts can be added. A bucket is 2 % wide, so a percentile is never too low
and at most 2 % too high.
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
    """Counts of latencies in each bucket; only those that are filled take memory."""

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        """Begin empty, or with the counts that `to_dict` returned."""
        self.counts: dict[int, int] = dict(counts or {})

    @classmethod
    def sum_of(cls, parts: Iterable[Histogram]) -> Histogram:
        """Return the sum of several histograms."""
        total = cls()
        for part in parts:
            total.merge(part)
        return total

    def add(self, latency_ms: float) -> None:
        """Count a latency."""
        bucket = 0 if latency_ms <= _SMALLEST_MS else math.ceil(math.log(latency_ms / _SMALLEST_MS) / _WIDTH)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1

    def merge(self, other: Histogram) -> None:
        """Add the counts of another histogram."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count

    def __len__(self) -> int:
        return sum(self.counts.values())

    def percentile_ms(self, percent: float, *, is_lenient: bool = False) -> float | None:
        """Return the latency that so many percent do not exceed (nearest rank).

        Args:
            percent: Percentile, 0..100.
            is_lenient: Whether too few latencies have a percentile too. It may be the highest of them then.

        Returns:
            The percentile, in ms; None where there are too few latencies.
        """
        count = len(self)
        if count < (1 if is_lenient else needed(percent)):
            return None
        rank, seen = math.ceil(round(percent / 100 * count, 9)), 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return _edge_ms(bucket)
        return None

    def mean_ms(self) -> float | None:
        """Return the mean of the upper edges of the buckets; None where the histogram is empty."""
        count = len(self)
        return sum(_edge_ms(bucket) * n for bucket, n in self.counts.items()) / count if count else None

    def to_dict(self) -> dict[int, int]:
        """Return the count of each bucket, as plain values."""
        return dict(self.counts)


def needed(percent: float) -> int:
    """Return how many latencies a percentile takes to mean anything: at least one has to lie beyond it."""
    return math.ceil(round(100 / (100 - percent), 6))


def interval_ms(seconds: Sequence[Histogram], percent: float, seed: int = 0) -> tuple[float, float] | None:
    """Return the 95 % interval of a percentile, by a bootstrap over whole seconds.

    Latencies within a second depend on each other through the same queue, so seconds are drawn and not latencies.

    Args:
        seconds: Latencies of each second.
        percent: Percentile, 0..100.
        seed: Seed of the random choice.

    Returns:
        Lower and upper bound, in ms; None for fewer than five seconds, or too few latencies for the percentile.

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
    """Return the largest latency that falls into a bucket, in ms."""
    return _SMALLEST_MS * math.exp(bucket * _WIDTH)
