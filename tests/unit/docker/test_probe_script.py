"""scripts/probe.py against the real Triton: alive, half dead, busy, gone."""

import concurrent.futures
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
import tritonclient.http
from pictures import image_tensor
from PIL import Image

from fer_contract import FER_MODEL
from fer_serve import probe as serve_probe
from fer_serve.server import EmbeddedTriton
from fer_sizing.chart import CHART

SCRIPT = CHART / "scripts" / "probe.py"


def run_probe(url, repository, script=SCRIPT):
    command = [sys.executable, "-I", "-S", script, "--url", f"http://{url}", "--manifest", repository / "manifest.json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def stub_of(server, model):
    """The process of one instance of a Python model."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        if words[0].endswith("tritonserver") and f"--http-port={server.ports.http}" in words:
            stubs = [
                child for child in process.children() if any(f"/{model}/1/model.py" in word for word in child.cmdline())
            ]
            return stubs[0]
    raise AssertionError("the server's process was not found")


def test_a_living_server_passes_quickly(server, repository):
    started = time.monotonic()
    done = run_probe(server.http_url, repository)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("model", ["fer_preprocess", "fer_classifier"])
def test_one_dead_process_of_several_is_noticed_while_triton_says_ready(repository, no_leftovers, model):
    with EmbeddedTriton(repository, exit_timeout_s=1) as server:
        assert run_probe(server.http_url, repository).returncode == 0
        stub_of(server, model).send_signal(signal.SIGKILL)
        time.sleep(0.5)
        with tritonclient.http.InferenceServerClient(server.http_url) as client:
            assert client.is_server_ready()
        done = run_probe(server.http_url, repository)
        assert done.returncode == 1
        assert done.stderr.startswith("probe: fer")
        assert "is not healthy" in done.stderr


def test_a_busy_server_passes(server, repository):
    """Otherwise an overload would end in restarts."""
    picture = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8)
    Image.fromarray(noise).save(picture, "JPEG", quality=80)
    refusals, stop = [], threading.Event()

    def keep_asking():
        with tritonclient.http.InferenceServerClient(server.http_url, network_timeout=60) as client:
            image = image_tensor(tritonclient.http, picture.getvalue())
            while not stop.is_set():
                try:
                    client.infer(FER_MODEL, [image])
                except tritonclient.http.InferenceServerException as error:
                    refusals.append(str(error))
                    time.sleep(0.01)

    with concurrent.futures.ThreadPoolExecutor(48) as pool:
        asking = [pool.submit(keep_asking) for _ in range(48)]
        try:
            deadline = time.monotonic() + 60
            while not refusals and time.monotonic() < deadline:
                time.sleep(0.05)
            done = run_probe(server.http_url, repository)
        finally:
            stop.set()
        for future in asking:
            future.result()
    assert any("Exceeds maximum queue size" in refusal for refusal in refusals)
    assert done.returncode == 0, done.stderr


def test_no_server_fails_in_one_line(tmp_path, repository):
    done = run_probe("127.0.0.1:9", repository)
    assert done.returncode == 1
    assert done.stderr.startswith("probe: no proper answer")
    assert done.stderr.count("\n") == 1


def test_a_missing_repository_fails(server, tmp_path):
    done = run_probe(server.http_url, tmp_path)
    assert done.returncode == 1
    assert "manifest.json" in done.stderr


def test_it_judges_as_the_supervisor_does(repository):
    """fer_serve.probe and the script are written twice, because the script must start without any package."""
    namespace = {"__name__": "probe"}
    exec(SCRIPT.read_text(), namespace)
    assert namespace["BUSY"] == serve_probe._OVERLOADED
    assert namespace["MODELS"] == serve_probe._EXPECTED_ROWS
    assert namespace["HEADER"].encode("latin-1") == serve_probe._HEADER
    instances = json.loads((repository / "manifest.json").read_text())["instances"]
    assert namespace["count_instances"](os.fspath(repository / "manifest.json")) == max(instances.values())
