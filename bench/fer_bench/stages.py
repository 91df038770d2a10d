"""Where the time of a request goes, stage by stage.

Decoding, detection, alignment and classification are taken in this process, one image after the other. What the server
adds is taken from its own counters with one request in flight: what its models spend beyond those four (copies between
the server and its Python processes), its scheduling, and the transport from the client and back.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Final

from tqdm import tqdm

import fer_contract as contract
from fer_bench.command import choose_workloads, format_markdown, make_parser, run
from fer_bench.load import grpc_request, http_request
from fer_bench.machine import describe_machine
from fer_bench.pictures import Workload
from fer_bench.pipeline import Pipeline
from fer_bench.serving import Counters, load_checked
from fer_faces import ALIGN, DECODE, DETECT, find_faces
from fer_serve.server import EmbeddedTriton, serving

CLASSIFY: Final = "classify"
ALONE: Final = (DECODE, DETECT, ALIGN, CLASSIFY)
SERVED: Final = ("copies", "scheduling", "HTTP transport", "gRPC transport")


def time_alone(pipeline: Pipeline, workload: Workload, seconds: float) -> dict[str, float]:
    """Return the microseconds per image of each stage in this process."""
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
    """Return the microseconds per request that the server adds, by where it spends them."""
    requests = {
        "gRPC transport": grpc_request(server.grpc_url, workload.image),
        "HTTP transport": http_request(server.http_url, workload.image),
    }
    added: dict[str, float] = {}
    for transport, request in requests.items():
        load, change = load_checked(server.metrics_url, request, 1, seconds)
        whole = _per_request(change, contract.FER_MODEL, "request")
        added[transport] = 1000 * load.mean_ms - whole
        step = _per_request(change, contract.PREPROCESS_MODEL, "request")
        added["copies"] = step - sum(_per_image(change, stage) for stage in ALONE)
        added["scheduling"] = whole - step
    return added


def _per_request(change: Counters, model: str, duration: str) -> float:
    requests = change.total("nv_inference_request_success", model)
    return change.total(f"nv_inference_{duration}_duration_us", model) / requests if requests else 0.0


def _per_image(change: Counters, stage: str) -> float:
    images = change.total("fer_images_total", contract.PREPROCESS_MODEL)
    return change.total("fer_stage_duration_us_total", contract.PREPROCESS_MODEL, stage=stage) / images


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand. Return its exit code."""
    parser = make_parser(
        "stages",
        "Show where the time of a request goes, stage by stage.",
        seconds=4.0,
        workloads=True,
        repository=True,
    )
    options = parser.parse_args(arguments)
    return run(parser, options, lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    pipeline = Pipeline()
    workloads = choose_workloads(options)
    rows = []
    with serving(options.repository) as server:
        for workload in tqdm(workloads, unit="workload", leave=False, disable=None):
            spent = time_alone(pipeline, workload, options.seconds) | time_served(server, workload, options.seconds)
            rows.append([workload.name, *(f"{spent[stage]:.0f}" for stage in (*ALONE, *SERVED))])
    print(format_markdown(["workload", *(f"{stage}, us" for stage in (*ALONE, *SERVED))], rows))
    print(f"\n{describe_machine()}; {options.seconds:g} s of each part.")
