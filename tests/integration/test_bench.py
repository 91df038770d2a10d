"""fer_bench: what it measures in the real server, and how it compares. h2load makes the load; without it they skip."""

import shutil

import pytest

import fer_contract as contract
from fer_bench import ceiling, frameworks, runtimes, stages, tune
from fer_bench.load import LoadError, Request, grpc_request, http_request, send_load
from fer_bench.serving import check_answers, read_counters
from fer_bench.workloads import make_workloads

pytestmark = pytest.mark.skipif(
    shutil.which("h2load") is None, reason="h2load is missing: apt-get install nghttp2-client"
)
SMALL = make_workloads()[0]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_load_is_answered_as_often_as_the_server_counts(server, protocol):
    make, url = {"http": (http_request, server.http_url), "grpc": (grpc_request, server.grpc_url)}[protocol]
    before = read_counters(server)
    with check_answers(server, in_flight=2):
        load = send_load(make(url, SMALL.image), in_flight=2, seconds=1)
    answered = read_counters(server).since(before).total("nv_inference_request_success", contract.FER_MODEL)
    assert 0 < load.per_s <= answered  # the warm-up is answered, and not counted
    assert 0 < load.p50_ms <= load.p99_ms


def test_a_load_that_is_refused_over_http_is_an_error(server):
    with pytest.raises(LoadError, match="with another status, 400"):
        send_load(http_request(server.http_url, b"not an image"), in_flight=1, seconds=1)


def test_a_load_that_is_refused_over_grpc_is_an_error(server):
    with pytest.raises(LoadError, match="requests to fer failed"), check_answers(server, in_flight=1):
        send_load(grpc_request(server.grpc_url, b"not an image"), in_flight=1, seconds=1)


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
    assert lines[4].startswith("2 in flight: mean ratio ")


@pytest.mark.parametrize("command", [ceiling, frameworks, runtimes, stages, tune])
def test_nothing_is_measured_in_no_time(command, capsys):
    with pytest.raises(SystemExit) as end:
        command.main(["--seconds", "0"])
    assert end.value.code == 2
    assert "above 0" in capsys.readouterr().err


@pytest.mark.parametrize("batch", ["0", "65"])
def test_faces_that_the_classifier_refuses_are_not_sent(batch, capsys):
    with pytest.raises(SystemExit) as end:
        runtimes.main(["--batches", batch])
    assert end.value.code == 2
    assert "a request has 1 to 64 faces" in capsys.readouterr().err
