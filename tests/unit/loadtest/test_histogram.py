"""Percentiles of bucketed latencies: near the true ones, never below them, and none where there is too little."""

import numpy as np
import pytest

from fer_loadtest.histogram import Histogram, interval_ms


def histogram_of(latencies_ms):
    histogram = Histogram()
    for latency_ms in latencies_ms:
        histogram.add(latency_ms)
    return histogram


@pytest.mark.parametrize("percent", [50, 95, 99])
def test_a_percentile_is_at_most_two_percent_too_high(percent):
    latencies = np.random.default_rng(0).lognormal(3, 1, 5000)
    exact = np.percentile(latencies, percent, method="inverted_cdf")
    found = histogram_of(latencies).percentile_ms(percent)
    assert exact <= found <= 1.02 * exact * (1 + 1e-9)


def test_parts_add_up_to_the_whole():
    latencies = np.random.default_rng(0).lognormal(3, 1, 300)
    parts = [histogram_of(part) for part in np.split(latencies, 3)]
    assert Histogram.sum_of(parts).counts == histogram_of(latencies).counts
    assert Histogram(parts[0].to_dict()).counts == parts[0].counts


@pytest.mark.parametrize(("percent", "needed"), [(50, 2), (95, 20), (99, 100)])
def test_too_few_latencies_have_no_percentile(percent, needed):
    assert histogram_of([10.0] * (needed - 1)).percentile_ms(percent) is None
    assert histogram_of([10.0] * needed).percentile_ms(percent) == pytest.approx(10.0, rel=0.02)


def test_of_too_few_the_slowest_stands_for_it_where_that_is_asked():
    assert histogram_of([10.0, 20.0, 400.0]).percentile_ms(99, is_lenient=True) == pytest.approx(400, rel=0.02)
    assert histogram_of([10.0, 20.0, 400.0]).percentile_ms(50, is_lenient=True) == pytest.approx(20, rel=0.02)
    assert histogram_of([]).percentile_ms(50, is_lenient=True) is None


def test_the_interval_of_p99_has_the_true_one_nearly_always():
    rng = np.random.default_rng(1)
    true_p99 = float(np.exp(3 + 2.3263))
    hits = 0
    for seed in range(40):
        seconds = [histogram_of(rng.lognormal(3, 1, 50)) for _ in range(30)]
        low, high = interval_ms(seconds, 99, seed)
        hits += low <= true_p99 * 1.02 and true_p99 <= high
    assert hits >= 34


def test_slow_seconds_widen_the_interval_more_than_slow_requests():
    spread = [histogram_of([10.0] * 98 + [900.0] * 2) for _ in range(20)]
    lumped = [histogram_of([10.0] * 100) for _ in range(19)] + [histogram_of([10.0] * 60 + [900.0] * 40)]
    assert interval_ms(spread, 99)[0] > 800
    assert interval_ms(lumped, 99)[0] < 11
    assert interval_ms(lumped, 99)[1] > 800


def test_few_seconds_have_no_interval():
    assert interval_ms([histogram_of([10.0] * 200)] * 4, 99) is None
