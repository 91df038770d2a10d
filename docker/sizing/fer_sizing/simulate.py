"""A day with each way of scaling, and a rollout, simulated with the chart's own thresholds, and drawn.

helm renders the chart; thresholds, limits, pauses and the latency objective are read from the result. The capacity of a
server is measured (`fer_sizing.measure`). What is left is assumed: `fer_sizing.cluster.Assumptions` and `Day`.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from fer_commands.exit_codes import ExitCode
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_sizing.capacity import MEASURED, Capacity, read_capacity
from fer_sizing.chart import (
    CHART,
    Manifests,
    find_helm,
    find_one,
    read_objective_s,
    read_pod,
    read_queue_limits,
    read_scaling,
    render,
)
from fer_sizing.cluster import Assumptions, Cluster, Day, Series, Service, count_arrivals
from fer_sizing.table import SIMULATION, read_simulation, update_page

PAGE: Final = SIMULATION.parents[1] / "SIZING.md"

HPA_VALUES: Final = CHART / "ci" / "hpa-values.yaml"
QUEUE_ONLY_VALUES: Final = CHART / "ci" / "hpa-queue-only-values.yaml"

UTILIZATION_METRIC: Final = "fer_preprocess_busy_instances"

SLOW_NODES: Final = Assumptions(start_s=(180.0, 300.0))
"""Assumptions where a node has to be ordered for each new pod."""

ROLLOUT_S: Final = 1200
ROLLOUT_AT_S: Final = 120
ROLLOUT_REPLICAS: Final = 8
ROLLOUT_LOAD: Final = 0.6
"""Share of the servers' capacity that is asked for while they are replaced."""

PEAK_SERVERS: Final = 4
"""Servers that 14:00 of the simulated day fills, so that scaling has something to do whatever a core can."""


@dataclass(frozen=True)
class Outcome:
    """What a run of the simulation comes to."""

    name: str
    images: int
    late: int
    shed: int
    refused: int
    pod_hours: float
    most_pods: int
    series: Series

    def summary(self) -> dict[str, Any]:
        """Return all but the series, and the shares that they come to."""
        figures = {name: value for name, value in asdict(self).items() if name != "series"}
        lost = self.shed + self.refused
        return figures | {"lost_share": lost / self.images, "late_share": self.late / self.images}


def read_service(manifests: Manifests, capacity: Capacity, *, is_scaled: bool = True) -> Service:
    """Return the service that a rendered chart describes."""
    return Service(
        pod=read_pod(manifests),
        limits=read_queue_limits(),
        work_s=1 / capacity.images_per_core_s,
        objective_s=read_objective_s(manifests),
        scaling=read_scaling(manifests) if is_scaled else None,
    )


def target_utilization(manifests: Manifests) -> float:
    """Return the share of its instances that the chart wants to be busy, 0..1."""
    return read_scaling(manifests).targets[UTILIZATION_METRIC] / read_pod(manifests).instances


def choose_peak(manifests: Manifests, capacity: Capacity) -> float:
    """Return the images per second that make PEAK_SERVERS servers as busy as the chart wants them, to two digits."""
    rate = PEAK_SERVERS * read_pod(manifests).cores * capacity.images_per_core_s * target_utilization(manifests)
    return float(f"{rate:.1e}")


def count_replicas(rate_per_s: float, cores: int, capacity: Capacity, utilization: float) -> int:
    """Return the replicas that a steady rate needs, and one more so that one may fail; two at least."""
    return max(2, math.ceil(rate_per_s / (cores * capacity.images_per_core_s * utilization)) + 1)


def run_day(name: str, service: Service, day: Day, replicas: int, seed: int, seconds: int = 86400) -> Outcome:
    """Simulate a day from midnight on, or its first part."""
    counts = count_arrivals(day.rate(np.arange(seconds)), np.random.default_rng(seed)).tolist()
    series = Cluster(service, replicas, seed).run(counts.__getitem__, seconds)
    return _sum_up(name, series)


def run_rollout(name: str, service: Service, replicas: int, seed: int) -> Outcome:
    """Simulate a new version under a steady load."""
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
    """Simulate every scenario.

    Returns:
        The days, the chart's first, and the rollouts, the chart's first.

    Raises:
        SizingError: helm does not render the chart, or its manifests are not understood.
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
    """Return the chart's name and version."""
    labels = find_one(manifests, "Deployment")["metadata"]["labels"]
    return str(labels["helm.sh/chart"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand. Return its exit code."""
    parser = subcommand_parser(
        "python -m fer_sizing simulate",
        description="Simulate a day and a rollout with the chart's own thresholds.",
        exit_codes=(ExitCode.OK, ExitCode.FAILED, ExitCode.USAGE, ExitCode.INTERRUPTED),
    )
    out = parser.add_mutually_exclusive_group()
    out.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="for simulation.json and simulation.png")
    out.add_argument("--publish", action="store_true", help="replace this repository's, and the figures in SIZING.md")
    parser.add_argument("--capacity", type=Path, default=MEASURED, metavar="FILE", help="default: the measured one")
    parser.add_argument(
        "--peak", type=float, metavar="N", help=f"images/s at 14:00; default: what fills {PEAK_SERVERS} servers"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)d")
    parser.add_argument("--hours", type=float, default=24.0, metavar="H", help="of the day; default: %(default)g")
    options = parser.parse_args(arguments)
    return run_command(parser.prog, lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    from fer_sizing.plot import plot  # matplotlib takes a second to import

    capacity, out = read_capacity(options.capacity), SIMULATION.parent if options.publish else options.out
    with tempfile.TemporaryDirectory(prefix="fer-sizing-") as folder:
        helm = find_helm(Path(folder))
        chart = render(helm, [HPA_VALUES])
        day = Day(options.peak or choose_peak(chart, capacity))
        days, rollouts = run_all(helm, capacity, day, options.seed, round(3600 * options.hours))
    cores = read_pod(chart).cores
    document = {
        "chart": describe_chart(chart),
        "seed": options.seed,
        "cores": cores,
        "utilization": target_utilization(chart),
        "pod": asdict(read_pod(chart)),
        "scaling": asdict(read_scaling(chart)),
        "capacity": asdict(capacity),
        "day": asdict(day),
        "assumptions": asdict(Assumptions()),
        "days": [outcome.summary() for outcome in days],
        "rollouts": [outcome.summary() for outcome in rollouts],
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / SIMULATION.name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    plot(days, rollouts, cores * capacity.images_per_core_s, day, out / "simulation.png")
    if options.publish:
        update_page(PAGE, read_simulation(out / SIMULATION.name))
    for outcome in (*days, *rollouts):
        lost = outcome.shed + outcome.refused
        print(
            f"{outcome.name}: {outcome.images} images, {lost} lost, {outcome.late} late, {outcome.pod_hours:.0f} pod "
            f"hours, {outcome.most_pods} pods at most"
        )
