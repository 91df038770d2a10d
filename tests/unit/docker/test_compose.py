"""compose.yaml and the examples beside the chart: what they name exists, and they keep to the chart's rules."""

import json
import os
import re
import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml
from rendered_pods import of_kind, one

from fer_sizing.chart import CHART

DOCKER = CHART.parents[1]
EXAMPLES = DOCKER / "kubernetes"


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())


def documents(name):
    return list(yaml.safe_load_all((EXAMPLES / name).read_text()))


def test_every_service_is_restricted_and_limited(compose):
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        assert service["logging"]["options"]["max-size"], name


def test_images_have_a_version_and_can_be_given_by_digest(compose):
    for name, service in compose["services"].items():
        assert re.fullmatch(r"\$\{[A-Z_]+_IMAGE:-[\w./-]+:v?\d[\w.-]*\}", service["image"]), name


def test_the_images_of_ours_are_the_chart_s(compose, rendered):
    deployment = one(rendered("cpu-values.yaml"), "Deployment")
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert f":-{image}}}" in compose["services"]["cpu"]["image"]
    job = one(rendered("loadtest-values.yaml"), "Job")["spec"]["template"]["spec"]
    assert f":-{job['containers'][0]['image']}}}" in compose["services"]["loadtest"]["image"]


def test_nothing_is_reachable_from_other_machines_unless_asked_for(compose):
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 8
    assert all(port.startswith("${FER_BIND:-127.0.0.1}:") for port in ports)


def test_mounted_files_exist(compose):
    volumes = [volume for service in compose["services"].values() for volume in service.get("volumes", [])]
    files = [volume.split(":")[0] for volume in volumes if volume.startswith("./")]
    assert len(files) >= 5
    for file in files:
        assert (DOCKER / file).exists(), file
    named = {volume.split(":")[0] for volume in volumes if not volume.startswith("./")}
    assert named == set(compose["volumes"])


@pytest.mark.parametrize(("profile", "server"), [("cpu", "cpu"), ("gpu", "gpu"), ("loadtest", None)])
def test_docker_compose_takes_it(docker_compose, compose, profile, server):
    command = [*docker_compose, "--file", DOCKER / "compose.yaml", "--profile", profile, "config", "--format", "json"]
    settings = {"FER_BIND": "0.0.0.0", "FER_CPUSET": "0-3", "GRAFANA_PASSWORD": "another"}
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nor does it warn of a variable that is not set
    services = json.loads(done.stdout)["services"]
    assert services.keys() == {n for n, s in compose["services"].items() if profile in s.get("profiles", [profile])}
    assert services["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == "another"
    if server:
        assert services[server]["cpuset"] == "0-3"
        assert {port["host_ip"] for port in services[server]["ports"]} == {"0.0.0.0"}


def test_either_profile_has_a_server_that_prometheus_finds(compose):
    services = compose["services"]
    scraped = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    (fer,) = [job for job in scraped if job["job_name"] == "fer-triton"]
    for profile in ("cpu", "gpu"):
        servers = [s for s in services.values() if profile in s.get("profiles", []) and "healthcheck" in s]
        assert [server["networks"]["default"]["aliases"] for server in servers] == [["fer"]]
        assert servers[0]["shm_size"]
        assert servers[0]["user"] == "10001:10001"
    assert fer["static_configs"] == [{"targets": ["fer:8002"]}]
    assert not services["prometheus"].get("profiles")


def test_a_gpu_server_waits_for_its_plan(compose):
    gpu, prepare = compose["services"]["gpu"], compose["services"]["gpu-prepare"]
    assert gpu["depends_on"] == {"gpu-prepare": {"condition": "service_completed_successfully"}}
    assert gpu["deploy"]["resources"]["reservations"] == prepare["deploy"]["resources"]["reservations"]
    assert "models:/models:ro" in gpu["volumes"]
    assert prepare["environment"]["FER_PLAN_CACHE"] == "/plans"


def test_prometheus_takes_the_configuration(tmp_path):
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    config = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())
    (rules,) = config["rule_files"]
    config["rule_files"] = [str(CHART / "files" / rules.rsplit("/", 1)[1])]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    done = subprocess.run([promtool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_finds_its_dashboard_and_its_data(compose):
    provisioning = DOCKER / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "fer-triton.yaml").read_text())["providers"]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    mounts = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    assert any(mount.startswith(provider["options"]["path"] + "/") for mount in mounts)
    assert compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in mounts
    assert source["url"] == "http://prometheus:9090"
    dashboard = (CHART / "files" / "dashboard.json").read_text()
    uids = {uid for uid in re.findall(r'"uid": "([^"]+)"', dashboard) if json.loads(dashboard)["uid"] != uid}
    assert all(uid.startswith("$") or uid in (source["uid"], "-- Grafana --") for uid in uids), uids


