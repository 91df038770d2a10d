"""What is simulated: a day with each way of scaling, and a rollout. Called by `fer_sizing.simulate`."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from fer_sizing.arrivals import Day, count_arrivals
from fer_sizing.capacity import Capacity
from fer_sizing.cluster import Assumptions, Cluster, Series, Service
from fer_sizing.helm import CHART, render
from fer_sizing.rendered import Manifests, find_one, read_objective_s, read_pod, read_queue_limits, read_scaling

HPA_VALUES: Final = CHART / "ci" / "hpa-values.yaml"
QUEUE_ONLY_VALUES: Final = CHART / "ci" / "hpa-queue-only-values.yaml"

UTILIZATION_METRIC: Final = "fer_preprocess_busy_instances"

SLOW_NODES: Final = Assumptions(start_s=(180.0, 300.0))
"""A node has to be ordered for each new pod."""

ROLLOUT_S: Final = 1200
ROLLOUT_AT_S: Final = 120
ROLLOUT_REPLICAS: Final = 8
ROLLOUT_LOAD: Final = 0.6
"""Of the servers' capacity, while they are replaced."""


PEAK_SERVERS: Final = 4
"""At 14:00 of the simulated day, so that scaling has something to do whatever a core can."""


@dataclass(frozen=True)
class Outcome:
    """What a run comes to."""

    name: str
    images: int
    late: int
    shed: int
    refused: int
    pod_hours: float
    most_pods: int
    series: Series

    def summary(self) -> dict[str, Any]:
        """All but the series."""
        figures = {name: value for name, value in asdict(self).items() if name != "series"}
        lost = self.shed + self.refused
        return figures | {"lost_share": lost / self.images, "late_share": self.late / self.images}


def read_service(manifests: Manifests, capacity: Capacity, *, is_scaled: bool = True) -> Service:
    """A service as the rendered chart describes it."""
    return Service(
        pod=read_pod(manifests),
        limits=read_queue_limits(),
        work_s=1 / capacity.images_per_core_s,
        objective_s=read_objective_s(manifests),
        scaling=read_scaling(manifests) if is_scaled else None,
    )


def target_utilization(manifests: Manifests) -> float:
    """The part of its instances that the chart wants to be busy, 0..1."""
    return read_scaling(manifests).targets[UTILIZATION_METRIC] / read_pod(manifests).instances


def choose_peak(manifests: Manifests, capacity: Capacity) -> float:
    """Images per second that make PEAK_SERVERS servers as busy as the chart wants them, in two figures."""
    rate = PEAK_SERVERS * read_pod(manifests).cores * capacity.images_per_core_s * target_utilization(manifests)
    return float(f"{rate:.1e}")


def count_replicas(rate_per_s: float, cores: int, capacity: Capacity, utilization: float) -> int:
    """The replicas that a steady rate needs, with one more so that one may fail; two at least."""
    return max(2, math.ceil(rate_per_s / (cores * capacity.images_per_core_s * utilization)) + 1)


def run_day(name: str, service: Service, day: Day, replicas: int, seed: int, seconds: int = 86400) -> Outcome:
    """A day from midnight on, or its first part."""
    counts = count_arrivals(day.rate(np.arange(seconds)), np.random.default_rng(seed)).tolist()
    series = Cluster(service, replicas, seed).run(counts.__getitem__, seconds)
    return _sum_up(name, series)


def run_rollout(name: str, service: Service, replicas: int, seed: int) -> Outcome:
    """A new version under a steady load."""
    rate = ROLLOUT_LOAD * replicas * service.pod.cores / service.work_s
    counts = count_arrivals(np.full(ROLLOUT_S, rate), np.random.default_rng(seed)).tolist()
    series = Cluster(replace(service, scaling=None), replicas, seed).run(counts.__getitem__, ROLLOUT_S, ROLLOUT_AT_S)
    return _sum_up(name, series)


def _sum_up(name: str, series: Series) -> Outcome:
    return Outcome(
        name=name,
        images=int(series.offered.sum()),
        late=int(series.late.sum()),
        shed=int(series.shed.sum()),
        refused=int(series.refused.sum()),
        pod_hours=float(series.pods.sum() / 3600),
        most_pods=int(series.pods.max()),
        series=series,
    )


def run_all(
    helm: Path, capacity: Capacity, day: Day, seed: int, seconds: int = 86400
) -> tuple[list[Outcome], list[Outcome]]:
    """Every scenario: days, and rollouts.

    Raises:
        SizingError: helm doesn't render the chart, or its manifests aren't understood.
    """
    rules = ["metrics.prometheusRule.enabled=true"]
    chart = render(helm, [HPA_VALUES], settings=rules)
    queue_only = render(helm, [HPA_VALUES, QUEUE_ONLY_VALUES], settings=rules)
    service, by_queues = read_service(chart, capacity), read_service(queue_only, capacity)
    utilization, cores = target_utilization(chart), service.pod.cores
    night = count_replicas(float(day.rate(0)), cores, capacity, utilization)
    peak = count_replicas(day.peak_per_s, cores, capacity, utilization)
    spike = count_replicas(float(day.rate(np.arange(86400)).max()), cores, capacity, utilization)
    days: Sequence[tuple[str, Service, int]] = [
        ("the chart's HPA", service, night),
        ("the chart's HPA, each new pod waits for a new node", replace(service, assumptions=SLOW_NODES), night),
        ("queues alone (busyFraction: 0)", by_queues, night),
        (f"{peak} replicas, enough for 14:00", replace(service, scaling=None), peak),
        (f"{spike} replicas, enough for the spike", replace(service, scaling=None), spike),
    ]
    hasty = replace(service, pod=replace(service.pod, pre_stop_s=0))
    rollouts = [
        run_rollout(f"the chart's pause of {service.pod.pre_stop_s} s", service, ROLLOUT_REPLICAS, seed),
        run_rollout("without a pause", hasty, ROLLOUT_REPLICAS, seed),
    ]
    return [run_day(name, one, day, replicas, seed, seconds) for name, one, replicas in days], rollouts


def describe_chart(manifests: Manifests) -> str:
    """For people: whose thresholds these are."""
    labels = find_one(manifests, "Deployment")["metadata"]["labels"]
    return str(labels["helm.sh/chart"])
