"""A real Prometheus scrapes a real server under load: rules and the dashboard's queries return data, the figures are
those that clients saw, and what breaks the server raises the alert that is meant for it."""

import io
import json
import math
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import tritonclient.grpc
import yaml
from bad_files import BAD_FILES
from pictures import contact_sheet, encode, image_tensor
from PIL import Image
from tritonclient.utils import InferenceServerException

from fer_contract import FER_CROPPED_MODEL, FER_MODEL, PREPROCESS_MODEL
from fer_serve.server import EmbeddedTriton

PROMETHEUS = shutil.which("prometheus", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/bin"]))
pytestmark = [
    pytest.mark.skipif(PROMETHEUS is None, reason="no prometheus: apt-get install --no-install-recommends prometheus"),
    pytest.mark.timeout(300),
]

FILES = Path(__file__).resolve().parents[2] / "docker" / "helm" / "fer-triton" / "files"
RULES = FILES / "prometheus-rules.yaml"
GROUPS = yaml.safe_load(RULES.read_text())["groups"]
RECORDS = [rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule]
PANELS = json.loads((FILES / "dashboard.json").read_text())["panels"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel.get("targets", [])]

# What a query must name to be allowed, and then expected, to return nothing here.
NO_DATA_HERE = {
    "nv_gpu_": "there is no GPU",
    "rate6h_offset30m": "it is about what was half an hour ago (see faces.test.yaml)",
}
GRAFANA_VARIABLES = {"$namespace": ".*", "$instance": ".*", "$__rate_interval": "5m"}

Sample = dict[str, str]


class TritonWithQuantiles(EmbeddedTriton):
    """Reports what the panel draws that shows quantiles where there are any."""

    def _flags(self, backends: Path) -> list[str]:
        return [*super()._flags(backends), "--metrics-config=summary_latencies=true"]


class Prometheus:
    """A Prometheus process of our own with the shipped rules, scraping every other second."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self._targets = folder / "targets.json"
        self.scrape()
        config = {
            "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "fer-triton", "file_sd_configs": [{"files": [str(self._targets)]}]}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        flags = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        self._log = (folder / "prometheus.log").open("w")
        self._process = subprocess.Popen(
            [str(PROMETHEUS), *flags, f"--web.listen-address={address}"], stdout=self._log, stderr=subprocess.STDOUT
        )
        self._url = f"http://{address}"

    def scrape(self, *servers: EmbeddedTriton) -> None:
        """From now on, scrapes these; Prometheus notices the new file by itself."""
        addresses = [f"127.0.0.1:{server.ports.metrics}" for server in servers]
        aside = self._targets.with_suffix(".new")
        aside.write_text(json.dumps([{"targets": addresses}]))
        aside.replace(self._targets)

    def query(self, expr: str) -> list[tuple[Sample, float]]:
        """Labels and value of each sample that is a number."""
        for variable, value in GRAFANA_VARIABLES.items():
            expr = expr.replace(variable, value)
        found = self._get("query", query=expr)["result"]
        samples = [(sample["metric"], float(sample["value"][1])) for sample in found]
        return [(labels, value) for labels, value in samples if not math.isnan(value)]

    def value(self, expr: str) -> float:
        """Of the only sample. There is none while a busy server misses a scrape."""
        ((_, value),) = wait_until(lambda: self.query(expr))
        return value

    def alerts(self) -> dict[str, dict[str, Any]]:
        """Those whose condition holds, by name: pending, or firing already."""
        return {alert["labels"]["alertname"]: alert for alert in self._get("alerts")["alerts"]}

    def is_ready(self) -> bool:
        assert self._process.poll() is None, Path(self._log.name).read_text()
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready"):
                return True
        except urllib.error.URLError:
            return False

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()

    def _get(self, what: str, **parameters: str) -> Any:
        with urllib.request.urlopen(f"{self._url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}") as answer:
            return json.load(answer)["data"]


class Observed:
    """A server under load, and the Prometheus that watches it."""

    def __init__(self, server: EmbeddedTriton, prometheus: Prometheus) -> None:
        self.server = server
        self.prometheus = prometheus
        self.seen: Counter[str] = Counter()
        """What clients got: `answered`, `refused`, `turned away` or the message."""
        self.probes = prometheus.value(over_totals("job:fer_requests_answered:rate5m"))
        """Requests by which the server was proved alive at its start."""

    def send(self, images: list[tuple[str, bytes]], at_once: int) -> None:
        """Sends (model, image file) pairs, so many at a time, and notes what comes back."""
        with (
            tritonclient.grpc.InferenceServerClient(self.server.grpc_url) as client,
            ThreadPoolExecutor(at_once) as senders,
        ):
            self.seen.update(senders.map(lambda pair: _outcome(client, *pair), images))

    def stubs(self, model: str) -> list[psutil.Process]:
        """The Python processes behind a model."""
        of_server = str(self.server.ports.metrics)
        (triton,) = [
            process
            for process in psutil.Process().children(recursive=True)
            if process.name() == "tritonserver" and any(of_server in word for word in process.cmdline())
        ]
        return [stub for stub in triton.children() if any(f"/{model}/" in word for word in stub.cmdline())]


def _outcome(client: tritonclient.grpc.InferenceServerClient, model: str, image: bytes) -> str:
    try:
        client.infer(model, [image_tensor(tritonclient.grpc, image)])
        return "answered"
    except InferenceServerException as error:
        named = {"StatusCode.INVALID_ARGUMENT": "refused", "StatusCode.UNAVAILABLE": "turned away"}
        return named.get(str(error.status()), str(error))


def wait_until(condition: Callable[[], Any], timeout_s: float = 60) -> Any:
    """What `condition` returns as soon as that is true."""
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.25)
    return result


@pytest.fixture(scope="module")
def observed(repository: Path, astronaut: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """A server of this module's own, because its stubs are killed; it has answered a mixed load."""
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"))
    try:
        wait_until(prometheus.is_ready)
        with TritonWithQuantiles(repository, exit_timeout_s=2) as server:
            prometheus.scrape(server)
            wait_until(lambda: prometheus.query("job:fer_requests:rate5m"))
            observed = Observed(server, prometheus)
            observed.send(mixed_images(astronaut), at_once=2)
            yield observed
    finally:
        prometheus.stop()


def mixed_images(astronaut: bytes) -> list[tuple[str, bytes]]:
    """Photos with one face, with many and without any, crops, and files that are no images."""
    face = Image.open(Path(__file__).resolve().parents[2] / "examples" / "astronaut.png").convert("RGB")
    crowd = encode(contact_sheet(face.crop((140, 0, 330, 210)), columns=3, rows=2), "JPEG")
    nobody = encode(Image.linear_gradient("L"), "PNG")
    small = [
        BAD_FILES[kind](astronaut) for kind in ("empty", "random", "JPEG cut to 50.0%", "PNG over the pixel limit")
    ]
    each = [(FER_MODEL, astronaut)] * 6 + [(FER_MODEL, crowd), (FER_MODEL, nobody), (FER_CROPPED_MODEL, astronaut)]
    return (each + [(FER_MODEL, bad) for bad in small]) * 10 + [(FER_CROPPED_MODEL, small[1])] * 5


def expects_nothing(expr: str) -> bool:
    return any(name in expr for name in NO_DATA_HERE)


def has_settled(observed: Observed) -> bool:
    """Whether all that clients have seen has reached Prometheus: Triton's counters, and ours, which lag behind them."""
    requests = observed.prometheus.value(over_totals("job:fer_requests:rate5m")) - observed.probes
    refused = observed.prometheus.value(over_totals("job:fer_requests_refused:rate5m"))
    return requests >= observed.seen.total() and refused >= observed.seen["refused"]


def over_totals(record: str) -> str:
    """The expression of a recording rule, and of those that it is made of, over totals instead of rates."""
    expr = next(rule["expr"] for group in GROUPS for rule in group["rules"] if rule.get("record") == record)
    expr = expr.replace("rate(", "(").replace("[5m]", "")
    return re.sub("|".join(map(re.escape, RECORDS)), lambda name: f"({over_totals(name[0])})", expr)


def test_a_load_that_the_server_can_take_raises_no_alarm(observed):
    wait_until(lambda: has_settled(observed))
    assert set(observed.seen) == {"answered", "refused"}

    def alarms() -> set[str]:  # how fast this machine is, is not the question
        return {name for name in observed.prometheus.alerts() if "Latency" not in name and "Queue" not in name}

    wait_until(lambda: not alarms(), timeout_s=20)


def test_requests_are_counted_as_clients_saw_them(observed, astronaut):
    """Triton counts failed requests of an ensemble twice and does not say why; the rules make figures of it."""
    at_once = observed.server.instances + 60  # 32 may wait
    with Image.open(io.BytesIO(astronaut)) as image:  # large, lest they be answered as fast as they come
        photo = encode(image.convert("RGB").resize((3000, 3000)), "JPEG")
    observed.send([(FER_MODEL, photo)] * (2 * at_once), at_once)
    assert set(observed.seen) == {"answered", "refused", "turned away"}
    wait_until(lambda: has_settled(observed))

    def total(record: str) -> float:
        return observed.prometheus.value(over_totals(record))

    assert total("job:fer_requests_shed:rate5m") == observed.seen["turned away"]
    assert total("job:fer_requests_answered:rate5m") == observed.seen["answered"] + observed.probes
    assert total("job:fer_requests_refused:rate5m") == observed.seen["refused"]
    assert total("job:fer_requests_broken:rate5m") == 0
    wait_until(lambda: {"FerRequestsShed", "FerRequestsShedHeavily"} <= set(observed.prometheus.alerts()))


def test_the_time_of_the_steps_adds_up_to_the_answer_time(observed):
    """So that the stacked panel may be read as one."""
    per_image = "rate(nv_inference_request_duration_us{{model=~'{}'}}[5m])"
    steps = observed.prometheus.value(f"sum({per_image.format('fer_(preprocess|classifier|postprocess)')})")
    assert steps == pytest.approx(observed.prometheus.value(f"sum({per_image.format('fer')})"), rel=0.25)


def test_a_dead_stub_raises_the_alarm_while_the_server_says_that_it_is_ready(observed, astronaut):
    for stub in observed.stubs(PREPROCESS_MODEL):
        stub.kill()
    observed.send([(FER_MODEL, astronaut)] * 10, at_once=5)
    wait_until(lambda: {"FerBackendFailing", "FerRequestsFailing"} <= set(observed.prometheus.alerts()))
    alarm = observed.prometheus.alerts()["FerBackendFailing"]
    assert alarm["labels"]["model"] == PREPROCESS_MODEL
    assert alarm["labels"]["instance"] == f"127.0.0.1:{observed.server.ports.metrics}"
    assert alarm["annotations"]["summary"].startswith(f"Model {PREPROCESS_MODEL} on 127.0.0.1:")
    with urllib.request.urlopen(f"http://{observed.server.http_url}/v2/health/ready") as answer:
        assert answer.status == 200


@pytest.mark.parametrize("record", RECORDS)
def test_each_recording_rule_returns_data(observed, record):
    if expects_nothing(record):
        assert not observed.prometheus.query(record)
    else:
        assert wait_until(lambda: observed.prometheus.query(record))


@pytest.mark.parametrize(("title", "expr"), QUERIES)
def test_each_query_of_the_dashboard_returns_data(observed, title, expr):
    if expects_nothing(expr):
        assert not observed.prometheus.query(expr)
    else:
        assert wait_until(lambda: observed.prometheus.query(expr))


def test_a_server_that_is_gone_raises_the_alarm(observed):
    observed.server.stop()
    wait_until(lambda: "FerServerDown" in observed.prometheus.alerts())
    observed.prometheus.scrape()
    wait_until(lambda: "FerServerAbsent" in observed.prometheus.alerts())


def test_a_server_that_answers_nobody_raises_the_alarm(observed, repository, astronaut):
    prometheus = observed.prometheus
    with EmbeddedTriton(repository, exit_timeout_s=2) as another:
        prometheus.scrape(another)
        wait_until(lambda: prometheus.query(f'up{{instance="127.0.0.1:{another.ports.metrics}"}} == 1'))
        broken = Observed(another, prometheus)
        for stub in broken.stubs(PREPROCESS_MODEL):
            stub.kill()
        for _ in range(3):
            broken.send([(FER_MODEL, astronaut)] * 4, at_once=4)
            time.sleep(1)
        alarm = wait_until(lambda: prometheus.alerts().get("FerNoAnswers"))
    assert alarm["labels"]["model"] == FER_MODEL
    assert alarm["annotations"]["summary"].startswith("Model fer on 127.0.0.1:")
