"""What every pod of the chart keeps to: Pod Security Standard "restricted" and this project's own rules."""

import re

import pytest
from rendered_pods import containers, mounts_of, of_kind, one, pod_specs, server_of, volumes_of

USER = 10001


def test_nobody_is_root_and_nothing_gains_rights(manifests):
    assert pod_specs(manifests)
    for name, spec in pod_specs(manifests).items():
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"] == USER, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        for container in containers(spec):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, f"{name} {container['name']}"


def test_no_volume_reaches_into_the_node(manifests):
    allowed = {"emptyDir", "configMap", "persistentVolumeClaim", "image"}
    for name, spec in pod_specs(manifests).items():
        for volume in spec.get("volumes", []):
            assert volume.keys() - {"name"} <= allowed, name
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], f"{name} {volume['name']} may fill the node"


def test_no_pod_holds_a_token_of_the_cluster(manifests):
    for name, spec in pod_specs(manifests).items():
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
    for account in of_kind(manifests, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    assert not of_kind(manifests, "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "Secret")


def test_images_are_named_with_a_version(manifests):
    for name, spec in pod_specs(manifests).items():
        references = [container["image"] for container in containers(spec)]
        references += [volume["image"]["reference"] for volume in spec["volumes"] if "image" in volume]
        for image in references:
            assert re.search(r":[0-9][\w.-]*(@sha256:[0-9a-f]{64})?$", image), f"{name}: {image}"


def test_a_digest_decides_which_image_it_is(rendered):
    digest = "sha256:" + "5" * 64
    for image in ("server", "client", "loadtest", "rclone"):
        manifests = rendered(
            "models-s3-values.yaml", f"images.{image}.digest={digest}", "loadtest.enabled=true", "test.enabled=true"
        )
        pinned = [
            c["image"] for spec in pod_specs(manifests).values() for c in containers(spec) if digest in c["image"]
        ]
        assert pinned, image
        assert all(reference.endswith(f"@{digest}") for reference in pinned)


def test_requests_are_limits(manifests):
    for name, spec in pod_specs(manifests).items():
        for container in containers(spec):
            resources = container["resources"]
            assert resources["requests"] == resources["limits"], name
            assert {"cpu", "memory"} <= resources["limits"].keys(), name


def test_a_server_has_shared_memory_and_reads_its_models_only(manifests):
    for deployment in of_kind(manifests, "Deployment"):
        volumes, mounts = volumes_of(deployment["spec"]["template"]["spec"]), mounts_of(server_of(deployment))
        assert volumes[mounts["/dev/shm"]["name"]]["emptyDir"]["medium"] == "Memory"
        assert mounts["/models"]["readOnly"] is True
        writable = {path for path, mount in mounts.items() if not mount.get("readOnly")}
        assert writable == {"/dev/shm", "/tmp"}


def test_only_a_gpu_server_asks_for_gpus(manifests):
    for deployment in of_kind(manifests, "Deployment"):
        image, limits = server_of(deployment)["image"], server_of(deployment)["resources"]["limits"]
        gpus = [count for resource, count in limits.items() if resource.startswith("nvidia.com/")]
        is_gpu = "-gpu" in image
        assert gpus == (["1"] if is_gpu else []), image


def test_preparing_sees_the_same_gpu_and_cores_as_the_server(manifests):
    for deployment in of_kind(manifests, "Deployment"):
        server, spec = server_of(deployment), deployment["spec"]["template"]["spec"]
        (prepare,) = [c for c in spec["initContainers"] if c["name"] == "prepare"]
        assert prepare["resources"] == server["resources"]
        assert prepare["image"] == server["image"]
        environment = {variable["name"]: variable["value"] for variable in prepare["env"]}
        assert environment["FER_CORES"] == server["resources"]["limits"]["cpu"]
        assert environment["FER_PROFILE"] in ("cpu", "gpu")


def test_every_server_is_probed_by_inference(manifests):
    """And in time: a busy server may take 10 s to say so, and a new one 120 s to start."""
    for deployment in of_kind(manifests, "Deployment"):
        server = server_of(deployment)
        startup, readiness, liveness = (server[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness"))
        for probe in (startup, readiness, liveness):
            assert "/scripts/probe.py" in probe["exec"]["command"]
            assert probe["timeoutSeconds"] >= 15
        assert startup["failureThreshold"] * startup["periodSeconds"] >= 120
        out_of_service = readiness["failureThreshold"] * readiness["periodSeconds"]
        restarted = liveness["failureThreshold"] * liveness["periodSeconds"]
        assert out_of_service < restarted
        assert restarted >= 30  # fer-serve has had the time to cure it
        assert "/scripts" in mounts_of(server)


def test_the_grace_period_covers_the_pause_and_the_drain(manifests):
    for deployment in of_kind(manifests, "Deployment"):
        server, spec = server_of(deployment), deployment["spec"]["template"]["spec"]
        pause = server["lifecycle"]["preStop"]["sleep"]["seconds"]
        (drain,) = [int(a.split("=")[1]) for a in server["args"] if re.match(r"--exit-timeout(-secs)?=", a)]
        assert drain >= 12  # 10 s in the queue, and the work
        assert spec["terminationGracePeriodSeconds"] >= pause + drain + 6  # fer-serve waits 5 s more than its server
        assert server["livenessProbe"]["terminationGracePeriodSeconds"] > pause


def test_a_rollout_never_has_fewer_servers_than_before(rendered):
    strategy = one(rendered("cpu-values.yaml"), "Deployment")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def test_services_and_policies_select_the_servers(manifests):
    pods = [d["spec"]["template"]["metadata"]["labels"].items() for d in of_kind(manifests, "Deployment")]
    selectors = [service["spec"]["selector"] for service in of_kind(manifests, "Service")]
    selectors += [policy["spec"]["podSelector"]["matchLabels"] for policy in of_kind(manifests, "NetworkPolicy")]
    selectors += [monitor["spec"]["selector"]["matchLabels"] for monitor in of_kind(manifests, "PodMonitor")]
    assert selectors
    for selector in selectors:
        assert all(selector.items() <= labels for labels in pods)
    others = [
        manifest["metadata"]["labels"].items() for manifest in of_kind(manifests, "Pod", "Job")
    ]  # a test's pod must not be sent requests
    assert not any(selector.items() <= labels for selector in selectors for labels in others)


def test_each_deployment_has_a_budget_of_its_own(rendered):
    manifests = rendered("gpu-pools-values.yaml")
    budgets = [b["spec"]["selector"]["matchLabels"] for b in of_kind(manifests, "PodDisruptionBudget")]
    deployments = [d["spec"]["selector"]["matchLabels"] for d in of_kind(manifests, "Deployment")]
    assert sorted(budgets, key=str) == sorted(deployments, key=str)


def test_a_server_calls_nobody_unless_it_fetches_models(rendered):
    assert one(rendered("cpu-values.yaml"), "NetworkPolicy")["spec"]["egress"] == []
    egress = one(rendered("models-s3-values.yaml"), "NetworkPolicy")["spec"]["egress"]
    assert {port["port"] for port in egress[0]["ports"]} == {53, 9000}


def test_strangers_reach_neither_requests_nor_metrics(rendered):
    policy = one(rendered("cpu-values.yaml"), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    requests, metrics = policy["ingress"]
    assert requests["from"] == [{"podSelector": {}}]  # of the same namespace
    assert [port["port"] for port in metrics["ports"]] == ["metrics"]
    assert metrics["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


def test_the_release_s_own_tests_are_let_in_whoever_else_is(rendered):
    """Otherwise `helm test` fails as soon as somebody says who may call."""
    manifests = rendered("loadtest-values.yaml")
    requests, _ = one(manifests, "NetworkPolicy")["spec"]["ingress"]
    stranger, own = requests["from"]
    assert stranger == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "albums"}}}
    (expression,) = own["podSelector"]["matchExpressions"]
    assert expression["operator"] == "In"
    callers = [one(manifests, "Pod")["metadata"], one(manifests, "Job")["spec"]["template"]["metadata"]]
    for labels in (caller["labels"] for caller in callers):
        assert own["podSelector"]["matchLabels"].items() <= labels.items()
        assert labels[expression["key"]] in expression["values"]


@pytest.mark.parametrize(
    ("values", "source"),
    [
        ("models-oci-values.yaml", "image"),
        ("models-pvc-values.yaml", "persistentVolumeClaim"),
        ("models-s3-values.yaml", "emptyDir"),
    ],
)
def test_models_from_elsewhere_are_mounted_read_only(rendered, values, source):
    spec = one(rendered(values), "Deployment")["spec"]["template"]["spec"]
    assert source in volumes_of(spec)["source"]
    (prepare,) = [c for c in spec["initContainers"] if c["name"] == "prepare"]
    assert mounts_of(prepare)["/source"]["readOnly"] is True
    assert "/source" not in mounts_of(spec["containers"][0])  # the server has a verified copy
    assert any(variable["name"] == "FER_SOURCE" for variable in prepare["env"])


def test_plans_are_kept_where_every_pod_finds_them(rendered):
    manifests = rendered("gpu-values.yaml")
    claim = one(manifests, "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    spec = one(manifests, "Deployment")["spec"]["template"]["spec"]
    assert volumes_of(spec)["plans"]["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}
    assert "/plans" not in mounts_of(spec["containers"][0])
