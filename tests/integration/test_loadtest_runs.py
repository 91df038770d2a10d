"""`fer-loadtest` as users run it, against the real Triton: all shapes, both protocols, what can go wrong."""

import http.server
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from fer_commands.exit_codes import ExitCode

# Not importorskip: whoever imports Locust has a cooperative standard library from then on.
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("locust") is None, reason="Locust is missing: pip install 'fer-triton[loadtest]'"
)

PHOTO = Path(__file__).parents[2] / "examples" / "astronaut.png"
PATIENCE_S = 240


class Run:
    """A load test in a process of its own."""

    def __init__(self, server, out, *words, subcommand="run"):
        self.out = out
        urls = {
            "FER_URL": f"http://{server.http_url}",
            "FER_GRPC_URL": f"grpc://{server.grpc_url}",
            "FER_METRICS_URL": server.metrics_url,
        }
        command = [sys.executable, "-m", "fer_loadtest", subcommand, "--out", out, "--settle-s", "1", *words]
        self.process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | urls
        )

    def wait(self):
        """Until it ends; returns its exit code."""
        try:
            self.printed, self.complaints = self.process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGTERM)
            self.printed, self.complaints = self.process.communicate(timeout=30)
            pytest.fail(f"no end within {PATIENCE_S} s: {self.printed} {self.complaints}")
        return self.process.returncode

    def read_until(self, words):
        """Wait until it prints a line that has them."""
        for line in self.process.stdout:
            if words in line:
                return
        pytest.fail(f"it ended without saying {words!r}: {self.process.stderr.read()}")

    def report(self):
        """The document; the page has to be there too."""
        assert (self.out / "report.html").stat().st_size > 5000
        return json.loads((self.out / "report.json").read_text())


