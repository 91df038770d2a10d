"""What can work is not refused: it is rendered, valid to Kubernetes, and in the pod where it belongs."""

import kubernetes_validate
import pytest
import yaml
from rendered_pods import containers, mounts_of, of_kind, one, pod_specs, server_of, volumes_of

from fer_sizing.chart import render

CUSTOM = {"GRPCRoute", "HTTPRoute", "PodMonitor", "PrometheusRule", "ScaledObject"}
HEX = "5" * 64

ACCEPTED = [
    "extraEnv: [{name: OMP_NUM_THREADS, value: '1'}, {name: _a, value: ''}]",
    "extraEnv: [{name: A, valueFrom: {secretKeyRef: {name: a, key: b.c, optional: true}}}]",
    "extraEnv: [{name: A, valueFrom: {configMapKeyRef: {name: a.b, key: c}}}]",
    "extraEnv: [{name: A, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]",
    "extraEnv: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}]",
    "resources: {memory: 4096Mi, ephemeralStorage: 1.5Gi}",
    "resources: {memory: '4294967296'}",
    "resources: {memory: 4194304Ki}",
    "resources: {memory: 0.5Ti, cpu: 128}",
    "{sharedMemory: 1Gi, resources: {memory: 1Gi}}",
    "{sharedMemory: 64Mi, resources: {memory: 512Mi, cpu: 1}}",
    "resources: {ephemeralStorage: null}",
    "loadtest: {enabled: true, resources: {cpu: 500m}}",
    "loadtest: {enabled: true, resources: {cpu: 0.5}}",
    "loadtest: {enabled: true, resources: {cpu: '1.5'}}",
    "replicas: 0",
    "autoscaling: {enabled: true, kind: keda, minReplicas: 1, maxReplicas: 3}",
    "rollout: {maxSurge: 25%, maxUnavailable: 0}",
    "rollout: {maxSurge: 200%, maxUnavailable: 100%}",
    "podDisruptionBudget: {maxUnavailable: 50%}",
    "metrics: {podMonitor: {enabled: true, interval: 1m30s}}",
    "nodeSelector: {kubernetes.io/arch: null, gpu: 'true', nvidia.com/gpu.product: NVIDIA-L4, empty: ''}",
    "commonLabels: {team: vision, example.com/cost-centre: '42'}",
    "podAnnotations: {prometheus.io/scrape: 'true', note: 'any text at all: even this'}",
    "tolerations: [{operator: Exists}, {key: a, operator: Exists, effect: NoSchedule}, {key: a, value: b}]",
    "tolerations: [{key: a, operator: Exists, value: '', effect: NoExecute, tolerationSeconds: 60}]",
    "affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: "
    "{matchExpressions: [{key: a, operator: In, values: ['1']}]}}]}}",
    f"images: {{server: {{repository: 'localhost:5000/a/b_c', tag: 0.1.0_x, digest: 'sha256:{HEX}'}}}}",
    "images: {pullSecrets: [{name: registry}]}",
    f"models: {{source: oci, oci: {{reference: 'r.example.com:5000/m@sha256:{HEX}'}}}}",
    "models: {source: s3, path: fer/2026..11, s3: {bucket: my.models-1}}",
    "ingress: {enabled: true, host: '*.example.com', tlsSecretName: a.b}",
    "gateway: {enabled: true, parentRefs: [{name: a, namespace: b, port: 443}], hostnames: [a.b]}",
    "networkPolicy: {allowFrom: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}, {podSelector: {}}]}",
    "networkPolicy: {extraEgress: [{ports: [{port: otlp}, {port: 4000, endPort: 4010}]}, {to: [{podSelector: {}}]}]}",
    "pools: {a: {sharedMemory: 2Gi}, b: null, '1': {}, 'on': {}}",
    "{serviceAccount: {name: '123'}, priority: {className: '1e3'}, ingress: {className: 'on', tlsSecretName: '7'}}",
    "models: {source: pvc, pvc: {claimName: '2026'}}",
    "models: {source: s3, s3: {bucket: '2026', secretName: '123', region: 'no'}}",
    "{variant: gpu, gpu: {runtimeClassName: '1'}, planCache: {create: true, storageClassName: 'on'}}",
    "{variant: gpu, planCache: {create: true, size: '1073741824'}}",
    "{rollout: {progressDeadlineSeconds: 604800}, loadtest: {enabled: true, deadlineSeconds: 604800}}",
    "probes: {startup: {periodSeconds: 604800, failureThreshold: 100000}}",
    "dnsConfig: {nameservers: [10.0.0.10], searches: [a.b], options: [{name: ndots, value: '2'}, {name: edns0}]}",
    "priority: {create: true, value: -5}",
]


