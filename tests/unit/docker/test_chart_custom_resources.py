"""Resources of other projects, of which Kubernetes has no schema: that they hang together.

docker/kubernetes/check_custom_kinds.py checks their fields; see docker/README.md.
"""

import json

import yaml
from rendered_pods import of_kind, one, server_of

from fer_contract import FER_CROPPED_MODEL, FER_MODEL
from fer_sizing.chart import CHART

GATEWAY = "gateway-values.yaml"
INGRESS = "ingress-values.yaml"


def test_what_is_scraped_is_what_the_server_opens(rendered):
    manifests = rendered("gpu-values.yaml")
    spec = one(manifests, "PodMonitor")["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    ports = {port["name"]: port["containerPort"] for port in server_of(one(manifests, "Deployment"))["ports"]}
    assert ports[endpoint["port"]] == 8002
    assert endpoint["interval"] == "15s"
    pod = one(manifests, "Deployment")["spec"]["template"]["metadata"]
    assert pod["labels"][spec["jobLabel"]] == "fer-triton"  # the job that rules and dashboard look for
    assert one(manifests, "PodMonitor")["metadata"]["labels"]["release"] == "prometheus"


def test_the_rules_are_the_file_s(rendered):
    rules = one(rendered("gpu-values.yaml"), "PrometheusRule")
    assert rules["apiVersion"] == "monitoring.coreos.com/v1"
    assert rules["spec"] == yaml.safe_load((CHART / "files" / "prometheus-rules.yaml").read_text())


def test_the_dashboard_is_the_file_s(rendered):
    (config,) = [
        c for c in of_kind(rendered("gpu-values.yaml"), "ConfigMap") if c["metadata"]["name"] == "fer-dashboard"
    ]
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    dashboard = json.loads(config["data"]["fer-triton.json"])
    assert dashboard == json.loads((CHART / "files" / "dashboard.json").read_text())


def test_only_inference_metadata_and_health_are_public(rendered):
    route = one(rendered(GATEWAY), "HTTPRoute")["spec"]
    matches = [match["path"] for rule in route["rules"] for match in rule["matches"]]
    assert {match["type"] for match in matches} == {"Exact"}
    paths = {match["value"] for match in matches}
    models = {path.split("/")[3] for path in paths if path.startswith("/v2/models/")}
    assert models == {FER_MODEL, FER_CROPPED_MODEL}
    assert not any(
        word in path for path in paths for word in ("repository", "trace", "logging", "sharedmemory", "stats")
    )
    (rule,) = one(rendered(INGRESS), "Ingress")["spec"]["rules"]
    assert {path["path"] for path in rule["http"]["paths"]} == paths
    assert {path["pathType"] for path in rule["http"]["paths"]} == {"Exact"}


def test_a_rule_of_a_route_has_no_more_matches_than_every_gateway_takes(rendered):
    for route in of_kind(rendered(GATEWAY), "HTTPRoute", "GRPCRoute"):
        assert all(1 <= len(rule["matches"]) <= 8 for rule in route["spec"]["rules"])


def test_grpc_is_limited_to_the_inference_service(rendered):
    (rule,) = one(rendered(GATEWAY), "GRPCRoute")["spec"]["rules"]
    methods = [match["method"] for match in rule["matches"]]
    assert {method["service"] for method in methods} == {"inference.GRPCInferenceService"}
    assert {method["method"] for method in methods} == {
        "ModelConfig",
        "ModelInfer",
        "ModelMetadata",
        "ModelReady",
        "ServerLive",
        "ServerMetadata",
        "ServerReady",
    }


def test_routes_lead_to_the_service(rendered):
    manifests = rendered(GATEWAY)
    ports = {
        p["port"]: p["name"]
        for p in one([m for m in manifests if m["metadata"]["name"] == "faces"], "Service")["spec"]["ports"]
    }
    for kind, port in (("HTTPRoute", 8000), ("GRPCRoute", 8001)):
        for rule in one(manifests, kind)["spec"]["rules"]:
            assert rule["backendRefs"] == [{"name": "faces", "port": port}]
            assert port in ports


def test_there_is_no_way_in_without_tls(rendered):
    (tls,) = one(rendered(INGRESS), "Ingress")["spec"]["tls"]
    assert tls == {"hosts": ["faces.example.com"], "secretName": "faces-example-com"}


def test_an_autoscaler_scales_a_deployment_that_exists(rendered):
    for values in ("hpa-values.yaml", "keda-values.yaml", "gpu-pools-values.yaml"):
        manifests = rendered(values)
        deployments = {d["metadata"]["name"] for d in of_kind(manifests, "Deployment")}
        for scaler in of_kind(manifests, "HorizontalPodAutoscaler", "ScaledObject"):
            assert scaler["spec"]["scaleTargetRef"]["name"] in deployments