@pytest.fixture
def start(server, tmp_path):
    """Starts a load test against the real server; ends it if the test does not."""
    started = []

    def make(*words, **options):
        started.append(Run(server, tmp_path / "report", *words, **options))
        return started[-1]

    yield make
    for run in started:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGTERM)
            run.process.wait(20)
        run.process.stdout.close()
        run.process.stderr.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's own pictures: one with a face, one without, one that is broken."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "face.png").write_bytes(PHOTO.read_bytes())
    Image.new("RGB", (320, 240), "teal").save(folder / "teal.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    return folder


def assert_counts_agree(document):
    """What was sent is what the server says it was asked: nothing is counted twice here, or lost.

    Triton 2.51 counts what fails in an ensemble twice.
    """
    asked = document["triton"]["models"]["fer"]
    sent = sum(second["sent"] for second in document["seconds"])
    ended = sum(second["good"] + sum(second["errors"].values()) for second in document["seconds"])
    assert sent == ended == asked["requests"] + sum(asked["failures"].values()) / 2


def test_steps_over_http_have_levels_with_more_and_more_users(start):
    run = start("--levels", "1,2,3", "--level-s", "2.5")
    assert run.wait() == 0, run.complaints
    document = run.report()
    assert [level["users"] for level in document["levels"]] == [1, 2, 3]
    assert all(level["good"] > 0 and not level["errors"] for level in document["levels"])
    assert document["knee"] is not None
    assert {one["kind"] for one in document["pictures"]} >= {"no face", "one face", "several faces", "12 megapixels"}
    assert not any("the server finds" in finding for finding in document["findings"])  # All drawn faces are found.
    assert document["triton"]["models"]["fer_preprocess"]["requests"] > 0
    assert {"FACES_FOUND", "QUALITY"} < set(document["server"]["outputs"])  # They are in every answer, or it is wrong.
    assert document["generator"]["cores"] > 0
    assert "3 users" in run.printed
    assert_counts_agree(document)


def test_a_soak_over_grpc_sends_at_the_same_time_from_a_users_folder(start, folder):
    run = start("--shape", "soak", "--protocol", "grpc", "--levels", "4", "--level-s", "4", "--pictures", folder)
    assert run.wait() == 0, run.complaints
    document = run.report()
    assert max(second["in_flight"] for second in document["seconds"]) >= 3  # gRPC lets other users go on.
    assert {one["kind"]: one["faces"] for one in document["pictures"]} == {
        "one face": [1],
        "no face": [0],
        "corrupt": [],
    }
    assert document["totals"]["good"] > 0
    assert not document["errors"]
    assert_counts_agree(document)


def test_a_spike_sheds_load_and_recovers(start, folder):
    words = ("--levels", "1,64", "--level-s", "3", "--pictures", folder, "--mix", "one=99,corrupt=1")
    run = start("--shape", "spike", "--max-error-percent", "0", *words)
    assert run.wait() == 0, f"{run.printed} {run.complaints}"  # What is shed in the spike breaks no threshold.
    document = run.report()
    before, spike, after = document["levels"]
    assert spike["errors"]["overloaded (503)"] > 0
    assert set(spike["errors"]) == {"overloaded (503)"}
    assert spike["good"] > 0
    assert not before["errors"]
    assert not after["errors"]
    assert_counts_agree(document)


def test_arrivals_over_both_protocols_and_a_threshold_that_is_broken(start):
    words = ("--rates", "12", "--level-s", "5", "--mix", "none=1,one=1,corrupt=1")
    run = start("--shape", "arrivals", "--protocol", "both", "--p50-ms", "0.5", "--max-error-percent", "0", *words)
    assert run.wait() == ExitCode.CHECK_FAILED
    assert re.search(r"BROKEN p50-ms: \S+ ms \(<= 0.5 ms\)", run.printed)
    assert "ok     max-error-percent: 0 %" in run.printed
    assert run.complaints == "fer-loadtest: broken: p50-ms\n"
    document = run.report()
    assert all(part["good"] > 0 for part in document["protocols"].values())
    assert document["kinds"]["corrupt"]["good"] > 0  # The expected 400 is a success.
    assert sum(second["sent"] for second in document["seconds"]) == pytest.approx(60, abs=20)
    assert_counts_agree(document)


def test_the_search_for_capacity_prints_it(start, folder):
    # So lenient that it is the queue's limit alone that decides, however busy this machine is.
    words = ("--p99-ms", "20000", "--max-error-percent", "99", "--tolerance-percent", "100", "--confirmations", "1")
    load = ("--rates", "40", "--level-s", "2", "--pictures", folder, "--mix", "none=1")
    run = start(*words, *load, subcommand="capacity")
    assert run.wait() == 0, f"{run.printed} {run.complaints}"
    document = run.report()
    printed = re.search(r"capacity: (\S+) images/s at p99 <= 20000 ms; held in 1 of 1 confirmations", run.printed)
    assert float(printed[1]) == pytest.approx(document["search"]["rate"], rel=0.01)
    held = {level["rate"] for level in document["levels"] if level["held"]}
    assert document["search"]["rate"] in held


def test_two_workers_share_the_load_and_one_that_is_lost_is_told(start, folder):
    run = start("--levels", "4,4", "--level-s", "5", "--processes", "2", "--pictures", folder)
    run.read_until("4 users")  # The first level is over.
    workers = psutil.Process(run.process.pid).children()
    assert len(workers) == 2
    workers[0].kill()
    assert run.wait() == 0, run.complaints
    document = run.report()
    assert re.search(r"worker \S+ was lost in second \d+", run.complaints)
    assert any("was lost" in finding for finding in document["findings"])
    assert document["generator"]["processes"] == 2
    assert all(level["good"] > 0 for level in document["levels"])
    assert max(second["in_flight"] for second in document["seconds"]) <= 4


def test_a_test_whose_workers_are_all_lost_ends_at_once_with_what_it_has(start, folder):
    run = start("--levels", "4,4", "--level-s", "60", "--processes", "1", "--pictures", folder)
    run.read_until("level ")  # The load begins.
    time.sleep(4)
    [worker] = psutil.Process(run.process.pid).children()
    worker.kill()
    began_s = time.monotonic()
    assert run.wait() == ExitCode.FAILED
    assert time.monotonic() - began_s < 50
    assert "all workers were lost" in run.complaints
    assert run.report()["levels"][0]["good"] > 0


def test_a_test_in_the_background_of_a_script_can_be_terminated(start, folder):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # As shells do; who is started inherits it.
    try:
        run = start("--levels", "2,4", "--level-s", "3", "--pictures", folder)
    finally:
        signal.signal(signal.SIGINT, before)
    run.read_until("2 users")
    run.process.terminate()
    assert run.wait() == ExitCode.INTERRUPTED


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_test_keeps_what_it_has(start, folder, how):
    run = start("--levels", "2,4", "--level-s", "3", "--pictures", folder)
    run.read_until("2 users")
    run.process.send_signal(how)
    assert run.wait() == ExitCode.INTERRUPTED
    assert "interrupted; the report has what was measured until then" in run.complaints
    document = run.report()
    assert document["is_complete"] is False
    assert document["levels"][0]["good"] > 0
    assert "report: " in run.printed


def test_no_server_no_pictures_and_wrong_servers_are_one_line_each(start, server, tmp_path):
    class UnknownModel(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404)
            self.end_headers()
            self.wfile.write(b'{"error":"Request for unknown model: \'fer\' is not found"}')

        def log_message(self, *_):
            pass

    without_model = http.server.ThreadingHTTPServer(("127.0.0.1", 0), UnknownModel)
    threading.Thread(target=without_model.serve_forever, daemon=True).start()
    metrics = server.metrics_url.removesuffix("/metrics")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "photo.jpg").write_bytes(b"\xff\xd8\xff no more")
    runs = {
        "no server answers at http://127.0.0.1:9": (ExitCode.UNREACHABLE, "--url", "http://127.0.0.1:9"),
        f"{metrics} does not serve what this client expects": (ExitCode.FAILED, "--url", metrics),
        "unknown model": (ExitCode.FAILED, "--url", f"http://127.0.0.1:{without_model.server_port}"),
        "--out /dev/null/report: no report can be written there": (ExitCode.USAGE, "--out", "/dev/null/report"),
        "has no pictures": (ExitCode.USAGE, "--pictures", tmp_path / "empty"),
        "the server refuses every picture": (ExitCode.REFUSED, "--pictures", tmp_path / "broken"),
        "--mix gives no weight to any kind": (ExitCode.USAGE, "--mix", "one=0"),
    }
    try:
        started = {expected: start("--levels", "1", *words) for expected, (_, *words) in runs.items()}
        for expected, run in started.items():
            assert run.wait() == runs[expected][0], run.complaints
            assert expected in run.complaints
            assert run.complaints.count("\n") == 1
        assert not list((tmp_path / "report").iterdir())  # Nothing that could be taken for a report.
    finally:
        without_model.shutdown()
        without_model.server_close()


def test_wrong_usage_is_2(start):
    run = start("--shape", "arrivals", "--levels", "3")
    assert run.wait() == ExitCode.USAGE
    assert "--shape arrivals takes --rates, not --levels" in run.complaints


def test_a_server_that_dies_is_counted_and_the_rest_is_kept(repository, tmp_path, folder, no_leftovers):
    from fer_serve.server import EmbeddedTriton

    with EmbeddedTriton(repository, exit_timeout_s=1) as own:
        run = Run(own, tmp_path / "report", "--levels", "2,2", "--level-s", "2", "--pictures", folder)
        run.read_until("2 users")
        time.sleep(0.5)
        own.stop()
        code = run.wait()
    document = run.report()
    assert code == 0, run.complaints
    assert document["levels"][0]["errors"] == {}
    assert set(document["levels"][1]["errors"]) <= {"unreachable", "overloaded (503)", "server failed (500)"}
    assert document["levels"][1]["errors"]["unreachable"] > 0
    assert any("counters could not be read at the end" in finding for finding in document["findings"])