def test_the_gateway_s_policies_are_for_the_chart_s_routes(rendered):
    routes = {
        (r["kind"], r["metadata"]["name"]) for r in of_kind(rendered("gateway-values.yaml"), "HTTPRoute", "GRPCRoute")
    }
    gateway, *policies = documents("gateway-envoy.yaml")
    targets = {policy["kind"]: {(t["kind"], t["name"]) for t in policy["spec"]["targetRefs"]} for policy in policies}
    assert targets["SecurityPolicy"] == routes  # no way in without a token
    assert targets["BackendTrafficPolicy"] <= routes
    listeners = gateway["spec"]["listeners"]
    assert {(listener["protocol"], listener["tls"]["mode"]) for listener in listeners} == {("HTTPS", "Terminate")}
    for kind in ("HTTPRoute", "GRPCRoute"):
        route = one(rendered("gateway-values.yaml"), kind)["spec"]
        assert route["parentRefs"] == [
            {"name": gateway["metadata"]["name"], "namespace": gateway["metadata"]["namespace"]}
        ]
        assert set(route["hostnames"]) <= {listener["hostname"] for listener in listeners}


def test_the_ingress_uses_the_middlewares_of_the_example(rendered):
    annotation = one(rendered("ingress-values.yaml"), "Ingress")["metadata"]["annotations"]
    used = annotation["traefik.ingress.kubernetes.io/router.middlewares"].split(",")
    made = {
        f"{m['metadata']['namespace']}-{m['metadata']['name']}@kubernetescrd" for m in documents("ingress-traefik.yaml")
    }
    assert set(used) == made


def test_no_way_in_takes_a_smaller_or_much_larger_body_than_an_image_may_have(repository_root):
    config = (repository_root / "triton_models" / "fer_preprocess" / "config.pbtxt").read_text()
    largest = int(re.search(r'"max_image_bytes"\s+value { string_value: "(\d+)"', config)[1])
    (middleware,) = [m for m in documents("ingress-traefik.yaml") if "buffering" in m["spec"]]
    (policy,) = [p for p in documents("gateway-envoy.yaml") if p["kind"] == "BackendTrafficPolicy"]
    limits = [middleware["spec"]["buffering"]["maxRequestBodyBytes"]]
    limits.append(int(policy["spec"]["requestBuffer"]["limit"].removesuffix("Mi")) * 2**20)
    assert all(largest < limit <= 1.1 * largest for limit in limits)


def test_kserve_s_pods_would_be_accepted_and_keep_to_the_rules():
    *runtimes, service = documents("kserve.yaml")
    assert {runtime["kind"] for runtime in runtimes} == {"ServingRuntime"}
    for runtime in runtimes:
        spec = {key: runtime["spec"][key] for key in ("containers", "volumes")}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}
        kubernetes_validate.validate(pod, "1.37", strict=True)
        (container,) = spec["containers"]
        assert container["name"] == "kserve-container"
        assert container["securityContext"]["runAsUser"] == 10001
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
        assert re.search(r":\d[\w.-]*$", container["image"])
        if container.get("command"):  # the GPU's: with the administrative APIs locked, as in the chart
            assert "exec sh /usr/local/bin/serve_gpu.sh" in container["args"][0]
    predictor = service["spec"]["predictor"]
    assert predictor["automountServiceAccountToken"] is False
    assert predictor["model"]["runtime"] in {runtime["metadata"]["name"] for runtime in runtimes}
    formats = {format["name"] for runtime in runtimes for format in runtime["spec"]["supportedModelFormats"]}
    assert predictor["model"]["modelFormat"]["name"] in formats
