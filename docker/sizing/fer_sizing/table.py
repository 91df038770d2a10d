"""The figures of SIZING.md: what an image costs, how many servers a rate needs, what a simulated day came to.

They stand between comments in the page; a test compares the page with this.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fer_commands.exit_codes import ExitCode
from fer_commands.parser import subcommand_parser
from fer_commands.running import run_command
from fer_sizing.capacity import Capacity
from fer_sizing.errors import SizingError

SIMULATION: Final = Path(__file__).resolve().parents[1] / "simulation.json"

RATES: Final = (10, 1_000, 100_000)
"""Images per second."""

SERVER_CORES: Final = 16
"""Cores of each server in the table; a node runs one or several."""

GPU_FACES_PER_S: Final = (10_000, 100_000)
"""Faces per second that one GPU classifies: an assumption, as nothing was measured, its ends a factor of ten apart.
Whoever has the GPU measures it with the load test and puts the figure into the formula."""


def read_simulation(file: Path = SIMULATION) -> dict[str, Any]:
    """Read what `fer_sizing.simulate` wrote.

    Raises:
        SizingError: It is not there, or not whole.
    """
    try:
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        Capacity(**document["capacity"])
        return document
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SizingError(f"{file} is no simulation ({error}): python -m fer_sizing simulate --out DIR") from None


def format_costs(simulation: dict[str, Any]) -> str:
    """Return what an image costs, in Markdown."""
    capacity = Capacity(**simulation["capacity"])
    parts = (capacity.preprocess_s, capacity.classifier_s, capacity.rest_s)
    costs = " | ".join(f"{1000 * seconds:.1f} ms" for seconds in parts)
    return "\n".join(
        (
            "| decode, detect, align | classify | Triton and the rest | together |",
            "|---|---|---|---|",
            f"| {costs} | **{capacity.images_per_core_s:.1f} images/s a core** |",
            "",
            f"{capacity.picture}: {capacity.image_bytes:,} bytes, faces in it: {capacity.faces_per_image:.2g}.",
            f"`{capacity.source}`.",
            "",
            f"**{capacity.preprocess_s / sum(parts):.0%} of the work is preprocessing, detection and decoding above "
            "all, and it runs on the CPU with every profile.**",
        )
    )


def format_day(simulation: dict[str, Any]) -> str:
    """Return what load is simulated, in Markdown."""
    day = simulation["day"]
    return (
        f"Every image is simulated ({simulation['days'][0]['images']:,} of them, seed {simulation['seed']}): "
        f"{day['peak_per_s']:g} images/s at 14:00, {day['peak_per_s'] * day['night_share']:.0f} at 2:00, and at "
        f"{day['spike_at_h']:.0f}:00 {day['spike_factor']:g} times as many for {day['spike_s'] / 60:.0f} minutes, "
        f"within {day['spike_rise_s']:.0f} s. Servers have {simulation['cores']} cores."
    )


def format_days(simulation: dict[str, Any]) -> str:
    """Return the days, in Markdown."""
    rows = [
        "| scaled by | images not answered | later than the objective | pod hours | of the first row's | most pods |",
        "|---|---|---|---|---|---|",
    ]
    first = simulation["days"][0]["pod_hours"]
    for day in simulation["days"]:
        lost = day["shed"] + day["refused"]
        rows.append(
            f"| {day['name']} | {lost:,} ({day['lost_share']:.2%}) | {day['late']:,} ({day['late_share']:.2%}) "
            f"| {day['pod_hours']:.0f} | {day['pod_hours'] / first:.1f} times | {day['most_pods']} |"
        )
    return "\n".join(rows)


def format_rollouts(simulation: dict[str, Any]) -> str:
    """Return the rollouts, in Markdown."""
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
    """Return servers and GPUs by rate, in Markdown."""
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
    """Return the GPUs that classify the faces of so many images, and one more so that one may fail."""
    return math.ceil(images_per_s * faces_per_image / (faces_per_gpu_s * utilization)) + 1


BLOCKS: Final[Mapping[str, Callable[[dict[str, Any]], str]]] = {
    "costs": format_costs,
    "sizes": format_sizes,
    "day": format_day,
    "days": format_days,
    "rollouts": format_rollouts,
}
"""Functions that write what stands between `<!-- NAME -->` and `<!-- /NAME -->` in SIZING.md."""


def fill_page(text: str, simulation: dict[str, Any]) -> str:
    """Return the page's text with its figures replaced.

    Raises:
        SizingError: It lacks the comments between which a figure has its place.
    """
    for name, write in BLOCKS.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise SizingError(f"expected one {begin} and one {end} in the page")
        text = f"{text.partition(begin)[0]}{begin}\n{write(simulation)}\n{end}{text.partition(end)[2]}"
    return text


def update_page(page: Path, simulation: dict[str, Any]) -> None:
    """Write the figures into the page."""
    page.write_text(fill_page(page.read_text(encoding="utf-8"), simulation), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand. Return its exit code."""
    parser = subcommand_parser(
        "python -m fer_sizing table",
        description="Print the figures of SIZING.md, or write them into the page.",
        exit_codes=(ExitCode.OK, ExitCode.FAILED, ExitCode.USAGE),
    )
    parser.add_argument(
        "simulation", type=Path, nargs="?", default=SIMULATION, help="default: the one in the repository"
    )
    parser.add_argument("--page", type=Path, metavar="FILE", help="write them into this page instead of printing them")
    options = parser.parse_args(arguments)

    def work() -> None:
        simulation = read_simulation(options.simulation)
        if options.page:
            update_page(options.page, simulation)
        else:
            print("\n\n".join(write(simulation) for write in BLOCKS.values()))

    return run_command(parser.prog, work, debug=options.debug)
