"""The simulated servers, rollouts and scaling, where the right answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from fer_sizing.chart import Pod, Policy, QueueLimits, Scaling
from fer_sizing.cluster import NEVER, Assumptions, Cluster, Day, Server, Service, count_arrivals

LIMITS = QueueLimits(requests=3, wait_s=10.0)
POD = Pod(cores=2, pre_stop_s=15, grace_s=45, min_ready_s=10, max_surge=1, max_unavailable=0)
SERVICE = Service(pod=POD, limits=QueueLimits(32, 10.0), work_s=0.04, objective_s=0.5)
"""Two cores of 25 images/s each, and an instance on each."""

SCALING = Scaling(
    min_replicas=2,
    max_replicas=20,
    targets={"fer_preprocess_busy_instances": 1.4, "fer_preprocess_pending_requests": 8.0},
    up=Policy(0, 100, 4, 60),
    down=Policy(300, 10, 1, 60),
)


def server(**changes):
    return Server(instances=2, limits=LIMITS, created_s=0.0, ready_s=0.0, routed_s=0.0, scrape_phase_s=0.0, **changes)


def steady(rate, seed=0):
    generator = np.random.default_rng(seed)
    return lambda second: int(generator.poisson(rate))


def test_requests_wait_for_the_first_free_instance():
    one = server()
    assert [one.offer(0.0, 1.0), one.offer(0.0, 2.0)] == [1.0, 2.0]
    assert one.offer(0.0, 1.0) == 2.0  # after the first
    assert one.offer(0.5, 1.0) == 2.5  # after the second


def test_a_full_queue_refuses_and_takes_again_when_there_is_room():
    one = server()
    for _ in range(2 + LIMITS.requests):
        assert one.offer(0.0, 1.0) is not None
    assert one.offer(0.0, 1.0) is None
    assert one.offer(1.1, 1.0) is not None


def test_a_request_that_would_wait_too_long_is_refused():
    one = server()
    one.offer(0.0, 11.0)
    one.offer(0.0, 11.0)
    assert one.offer(0.0, 1.0) is None


def test_an_ending_server_answers_until_its_port_closes_and_then_finishes():
    one = server(sigterm_s=15.0, killed_s=45.0)
    assert one.offer(14.9, 1.0) == 1.0
    assert one.offer(15.0, 1.0) is None
    assert one.gone_s() == pytest.approx(15.9)
    assert server().gone_s() == NEVER


def test_the_metrics_are_those_of_the_last_minute():
    one = server()
    for second in range(0, 121):
        if second % 15 == 0:
            one.scrape(second)
        for _ in range(3):
            one.offer(second, 0.5)
    metrics = one.metrics(120)
    assert metrics["fer_preprocess_busy_instances"] == pytest.approx(1.5)
    assert metrics["fer_preprocess_queue_milliseconds"] == pytest.approx(1000 * 0.5 / 3)  # two start at once, one waits
    assert one.metrics(500) is None


def test_light_load_loses_nothing():
    series = Cluster(SERVICE, 4, seed=0).run(steady(60), 300)
    assert series.offered.sum() > 15000
    assert series.lost.sum() == 0
    assert series.late.sum() == 0
    assert set(series.serving[15:]) == {4}


def test_overload_answers_what_the_servers_can_do_and_refuses_the_rest():
    series = Cluster(SERVICE, 2, seed=0).run(steady(200), 300)
    answered = series.offered[60:].sum() - series.lost[60:].sum()
    assert answered / 240 == pytest.approx(100, rel=0.02)  # 2 servers of 2 cores of 25 images/s
    assert series.refused.sum() == 0


def test_a_rollout_with_a_pause_loses_nothing_and_replaces_everybody():
    cluster = Cluster(SERVICE, 4, seed=0)
    series = cluster.run(steady(120), 900, rollout_at_s=60)
    assert series.lost.sum() == 0
    assert [one.generation for one in cluster.servers] == [1] * 4
    assert series.serving[15:].min() >= 4
    assert series.pods.max() <= 4 + 1 + 1  # one that starts, one that ends


def test_a_rollout_without_a_pause_sends_requests_to_closed_ports():
    hasty = replace(SERVICE, pod=replace(POD, pre_stop_s=0))
    assert Cluster(hasty, 4, seed=0).run(steady(120), 900, rollout_at_s=60).refused.sum() > 0


def test_a_pause_that_is_shorter_than_the_news_takes_is_not_enough():
    slow_news = replace(SERVICE, assumptions=Assumptions(propagation_s=(20.0, 30.0)))
    assert Cluster(slow_news, 4, seed=0).run(steady(120), 900, rollout_at_s=60).refused.sum() > 0


def test_it_scales_to_what_the_load_needs_and_back():
    cluster = Cluster(replace(SERVICE, scaling=SCALING), 2, seed=0)
    cluster.run(steady(280), 1200)
    assert 8 <= cluster.replicas <= 11  # 280 / (50 x 0.7) = 8
    cluster = Cluster(replace(SERVICE, scaling=SCALING), 8, seed=0)
    cluster.run(steady(35), 1800)
    assert cluster.replicas == 2


def test_new_servers_get_requests_only_when_they_are_ready_and_known():
    cluster = Cluster(replace(SERVICE, scaling=SCALING), 2, seed=0)
    series = cluster.run(steady(280), 120)
    ordered = int(np.argmax(series.pods > 2))
    served = int(np.argmax(series.serving > 2))
    assert 30 <= served - ordered <= 71


def test_the_same_seed_gives_the_same_day():
    day = Day(60.0)
    runs = []
    for _ in range(2):
        counts = count_arrivals(day.rate(np.arange(300)), np.random.default_rng(1)).tolist()
        runs.append(Cluster(replace(SERVICE, scaling=SCALING), 2, seed=1).run(counts.__getitem__, 300))
    assert all(np.array_equal(a, b) for a, b in zip(vars(runs[0]).values(), vars(runs[1]).values(), strict=True))


def test_a_day_has_its_night_its_peak_and_its_spike():
    day = Day(100.0)
    assert day.rate(2 * 3600) == pytest.approx(15.0)
    assert day.rate(14 * 3600) == pytest.approx(100.0)
    before, during = day.rate(3600 * day.spike_at_h - 1), day.rate(3600 * day.spike_at_h + 300)
    assert during / before == pytest.approx(day.spike_factor, rel=0.05)
    assert day.rate(3600 * day.spike_at_h + 1200) < before * 1.01
