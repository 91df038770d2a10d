"""Sweeps instance counts and the classifier's queue delay, and proposes values for this machine.

    python -m fer_bench.tune [--workload w2] [--rounds N] [--seconds S] [--in-flight 1 4 16 32] [--delays-us 0 500 2000]

One setting after the other is varied from what `fer_build.assemble` chooses. All servers run at once, so that each
cell is measured in turn, in several rounds. What is proposed is the value with the highest throughput, as a geometric
mean over the numbers in flight; the smaller one where two are within 2 %.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tqdm import tqdm

import fer_contract as contract
from fer_bench.load import grpc_request, send_load
from fer_bench.machine import describe_machine, usable_cores
from fer_bench.serving import check_answers, read_counters
from fer_bench.workloads import Workload, make_workloads
from fer_build.assemble import assemble, count_instances
from fer_commands.exit_codes import describe
from fer_commands.running import run_command
from fer_serve.server import EmbeddedTriton

_AS_GOOD: Final = 0.98
"""Less of a difference says nothing on a machine that does other things too."""


@dataclass(frozen=True)
class Setting:
    """One way to configure the server."""

    preprocess: int
    """Instances of fer_preprocess."""
    classifier: int
    """Instances of fer_classifier."""
    delay_us: int
    """How long the classifier's queue waits for more faces."""


@dataclass(frozen=True)
class Measurement:
    """One setting at one number of requests in flight, in one round."""

    images_per_s: float
    p99_ms: float
    mean_batch: float
    """Faces that were classified together."""


Measured = dict[tuple[Setting, int], list[Measurement]]
"""Rounds by setting and requests in flight."""


def list_settings(base: Setting, preprocess: set[int], classifier: set[int], delays_us: set[int]) -> list[Setting]:
    """`base` and what differs from it in one setting."""
    varied = [base]
    varied += [replace(base, preprocess=count) for count in sorted(preprocess)]
    varied += [replace(base, classifier=count) for count in sorted(classifier)]
    varied += [replace(base, delay_us=delay) for delay in sorted(delays_us)]
    return list(dict.fromkeys(varied))


def measure(server: EmbeddedTriton, workload: Workload, in_flight: int, seconds: float) -> Measurement:
    """One cell in one round, over gRPC."""
    before = read_counters(server)
    with check_answers(server, in_flight):
        load = send_load(grpc_request(server.grpc_url, workload.image), in_flight, seconds)
    change = read_counters(server).since(before)
    batches = change.total("nv_inference_exec_count", contract.CLASSIFIER_MODEL)
    return Measurement(load.per_s, load.p99_ms, change.total("nv_inference_count", contract.CLASSIFIER_MODEL) / batches)


def propose(measured: Measured, base: Setting) -> Setting:
    """The best value of each setting, the others being as in `base`."""
    speed = {setting: _speed(measured, setting) for setting, _ in measured}

    def best(name: str) -> int:
        others = [one for one in speed if replace(one, **{name: getattr(base, name)}) == base]
        fastest = max(speed[one] for one in others)
        return min(int(getattr(one, name)) for one in others if speed[one] >= _AS_GOOD * fastest)

    return Setting(best("preprocess"), best("classifier"), best("delay_us"))


def _speed(measured: Measured, setting: Setting) -> float:
    """Geometric mean, over the numbers in flight, of the medians over the rounds."""
    cells = [rounds for (one, _), rounds in measured.items() if one == setting]
    return statistics.geometric_mean(statistics.median(one.images_per_s for one in rounds) for rounds in cells)


def format_table(measured: Measured, base: Setting) -> str:
    """A Markdown table: a row for each setting, medians over the rounds."""
    levels = list(dict.fromkeys(in_flight for _, in_flight in measured))
    header = ["fer_preprocess", "fer_classifier", "delay, us"]
    header += [f"{level} in flight: images/s (p99 ms, faces a batch)" for level in levels] + ["to the first row"]
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for setting in dict.fromkeys(one for one, _ in measured):
        cells = [str(setting.preprocess), str(setting.classifier), str(setting.delay_us)]
        for level in levels:
            rounds = measured[setting, level]
            speed, p99, batch = (
                statistics.median(getattr(one, name) for one in rounds)
                for name in ("images_per_s", "p99_ms", "mean_batch")
            )
            cells.append(f"{speed:.1f} ({p99:.0f}, {batch:.1f})")
        cells.append(f"{_speed(measured, setting) / _speed(measured, base):.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    workloads = {workload.name: workload for workload in make_workloads()}
    parser = argparse.ArgumentParser(
        prog="python -m fer_bench.tune",
        description="Sweep instance counts and the classifier's queue delay, and propose values for this machine.",
        epilog=describe(),
    )
    parser.add_argument("--workload", choices=workloads, default="w2", help="picture to send; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of each cell; default: %(default)s")
    parser.add_argument(
        "--in-flight", type=int, nargs="+", default=[1, 4, 16, 32], metavar="N", help="default: 1 4 16 32"
    )
    parser.add_argument(
        "--delays-us", type=int, nargs="+", default=[0, 500, 2000], metavar="N", help="default: 0 500 2000"
    )
    options = parser.parse_args(arguments)
    if min(options.rounds, *options.in_flight) < 1 or options.seconds <= 0 or min(options.delays_us) < 0:
        parser.error("--rounds and --in-flight must be at least 1, --seconds above 0, --delays-us 0 or more")
    return run_command("fer_bench.tune", lambda: _run(options, workloads[options.workload]))


def _run(options: argparse.Namespace, workload: Workload) -> None:
    counts = count_instances(usable_cores())
    base = Setting(counts[contract.PREPROCESS_MODEL], counts[contract.CLASSIFIER_MODEL], 0)
    preprocess = {max(2, base.preprocess - 1), base.preprocess, base.preprocess + 1}
    settings = list_settings(base, preprocess, {base.classifier, base.classifier + 1}, set(options.delays_us))
    measured: Measured = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fer-tune-")))
        servers = {setting: stack.enter_context(_serve(folder, setting)) for setting in settings}
        turns = [(one, level) for _ in range(options.rounds) for level in options.in_flight for one in settings]
        for setting, level in tqdm(turns, unit="cell", leave=False, disable=None):
            found = measure(servers[setting], workload, level, options.seconds)
            measured.setdefault((setting, level), []).append(found)
    print(format_table(measured, base))
    best = propose(measured, base)
    print(
        f"\nproposed: python -m fer_build.assemble --instances fer_preprocess={best.preprocess} "
        f"fer_classifier={best.classifier} --queue-delay-us {best.delay_us}"
    )
    print(f"{workload.description}; {options.rounds} rounds of {options.seconds:g} s; {describe_machine()}")


def _serve(folder: Path, setting: Setting) -> EmbeddedTriton:
    repository = folder / f"{setting.preprocess}-{setting.classifier}-{setting.delay_us}"
    instances = {contract.PREPROCESS_MODEL: setting.preprocess, contract.CLASSIFIER_MODEL: setting.classifier}
    assemble(repository, instances=instances, queue_delay_us=setting.delay_us)
    return EmbeddedTriton(repository)


if __name__ == "__main__":
    sys.exit(main())
