"""fer_bench: ratios are taken within a round, and what they lead to."""

import contextlib
import io
import sys
import types
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from fer_bench import ceiling, checkouts, detection, frameworks, runtimes, tune
from fer_bench.load import LoadError
from fer_bench.machine import Family
from fer_bench.pictures import WORKLOADS, Scene, make_busy_picture, make_scene, make_workload
from fer_bench.pipeline import Pipeline
from fer_bench.serving import Cost
from fer_search import SearchSettings

BUSY = [1.0, 0.5, 1.0]
"""The machine was half as fast in the second round."""


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline()


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_has_the_faces_that_it_says(pipeline, name):
    workload = make_workload(name)
    with Image.open(io.BytesIO(workload.image)) as image:
        assert f"{image.width}x{image.height}" in workload.description
    answer = pipeline(workload.image)
    assert len(answer.faces.boxes) == workload.faces
    assert np.allclose(answer.probabilities.sum(axis=1), 1, atol=1e-3)


def test_workloads_are_the_same_every_time():
    assert make_workload("w2") == make_workload("w2")


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
    assert table.splitlines()[6] == "| 4 | 0.925 | 0.900 |"


def costs(images_per_s, p99_ms, cpu_ms):
    return [Cost(images_per_s * speed, p99_ms / speed, cpu_ms / speed) for speed in BUSY]


MEASURED = {
    (frameworks.OURS, "w1, 16"): costs(120, 30, 4),
    ("fastapi", "w1, 16"): costs(100, 24, 5),
}


def test_frameworks_are_compared_within_a_round():
    tables = {quantity: frameworks.format_table(MEASURED, quantity) for quantity in frameworks.QUANTITIES}
    assert tables["CPU ms an image"].splitlines() == [
        "| CPU ms an image | w1, 16 |",
        "| --- | --- |",
        "| fer-serve | 4.00 |",
        "| fastapi | 5.00 (1.25) |",
    ]
    assert tables["images/s"].splitlines()[3] == "| fastapi | 100 (1.20) |"
    assert tables["p99 ms"].splitlines()[3] == "| fastapi | 24 (0.80) |"


def test_the_cells_in_which_another_framework_is_ahead_are_named():
    assert frameworks.describe_losses(MEASURED) == (
        "Ahead of fer-serve by more than 5%: fastapi by 1.25 (p99 ms, w1, 16)."
    )
    assert frameworks.describe_losses(MEASURED, tolerance=0.3).endswith("none in any cell.")


def test_a_framework_is_looked_for_in_the_environments(tmp_path):
    environments = [tmp_path / "none", Path(sys.prefix)]
    python, found = frameworks.find_environment("numpy", environments)
    assert (python, found) == (Path(sys.prefix) / "bin" / "python", np.__version__)
    assert frameworks.find_environment("no-such-package", environments) is None


@pytest.fixture
def without_servers(monkeypatch):
    """frameworks, but nothing is served or loaded: `fer-serve` is this process, and every image costs the same."""
    server = types.SimpleNamespace(http_url="127.0.0.1:9", family=Family(psutil.Process()), ready_s=1.0)
    monkeypatch.setattr(frameworks, "run_checkout", lambda checkout: contextlib.nullcontext(server))
    monkeypatch.setattr(frameworks, "measure_cost", lambda *_: Cost(100, 10, 4))


def test_a_framework_that_is_nowhere_is_left_out_and_said(without_servers, tmp_path, capsys):
    assert frameworks.main(["--workloads", "w1", "--only", "ray", "--environments", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert f"ray is left out: {tmp_path} do not have it; see bench/README.md" in printed.err
    assert "| fer-serve | 4.00 | 4.00 |" in printed.out
    assert "ray" not in printed.out


def test_a_framework_that_does_not_start_is_left_out_with_the_end_of_its_log(without_servers, monkeypatch, capsys):
    broken = frameworks.Contender(
        "pip", lambda port, folder: ["-c", "raise SystemExit('no port')"], frameworks._raw_body
    )
    monkeypatch.setattr(frameworks, "CONTENDERS", {"broken": broken})
    assert frameworks.main(["--workloads", "w1", "--environments", sys.prefix]) == 0
    assert "broken is left out: broken did not start: no port" in capsys.readouterr().err


def test_a_framework_that_fails_under_load_is_left_out(without_servers, monkeypatch, capsys):
    def run_contender(name, *_):
        return contextlib.nullcontext(frameworks.Running(lambda image: None, Family(psutil.Process()), 2.0, 500))

    def measure_cost(request, *_):
        if request is None:
            raise LoadError("it answered nothing")
        return Cost(100, 10, 4)

    monkeypatch.setattr(frameworks, "run_contender", run_contender)
    monkeypatch.setattr(frameworks, "measure_cost", measure_cost)
    monkeypatch.setattr(frameworks, "find_environment", lambda *_: (Path(sys.executable), "1.0"))
    assert frameworks.main(["--workloads", "w1", "--only", "fastapi"]) == 0
    printed = capsys.readouterr()
    assert "fastapi is left out: it answered nothing" in printed.err
    assert "| fastapi" not in printed.out


def test_frameworks_are_run_around_another_checkout_s_functions_too(without_servers, monkeypatch, tmp_path, capsys):
    asked = []

    def run_contender(name, python, functions, sample):
        asked.append((name, functions))
        return contextlib.nullcontext(frameworks.Running(lambda image: None, Family(psutil.Process()), 2.0, 500))

    monkeypatch.setattr(frameworks, "run_contender", run_contender)
    monkeypatch.setattr(frameworks, "find_environment", lambda *_: (Path(sys.executable), "1.0"))
    assert frameworks.main(["--workloads", "w1", "--only", "fastapi", "--functions-of", str(tmp_path)]) == 0
    assert asked == [("fastapi", frameworks.CHECKOUT), ("fastapi", tmp_path)]
    printed = capsys.readouterr().out
    for server in ("fer-serve", f"fer-serve, {tmp_path.name}", "fastapi", f"fastapi, {tmp_path.name}"):
        assert f"| {server} | 4.00 " in printed


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
    old = [Cost(100, 9, 6), Cost(50, 9, 12), Cost(80, 9, 9)]
    new = [Cost(250, 9, 2), Cost(150, 9, 4), Cost(160, 9, 4)]
    table = checkouts.format_table({("w1", 16, "http"): {"old": old, "new": new}}, ("old", "new"))
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
