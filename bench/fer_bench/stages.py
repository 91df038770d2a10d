"""Shows where the time of a request goes, stage by stage.

    python -m fer_bench.stages [--seconds S] [--repository DIR]

Decoding, detection, alignment and classification are taken in this process, one image after the other. What the server
adds is taken from its own counters with one request in flight: what its models spend beyond those four (copies between
the server and its Python processes), its scheduling, and the transport from the client and back.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

import fer_contract as contract
from fer_bench.load import grpc_request, http_request, send_load
from fer_bench.machine import describe_machine
from fer_bench.pipeline import Pipeline
from fer_bench.serving import Counters, check_answers, read_counters
from fer_bench.workloads import Workload, make_workloads
from fer_commands.exit_codes import describe
from fer_commands.running import run_command
from fer_faces import ALIGN, DECODE, DETECT, find_faces
from fer_serve.server import EmbeddedTriton, serving

CLASSIFY = "classify"
ALONE = (DECODE, DETECT, ALIGN, CLASSIFY)
SERVED = ("copies", "scheduling", "HTTP transport", "gRPC transport")
_STEPS = (contract.PREPROCESS_MODEL, contract.CLASSIFIER_MODEL, contract.POSTPROCESS_MODEL)


def time_alone(pipeline: Pipeline, workload: Workload, seconds: float) -> dict[str, float]:
    """Microseconds per image of each stage in this process."""
    spent = dict.fromkeys(ALONE, 0.0)
    images = 0
    until = time.perf_counter() + seconds
    last = 0.0

    def finish(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        spent[stage] += now - last
        last = now

    while (last := time.perf_counter()) < until:
        faces = find_faces(workload.image, pipeline.detector, pipeline.limits, finish)
        pipeline.classify(faces.crops)
        finish(CLASSIFY)
        images += 1
    return {stage: total / images * 1e6 for stage, total in spent.items()}


def time_served(server: EmbeddedTriton, workload: Workload, seconds: float) -> dict[str, float]:
    """Microseconds per request that the server adds, by where."""
    requests = {
        "gRPC transport": grpc_request(server.grpc_url, workload.image),
        "HTTP transport": http_request(server.http_url, workload.image),
    }
    added: dict[str, float] = {}
    for transport, request in requests.items():
        before = read_counters(server)
        with check_answers(server, 1):
            load = send_load(request, 1, seconds)
        change = read_counters(server).since(before)
        whole = _per_request(change, contract.FER_MODEL, "request")
        added[transport] = 1000 * load.mean_ms - whole
        steps = sum(_per_request(change, model, "request") for model in _STEPS)
        worked = sum(_per_image(change, stage) for stage in (DECODE, DETECT, ALIGN))
        classified = _per_request(change, contract.CLASSIFIER_MODEL, "compute_infer")
        added["copies"] = steps - worked - classified
        added["scheduling"] = whole - steps
    return added


def _per_request(change: Counters, model: str, duration: str) -> float:
    requests = change.total("nv_inference_request_success", model)
    return change.total(f"nv_inference_{duration}_duration_us", model) / requests


def _per_image(change: Counters, stage: str) -> float:
    images = change.total("fer_images_total", contract.PREPROCESS_MODEL)
    return change.total("fer_stage_duration_us_total", contract.PREPROCESS_MODEL, stage=stage) / images


def format_table(spent: dict[str, dict[str, float]]) -> str:
    """A Markdown table of microseconds, one row for each workload."""
    columns = [*ALONE, *SERVED]
    lines = ["| workload | " + " | ".join(f"{column}, us" for column in columns) + " |", "|" + " --- |" * 9]
    lines += [
        f"| {workload} | " + " | ".join(f"{times[column]:.0f}" for column in columns) + " |"
        for workload, times in spent.items()
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_bench.stages",
        description="Show where the time of a request goes, stage by stage.",
        epilog=describe(),
    )
    parser.add_argument("--seconds", type=float, default=4.0, metavar="S", help="of each part; default: %(default)s")
    parser.add_argument("--repository", type=Path, metavar="DIR", help="default: the released model, assembled anew")
    options = parser.parse_args(arguments)
    if options.seconds <= 0:
        parser.error("--seconds must be above 0")
    return run_command("fer_bench.stages", lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    pipeline = Pipeline()
    workloads = make_workloads()
    spent = {}
    with serving(options.repository) as server:
        for workload in tqdm(workloads, unit="workload", leave=False, disable=None):
            alone = time_alone(pipeline, workload, options.seconds)
            spent[workload.name] = alone | time_served(server, workload, options.seconds)
    print(format_table(spent))
    print("\n" + "; ".join(f"{workload.name}: {workload.description}" for workload in workloads))
    print(describe_machine())


if __name__ == "__main__":
    sys.exit(main())
