"""fer_bench: ratios are taken within a round, and what they lead to."""

import io

import numpy as np
import pytest
from PIL import Image

from fer_bench import ceiling, checkouts, detection, frameworks, runtimes, tune
from fer_bench.load import Load, LoadError
from fer_bench.pipeline import Pipeline
from fer_bench.scenes import Scene, make_busy_picture, make_scene
from fer_bench.workloads import make_workloads
from fer_search import SearchSettings

BUSY = [1.0, 0.5, 1.0]
"""The machine was half as fast in the second round."""


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline()


@pytest.mark.parametrize("workload", make_workloads(), ids=lambda one: one.name)
def test_a_workload_has_the_faces_that_it_says(pipeline, workload):
    with Image.open(io.BytesIO(workload.image)) as image:
        assert f"{image.width}x{image.height}" in workload.description
    answer = pipeline(workload.image)
    assert len(answer.faces.boxes) == workload.faces
    assert np.allclose(answer.probabilities.sum(axis=1), 1, atol=1e-3)


def test_workloads_are_the_same_every_time():
    assert make_workloads() == make_workloads()


def test_the_ceilings_ratios_are_of_the_same_round():
    cells = {"http": 90, "grpc": 95}
    table = ceiling.format_table(
        {
            ceiling.Cell("w1", 4, protocol): [
                ceiling.Measurement(100 * speed, rate * speed, 10 / speed, 20 / speed) for speed in BUSY
            ]
            for protocol, rate in cells.items()
        }
    )
    assert table.splitlines()[2] == "| w1 | 4 | 100.0 | 90.0 | 95.0 | 0.90 | 0.95 | 10.0 / 20.0 | 10.0 / 20.0 |"
    assert table.splitlines()[4] == "4 in flight: mean ratio 0.925, lowest 0.900"


def test_frameworks_are_compared_within_a_round():
    running = {name: frameworks.Running(lambda image: None, 2.0, 500) for name in (frameworks.OURS, "fastapi")}
    rates = {frameworks.OURS: 120.0, "fastapi": 100.0}
    measured = {(name, "w1"): [Load(rate * speed, 1, 1, 30) for speed in BUSY] for name, rate in rates.items()}
    assert frameworks.format_table(measured, running).splitlines()[2:] == [
        "| fer-serve | 120.0 (30) |  | 500 | 2.0 |",
        "| fastapi | 100.0 (30) | 1.20 | 500 | 2.0 |",
    ]


def test_runtimes_are_compared_within_a_round_and_the_best_comes_first():
    faster = runtimes.Candidate("openvino", "int8", 1)
    table = runtimes.format_table(
        {
            runtimes.BASE: [runtimes.Measurement({1: 100 * speed, 16: 900 * speed}, 400) for speed in BUSY],
            faster: [runtimes.Measurement({1: 200 * speed, 16: 2700 * speed}, 500) for speed in BUSY],
        }
    )
    assert table.splitlines()[2:] == [
        "| openvino | int8 | 1 | 200 | 2700 | 500 | 2.00 | 3.00 |",
        "| onnxruntime | fp32 | 1 | 100 | 900 | 400 | 1.00 | 1.00 |",
    ]


def rounds_of(speeds):
    return {(count, level): [tune.Measurement(speed, 10)] for count, speed in speeds.items() for level in (1, 16)}


def test_what_is_clearly_faster_is_proposed():
    assert tune.propose(rounds_of({2: 100, 3: 110, 4: 90})) == 3


def test_of_two_as_fast_the_smaller_is_proposed():
    assert tune.propose(rounds_of({4: 101, 2: 100, 3: 101.9})) == 2


def test_checkouts_are_compared_within_each_round():
    def one(per_s, cpu_ms):
        return checkouts.Measurement(Load(per_s=per_s, mean_ms=1, p50_ms=1, p99_ms=9), cpu_ms)

    table = checkouts.format_table(
        {
            ("w1", 16, "http"): {
                "old": [one(100, 6), one(50, 12), one(80, 9)],
                "new": [one(250, 2), one(150, 4), one(160, 4)],
            }
        },
        ("old", "new"),
    )
    assert table.splitlines()[0].endswith("| CPU ratio | images/s ratio |")
    assert table.splitlines()[2] == "| w1 | 16 | http | 9.00 | 4.00 | 80 | 160 | 9 | 9 | 3.00 | 2.50 |"


def test_a_checkout_without_an_environment_is_an_error(tmp_path):
    with pytest.raises(LoadError, match=r"has no \.venv/bin/fer-serve"), checkouts.run_checkout(tmp_path):
        pass


def test_what_a_search_finds_is_counted_by_place():
    scenes = [make_scene(seed, 640, 480, 60, faces=2) for seed in range(2)]
    tally = detection.search(SearchSettings(), scenes)
    assert (tally.faces, tally.found, tally.others) == (4, 4, 0)
    moved = [Scene(scene.picture, ((0, 0, 5, 5),)) for scene in scenes]
    tally = detection.search(SearchSettings(), moved)
    assert (tally.faces, tally.found, tally.others) == (2, 0, 4)
    table = detection.format_table({("320 px", (640, 480), 60): detection.Tally(faces=4, found=3, cpu_ms=2.4)})
    assert table.splitlines()[2] == "| 320 px | 640x480 | 75 % (2 ms) |"


def test_scenes_are_the_same_every_time_and_have_room():
    assert np.array_equal(make_scene(3, 640, 480, 40).picture, make_scene(3, 640, 480, 40).picture)
    assert np.array_equal(make_busy_picture(7), make_busy_picture(7))
    with pytest.raises(ValueError, match="10 heads of 360 px find no room in 640x480 px"):
        make_scene(0, 640, 480, 200)
