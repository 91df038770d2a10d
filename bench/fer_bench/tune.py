"""Sweeps instance counts and the classifier's queue delay, and proposes values for this machine.

One setting after the other is varied from what `fer_build.assemble` chooses. All servers run at once, so that each cell
is measured in turn, in several rounds. What is proposed is the value with the highest throughput, as a geometric mean
over the numbers in flight; the smaller one where two are within 2 %.
"""

import argparse
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

from tqdm import tqdm

import fer_contract as contract
from fer_bench.command import describe_rounds, format_markdown, make_parser, median, run
from fer_bench.load import grpc_request
from fer_bench.machine import describe_machine, usable_cores
from fer_bench.pictures import WORKLOADS, Workload, make_workload
from fer_bench.serving import EmbeddedTriton, load_checked, serve
from fer_build.assemble import count_instances

_AS_GOOD: Final = 0.98
"""A smaller difference says nothing on a machine that does other things too."""


@dataclass(frozen=True)
class Setting:
    """One way to configure the server."""

    preprocess: int
    """Number of instances of fer_preprocess."""
    classifier: int
    """Number of instances of fer_classifier."""
    delay_us: int
    """How long the classifier's queue waits for more faces."""


@dataclass(frozen=True)
class Measurement:
    """One setting at one number of requests in flight, in one round."""

    images_per_s: float
    p99_ms: float
    mean_batch: float
    """Mean number of faces that were classified together."""


Measured = dict[tuple[Setting, int], list[Measurement]]
"""The rounds' measurements by setting and requests in flight."""


def list_settings(base: Setting, preprocess: set[int], classifier: set[int], delays_us: set[int]) -> list[Setting]:
    """Return `base` and the settings that differ from it in one value."""
    varied = [base]
    varied += [replace(base, preprocess=count) for count in sorted(preprocess)]
    varied += [replace(base, classifier=count) for count in sorted(classifier)]
    varied += [replace(base, delay_us=delay) for delay in sorted(delays_us)]
    return list(dict.fromkeys(varied))


def measure(server: EmbeddedTriton, workload: Workload, in_flight: int, seconds: float) -> Measurement:
    """Measure one cell once, over gRPC."""
    load, change = load_checked(server.metrics_url, grpc_request(server.grpc_url, workload.image), in_flight, seconds)
    batches = change.total("nv_inference_exec_count", contract.CLASSIFIER_MODEL)
    faces = change.total("nv_inference_count", contract.CLASSIFIER_MODEL)
    return Measurement(load.per_s, load.p99_ms, faces / batches)


def propose(measured: Measured, base: Setting) -> Setting:
    """Return the best value of each setting, the others being as in `base`."""
    speed = {setting: _speed(measured, setting) for setting, _ in measured}

    def best(name: str) -> int:
        others = [one for one in speed if replace(one, **{name: getattr(base, name)}) == base]
        fastest = max(speed[one] for one in others)
        return min(int(getattr(one, name)) for one in others if speed[one] >= _AS_GOOD * fastest)

    return Setting(best("preprocess"), best("classifier"), best("delay_us"))


def _speed(measured: Measured, setting: Setting) -> float:
    """Return the geometric mean, over the numbers in flight, of the medians over the rounds."""
    cells = [rounds for (one, _), rounds in measured.items() if one == setting]
    return statistics.geometric_mean(median(rounds, "images_per_s") for rounds in cells)


def format_table(measured: Measured, base: Setting) -> str:
    """Return a Markdown table with a row for each setting, of medians over the rounds."""
    levels = list(dict.fromkeys(in_flight for _, in_flight in measured))
    header = ["fer_preprocess", "fer_classifier", "delay, us"]
    header += [f"{level} in flight: images/s (p99 ms, faces a batch)" for level in levels] + ["to the first row"]
    rows = []
    for setting in dict.fromkeys(one for one, _ in measured):
        cells = [str(setting.preprocess), str(setting.classifier), str(setting.delay_us)]
        for level in levels:
            figures = (median(measured[setting, level], name) for name in ("images_per_s", "p99_ms", "mean_batch"))
            cells.append("{:.1f} ({:.0f}, {:.1f})".format(*figures))
        rows.append([*cells, f"{_speed(measured, setting) / _speed(measured, base):.2f}"])
    return format_markdown(header, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand. Return its exit code."""
    parser = make_parser(
        "tune",
        "Sweep instance counts and the classifier's queue delay, and propose values for this machine.",
        rounds=3,
        seconds=3.0,
        in_flight=(1, 4, 16, 32),
    )
    parser.add_argument("--workload", choices=WORKLOADS, default="w2", help="picture to send; default: %(default)s")
    parser.add_argument(
        "--delays-us", type=int, nargs="+", default=[0, 500, 2000], metavar="N", help="default: 0 500 2000"
    )
    options = parser.parse_args(arguments)
    if min(options.delays_us) < 0:
        parser.error("--delays-us must be 0 or more")
    return run(parser, options, lambda: _run(options, make_workload(options.workload)))


def _run(options: argparse.Namespace, workload: Workload) -> None:
    counts = count_instances(usable_cores())
    base = Setting(counts[contract.PREPROCESS_MODEL], counts[contract.CLASSIFIER_MODEL], 0)
    preprocess = {max(2, base.preprocess - 1), base.preprocess, base.preprocess + 1}
    settings = list_settings(base, preprocess, {base.classifier, base.classifier + 1}, set(options.delays_us))
    measured: Measured = {}
    with ExitStack() as stack:
        servers = {
            one: stack.enter_context(
                serve(
                    instances={contract.PREPROCESS_MODEL: one.preprocess, contract.CLASSIFIER_MODEL: one.classifier},
                    queue_delay_us=one.delay_us,
                )
            )
            for one in settings
        }
        cells = [(one, level) for level in options.in_flight for one in settings]
        for setting, level in tqdm(cells * options.rounds, unit="cell", leave=False, disable=None):
            found = measure(servers[setting], workload, level, options.seconds)
            measured.setdefault((setting, level), []).append(found)
    print(format_table(measured, base))
    best = propose(measured, base)
    print(
        f"\nProposed: `--instances fer_preprocess={best.preprocess} fer_classifier={best.classifier} "
        f"--queue-delay-us {best.delay_us}`, options of the command that assembles a repository."
    )
    print(f"{workload.name}: {workload.description}; {describe_machine()}; {describe_rounds(options)}.")
