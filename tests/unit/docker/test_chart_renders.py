"""The chart with a real helm: every ci/ values file is linted, rendered, and valid against Kubernetes' own schemas."""

import re
import subprocess

import kubernetes_validate
import pytest
import yaml
from rendered_pods import of_kind, one

from fer_sizing.chart import CHART

CI_VALUES = sorted(path.name for path in (CHART / "ci").glob("*.yaml"))

SUPPORTED = ("1.35", "1.37")
"""The oldest and the newest Kubernetes that the installed kubernetes-validate has schemas for."""

CUSTOM = {"GRPCRoute", "HTTPRoute", "PodMonitor", "PrometheusRule", "ScaledObject"}
"""Kinds of other projects: Kubernetes has no schema of them. test_chart_custom_resources.py looks at them."""


@pytest.mark.parametrize("values", CI_VALUES)
def test_helm_lint_finds_nothing(helm, values):
    done = subprocess.run(
        [helm, "lint", "--strict", CHART, "--values", CHART / "ci" / values], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", SUPPORTED)
def test_every_manifest_is_valid(manifests, version):
    assert manifests
    for manifest in manifests:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_validation_would_find_a_misspelt_field(rendered):
    deployment = yaml.safe_load(yaml.safe_dump(one(rendered("cpu-values.yaml"), "Deployment")))
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(deployment, SUPPORTED[-1], strict=True)


def test_every_template_is_rendered_by_some_values(rendered):
    kinds = {manifest["kind"] for values in CI_VALUES for manifest in rendered(values)}
    templates = "".join(path.read_text() for path in (CHART / "templates").rglob("*.yaml"))
    written = {line.split()[1] for line in templates.splitlines() if line.startswith("kind:")}
    assert kinds == written


def test_names_are_unique(manifests):
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(names) == len(set(names))


def test_everything_is_labelled(manifests):
    for manifest in manifests:
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "fer-triton"
        assert labels["app.kubernetes.io/instance"] == "fer"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"


def test_the_chart_s_version_is_the_project_s(repository_root):
    project = (repository_root / "pyproject.toml").read_text()
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert re.findall(r'^(?:name|version) = "(.*)"', project, re.MULTILINE) == [chart["name"], chart["appVersion"]]


def test_pools_share_what_is_common_and_keep_what_is_their_own(rendered):
    manifests = rendered("gpu-pools-values.yaml")
    by_name = {d["metadata"]["name"]: d["spec"]["template"]["spec"] for d in of_kind(manifests, "Deployment")}
    assert set(by_name) == {"fer-l4", "fer-h100", "fer-mig"}
    limits = {name: spec["containers"][0]["resources"]["limits"] for name, spec in by_name.items()}
    assert limits["fer-l4"]["cpu"] == "16"
    assert limits["fer-h100"]["cpu"] == "48"
    assert limits["fer-mig"]["cpu"] == "4"  # the chart's own
    assert limits["fer-h100"]["nvidia.com/gpu"] == limits["fer-mig"]["nvidia.com/mig-1g.10gb"] == "1"
    assert all(spec["tolerations"] == by_name["fer-l4"]["tolerations"] for spec in by_name.values())
    assert {s["metadata"]["name"] for s in of_kind(manifests, "ScaledObject")} == {"fer-l4", "fer-h100"}
    replicas = {d["metadata"]["name"]: d["spec"].get("replicas") for d in of_kind(manifests, "Deployment")}
    assert replicas == {"fer-l4": None, "fer-h100": None, "fer-mig": 3}  # where one scales, nobody else says how many


def test_deployments_of_pools_do_not_select_each_other_s_pods(rendered):
    deployments = of_kind(rendered("gpu-pools-values.yaml"), "Deployment")
    for deployment in deployments:
        selector = deployment["spec"]["selector"]["matchLabels"].items()
        chosen = [d for d in deployments if selector <= d["spec"]["template"]["metadata"]["labels"].items()]
        assert chosen == [deployment]
