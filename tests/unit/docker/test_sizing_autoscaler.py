"""The simulated HorizontalPodAutoscaler decides as Kubernetes' does."""

import pytest

from fer_sizing.autoscaler import Autoscaler, propose
from fer_sizing.chart import Policy, Scaling

METRIC = "fer_preprocess_busy_instances"


def scaler(up=(0, 100, 4, 15), down=(300, 10, 1, 60), most=40):
    return Autoscaler(Scaling(2, most, {METRIC: 1.0}, Policy(*up), Policy(*down)))


@pytest.mark.parametrize(
    ("values", "missing", "expected"),
    [
        ([1.0, 1.0], 0, 2),
        ([1.09, 1.09], 0, 2),  # within the tolerance of a tenth
        ([1.2, 1.2], 0, 3),
        ([3.0, 3.0], 0, 6),
        ([0.4, 0.4, 0.4, 0.4], 0, 2),
        ([3.0, 3.0], 2, 6),  # the missing count as idle: 6 of 4 pods are needed
        ([1.3, 1.3], 2, 4),  # they would turn it around: nothing changes
        ([0.1, 0.1], 2, 3),  # the missing count as just right: 2.2 of 4
        ([], 4, 4),
    ],
)
def test_one_metric(values, missing, expected):
    assert propose(len(values) + missing, values, 1.0, missing) == expected


def test_the_metric_that_asks_for_most_decides():
    scaling = Scaling(2, 40, {"a": 1.0, "b": 10.0}, Policy(0, 100, 4, 15), Policy(0, 100, 100, 15))
    assert Autoscaler(scaling).decide(0, 4, {"a": [1.0] * 4, "b": [15.0] * 4}, 0) == 6


def test_it_stays_within_its_bounds():
    assert scaler(most=5).decide(0, 4, {METRIC: [3.0] * 4}, 0) == 5
    assert scaler(down=(0, 100, 100, 15)).decide(0, 4, {METRIC: [0.0] * 4}, 0) == 2


def test_it_goes_up_no_faster_than_allowed():
    one = scaler(up=(0, 100, 4, 60))
    assert one.decide(0, 10, {METRIC: [9.0] * 10}, 0) == 20
    assert one.decide(15, 20, {METRIC: [9.0] * 20}, 0) == 20  # it has doubled in this minute
    assert one.decide(75, 20, {METRIC: [9.0] * 20}, 0) == 40


def test_a_small_number_may_grow_by_pods_rather_than_percent():
    assert scaler().decide(0, 2, {METRIC: [9.0] * 2}, 0) == 6


def test_it_goes_down_only_after_a_quiet_time_and_slowly():
    one = scaler()
    assert one.decide(0, 10, {METRIC: [1.0] * 10}, 0) == 10
    for now_s in range(15, 301, 15):
        assert one.decide(now_s, 10, {METRIC: [0.2] * 10}, 0) == 10
    assert one.decide(315, 10, {METRIC: [0.2] * 10}, 0) == 9  # a tenth, or one
    assert one.decide(330, 9, {METRIC: [0.2] * 9}, 0) == 9
    assert one.decide(390, 9, {METRIC: [0.2] * 9}, 0) == 8
