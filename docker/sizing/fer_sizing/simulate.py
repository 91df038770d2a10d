"""Simulates a day and a rollout with the chart's own thresholds, and draws them.

    python -m fer_sizing.simulate --publish       # docker/sizing/simulation.json and .png, and SIZING.md's figures
    python -m fer_sizing.simulate --capacity capacity.toml --peak 300 --out results

helm renders the chart; thresholds, limits, pauses and the latency objective are read from the result. The capacity of a
server is measured (`fer_sizing.measure`). What is left is assumed: `fer_sizing.cluster.Assumptions`,
`fer_sizing.arrivals.Day`.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from fer_sizing.arrivals import Day
from fer_sizing.capacity import MEASURED, read_capacity
from fer_sizing.cluster import Assumptions
from fer_sizing.errors import SizingError
from fer_sizing.helm import find_helm, render
from fer_sizing.rendered import read_pod, read_scaling
from fer_sizing.scenarios import HPA_VALUES, PEAK_SERVERS, choose_peak, describe_chart, run_all, target_utilization
from fer_sizing.table import SIMULATION, read_simulation, update_page

PAGE: Final = SIMULATION.parents[1] / "SIZING.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_sizing.simulate",
        description="Simulate a day and a rollout with the chart's own thresholds.",
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
    try:
        _run(options)
    except (SizingError, OSError) as error:
        print(f"fer_sizing.simulate: {error}", file=sys.stderr)
        return 1
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
