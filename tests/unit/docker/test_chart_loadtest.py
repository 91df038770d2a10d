"""The chart's load test: a hook that waits for a server, and that the real load test and the real client understand."""

import os
import subprocess
import sys

import pytest
from rendered_pods import one

from fer_commands.exit_codes import ExitCode
from fer_sizing.chart import CHART


@pytest.fixture(params=["loadtest-values.yaml", None], ids=["own", "defaults"])
def job(request, rendered):
    """With thresholds of one's own, and with the chart's."""
    return one(rendered(request.param, "loadtest.enabled=true"), "Job")


def environment_of(container):
    return {variable["name"]: variable["value"] for variable in container["env"]}


def test_a_broken_threshold_fails_the_release(job):
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
    assert job["spec"]["backoffLimit"] == 0
    (loadtest,) = job["spec"]["template"]["spec"]["containers"]
    assert loadtest["args"][:2] == ["--preset", "ci"]  # it has thresholds; without any, nothing could be broken


def test_it_waits_for_a_server_and_leaves_time_for_the_load(job):
    (wait,) = job["spec"]["template"]["spec"]["initContainers"]
    waits_s = int(wait["command"][wait["command"].index("--wait") + 1])
    assert job["spec"]["activeDeadlineSeconds"] >= waits_s + 180  # the preset takes a minute, images have to be pulled
    url = wait["command"][wait["command"].index("--url") + 1]
    (loadtest,) = job["spec"]["template"]["spec"]["containers"]
    assert environment_of(loadtest)["FER_URL"] == url == "http://fer:8000"
    assert environment_of(loadtest)["FER_GRPC_URL"] == "grpc://fer:8001"


def test_the_client_and_the_load_test_take_their_arguments(job, tmp_path):
    """Of no server, both say so; of wrong arguments they would say that, with exit code 2."""
    spec = job["spec"]["template"]["spec"]
    nowhere = {"FER_URL": "http://127.0.0.1:9", "FER_GRPC_URL": "grpc://127.0.0.1:9"}
    (wait,), (loadtest,) = spec["initContainers"], spec["containers"]
    assert wait["command"][0] == "fer-client"
    words = [nowhere["FER_URL"] if word == "http://fer:8000" else word for word in wait["command"][1:]]
    words[words.index("--wait") + 1] = "1"
    done = run(["-m", "fer_client", *words], os.environ, tmp_path)
    assert "127.0.0.1:9" in done.stderr
    assert done.returncode not in (0, 2)
    done = run(["-m", "fer_loadtest", *loadtest["args"]], os.environ | environment_of(loadtest) | nowhere, tmp_path)
    assert "no server answers at" in done.stderr
    assert done.returncode == ExitCode.UNREACHABLE


def run(words, environment, folder):
    command = [sys.executable, *words]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120)


def test_the_metrics_that_only_prometheus_may_read_are_not_asked_for(job):
    (loadtest,) = job["spec"]["template"]["spec"]["containers"]
    assert environment_of(loadtest)["FER_METRICS_URL"] == "none"


def test_the_values_say_how_long_helm_has_to_wait():
    """helm gives a hook five minutes, which is less than this may take."""
    text = (CHART / "values.yaml").read_text()
    assert "--timeout above deadlineSeconds" in text
