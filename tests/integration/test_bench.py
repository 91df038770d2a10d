"""fer_bench: what it measures in the real server, and how it compares. h2load makes the load; without it they skip."""

import shutil

import psutil
import pytest

import fer_contract as contract
from fer_bench import ceiling, runtimes, stages
from fer_bench.load import LoadError, Request, grpc_request, http_request, send_load
from fer_bench.machine import Family
from fer_bench.pictures import make_workload
from fer_bench.serving import load_checked, measure_cost, read_counters

pytestmark = pytest.mark.skipif(
    shutil.which("h2load") is None, reason="h2load is missing: apt-get install nghttp2-client"
)
SMALL = make_workload("w1")


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_load_is_answered_as_often_as_the_server_counts(server, protocol):
    make, url = {"http": (http_request, server.http_url), "grpc": (grpc_request, server.grpc_url)}[protocol]
    load, change = load_checked(server.metrics_url, make(url, SMALL.image), in_flight=2, seconds=1)
    answered = change.total("nv_inference_request_success", contract.FER_MODEL)
    assert 0 < load.answers <= answered  # the warm-up is answered, and not counted
    assert 0 < load.p50_ms <= load.p99_ms


def test_the_images_that_a_cost_is_divided_by_are_those_that_the_server_worked_on(server):
    """Also those that h2load drops when its time is over."""
    before = read_counters(server.metrics_url)
    cost = measure_cost(http_request(server.http_url, SMALL.image), Family(psutil.Process()), in_flight=8, seconds=1)
    change = read_counters(server.metrics_url).since(before)
    images = change.total("nv_inference_request_success", contract.PREPROCESS_MODEL)
    assert abs(images - 20 - (cost.images_per_s + 8)) <= 2  # 20 to warm up
    assert 0.5 < cost.cpu_ms < 500


def test_a_load_that_is_refused_over_http_is_an_error(server):
    with pytest.raises(LoadError, match="with status 400, not 2xx"):
        send_load(http_request(server.http_url, b"not an image"), in_flight=1, seconds=1)


def test_a_load_that_is_refused_over_grpc_is_an_error(server):
    with pytest.raises(LoadError, match="requests to fer failed"):
        load_checked(server.metrics_url, grpc_request(server.grpc_url, b"not an image"), in_flight=1, seconds=1)


def test_a_load_on_nobody_is_an_error():
    with pytest.raises(LoadError, match="answered nothing|h2load failed"):
        send_load(Request("http://127.0.0.1:9/", b""), in_flight=1, seconds=1)


def test_the_time_of_a_request_is_told_apart(server):
    served = stages.time_served(server, SMALL, seconds=1)
    assert set(served) == set(stages.SERVED)
    assert served["copies"] > 0


def test_a_runtime_is_served_and_measured():
    found = runtimes.measure(runtimes.Candidate("openvino", "int8", 1), batches=[1, 4], seconds=0.5)
    assert set(found.images_per_s) == {1, 4}
    assert min(found.images_per_s.values()) > 0
    assert 50 < found.resident_mb < 5000


def test_the_ceiling_command_compares_both_protocols(capsys):
    arguments = ["--rounds", "1", "--seconds", "1", "--in-flight", "2", "--workloads", "w1"]
    assert ceiling.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| w1 | 2 | ")
    assert lines[6].startswith("| 2 | ")