@pytest.mark.parametrize("values", ACCEPTED)
def test_what_can_work_is_rendered_and_valid(helm, tmp_path, values):
    (tmp_path / "values.yaml").write_text(values)
    for manifest in render(helm, [tmp_path / "values.yaml"]):
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, "1.37", strict=True)


MINE = """
extraVolumes: [{name: certificates, secret: {secretName: fer-tls}}]
extraVolumeMounts: [{name: certificates, mountPath: /certificates, readOnly: true}]
sidecars:
  - {name: agent, image: 'agent:1.0', env: [{name: A, value: '1'}], ports: [{containerPort: 9000}]}
  - {name: root, image: 'root:1.0', securityContext: {readOnlyRootFilesystem: false}}
dnsConfig: {options: [{name: ndots, value: '2'}]}
"""


@pytest.mark.parametrize("pool", [False, True])
def test_volumes_sidecars_and_dns_of_one_s_own_are_in_the_pod(helm, tmp_path, pool):
    values = yaml.safe_load(MINE)
    (tmp_path / "values.yaml").write_text(yaml.safe_dump({"pools": {"a": values}} if pool else values))
    manifests = render(helm, [tmp_path / "values.yaml"])
    deployment = one(manifests, "Deployment")
    kubernetes_validate.validate(deployment, "1.37", strict=True)
    spec = deployment["spec"]["template"]["spec"]
    assert volumes_of(spec)["certificates"]["secret"] == {"secretName": "fer-tls"}
    assert mounts_of(server_of(deployment))["/certificates"]["readOnly"] is True
    assert spec["dnsConfig"] == {"options": [{"name": "ndots", "value": "2"}]}
    server, agent, root = spec["containers"]
    assert (agent["name"], agent["securityContext"]) == ("agent", server["securityContext"])
    assert root["securityContext"] == server["securityContext"] | {"readOnlyRootFilesystem": False}


def test_every_pod_goes_to_a_node_that_its_image_is_built_for(rendered):
    for values in ("gpu-pools-values.yaml", "loadtest-values.yaml", "gpu-values.yaml"):
        for name, spec in pod_specs(rendered(values, "loadtest.enabled=true")).items():
            assert spec["nodeSelector"]["kubernetes.io/arch"] == "amd64", name
    for name, spec in pod_specs(rendered(None, "nodeSelector.kubernetes\\.io/arch=arm64")).items():
        assert spec["nodeSelector"] == {"kubernetes.io/arch": "arm64"}, name


def test_what_is_kept_without_metrics_is_no_more_than_there_may_be(rendered):
    scaler = one(rendered("keda-values.yaml", "autoscaling.maxReplicas=3"), "ScaledObject")
    assert (scaler["spec"]["fallback"]["replicas"], scaler["spec"]["maxReplicaCount"]) == (3, 3)


def test_a_priority_class_is_the_release_s_own(rendered):
    manifests = rendered("gpu-values.yaml")
    assert one(manifests, "PriorityClass")["metadata"]["name"] == "vision-fer"
    assert one(manifests, "Deployment")["spec"]["template"]["spec"]["priorityClassName"] == "vision-fer"


def test_http_and_grpc_have_hosts_of_their_own(rendered):
    """Of two routes with the same host, a Gateway accepts one."""
    manifests = rendered("gateway-values.yaml")
    http, grpc = (one(manifests, kind)["spec"]["hostnames"] for kind in ("HTTPRoute", "GRPCRoute"))
    assert http
    assert grpc
    assert not set(http) & set(grpc)
    assert not of_kind(rendered("gateway-values.yaml", "gateway.grpcHostnames=null"), "GRPCRoute")


def test_a_download_is_by_the_chart_s_own_script(rendered):
    deployment = one(rendered("models-s3-values.yaml"), "Deployment")
    (download,) = [c for c in containers(deployment["spec"]["template"]["spec"]) if c["name"] == "download"]
    assert download["command"] == ["sh", "/scripts/download.sh"]
    assert {v["name"]: v["value"] for v in download["env"]}["FER_SOURCE"] == "models:models/fer/2026-11"
    assert mounts_of(download)["/scripts"]["readOnly"] is True
    assert (
        "download.sh"
        in one([m for m in rendered("models-s3-values.yaml") if m["metadata"]["name"] == "fer-scripts"], "ConfigMap")[
            "data"
        ]
    )
