"""The tables of SIZING.md: what a simulated day came to, and how many servers a rate needs.

    python -m fer_sizing.table            # of docker/sizing/simulation.json

A test compares the page with what this prints.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from fer_sizing.capacity import Capacity
from fer_sizing.errors import SizingError

SIMULATION: Final = Path(__file__).resolve().parents[1] / "simulation.json"

RATES: Final = (10, 1_000, 100_000)
"""Images per second."""

SERVER_CORES: Final = 16
"""Of the servers in the table; a node runs one or several."""

GPU_FACES_PER_S: Final = (10_000, 100_000)
"""Faces per second that one GPU classifies: an assumption, as nothing was measured, its ends a factor of ten apart.
Whoever has the GPU measures it with the load test and puts the figure into the formula."""


def read_simulation(file: Path = SIMULATION) -> dict[str, Any]:
    """What `fer_sizing.simulate` wrote.

    Raises:
        SizingError: it isn't there, or not whole.
    """
    try:
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        Capacity(**document["capacity"])
        return document
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SizingError(f"{file} is no simulation ({error}): python -m fer_sizing.simulate --out DIR") from None


def format_days(simulation: dict[str, Any]) -> str:
    """The days, in Markdown."""
    rows = [
        "| scaled by | images | not answered | later than the objective | pod hours | most pods |",
        "|---|---|---|---|---|---|",
    ]
    for day in simulation["days"]:
        lost = day["shed"] + day["refused"]
        rows.append(
            f"| {day['name']} | {day['images']:,} | {lost:,} ({day['lost_share']:.2%}) | {day['late']:,} "
            f"({day['late_share']:.2%}) | {day['pod_hours']:.0f} | {day['most_pods']} |"
        )
    return "\n".join(rows)


def format_rollouts(simulation: dict[str, Any]) -> str:
    """The rollouts, in Markdown."""
    rows = [
        "| | images | sent to a closed port | refused by a full queue | later than the objective |",
        "|---|---|---|---|---|",
    ]
    rows += [
        f"| {rollout['name']} | {rollout['images']:,} | {rollout['refused']:,} | {rollout['shed']:,} "
        f"| {rollout['late']:,} |"
        for rollout in simulation["rollouts"]
    ]
    return "\n".join(rows)


def format_sizes(simulation: dict[str, Any]) -> str:
    """Servers and GPUs by rate, in Markdown."""
    capacity, busy = Capacity(**simulation["capacity"]), simulation["utilization"]
    low, high = GPU_FACES_PER_S
    rows = [
        f"| images/s | Gbit/s in | CPU only: cores | servers of {SERVER_CORES} cores | beside GPUs: cores "
        f"| GPUs, if one classifies {low:,} to {high:,} faces/s (assumed) |",
        "|---|---|---|---|---|---|",
    ]
    for rate in RATES:
        cores = rate / capacity.images_per_core_s / busy
        beside = rate / capacity.images_per_core_s_beside_gpu / busy
        most, least = (count_gpus(rate, capacity.faces_per_image, faces_per_s, busy) for faces_per_s in (low, high))
        gpus = f"{most}" if most == least else f"{least} to {most}"
        servers = math.ceil(cores / SERVER_CORES) + 1
        rows.append(
            f"| {rate:,} | {8 * rate * capacity.image_bytes / 1e9:.2g} | {math.ceil(cores):,} | {max(2, servers):,} | "
            f"{math.ceil(beside):,} | {gpus} |"
        )
    return "\n".join(rows)


def count_gpus(images_per_s: float, faces_per_image: float, faces_per_gpu_s: float, utilization: float) -> int:
    """GPUs that classify the faces of so many images, with one more so that one may fail."""
    return math.ceil(images_per_s * faces_per_image / (faces_per_gpu_s * utilization)) + 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m fer_sizing.table", description="Print the tables of SIZING.md.")
    parser.add_argument(
        "simulation", type=Path, nargs="?", default=SIMULATION, help="default: the one in the repository"
    )
    options = parser.parse_args(arguments)
    try:
        simulation = read_simulation(options.simulation)
    except SizingError as error:
        print(f"fer_sizing.table: {error}", file=sys.stderr)
        return 1
    print(format_sizes(simulation), format_days(simulation), format_rollouts(simulation), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
