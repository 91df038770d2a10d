"""What the chart scales by exists, means the same for both autoscalers, and is computed right by a real Prometheus."""

import re
import shutil
import subprocess

import pytest
import yaml
from rendered_pods import of_kind, one, server_of

from fer_build.assemble import assemble
from fer_contract import CLASSIFIER_MODEL, PREPROCESS_MODEL
from fer_sizing.chart import read_quantity, read_queue_limits

METRICS = {
    "fer_preprocess_busy_instances",
    "fer_preprocess_queue_milliseconds",
    "fer_preprocess_pending_requests",
    "fer_classifier_queue_milliseconds",
    "fer_classifier_pending_requests",
}

PODS = ("fer-7d9c5b8f6d-abcde", "fer-7d9c5b8f6d-fghij")

# In each of the two pods, 20 images a second take 80 ms each, wait 30 ms and leave 3 waiting; a third pod is not ours.
SERIES = [
    {"series": series % {"labels": f'namespace="vision",pod="{pod}",model="{model}",version="1"'}, "values": values}
    for pod in (*PODS, "other-7d9c5b8f6d-abcde")
    for model in (PREPROCESS_MODEL, CLASSIFIER_MODEL, "fer")
    for series, values in [
        ("nv_inference_compute_input_duration_us{%(labels)s}", "0+150000x20"),  # in 15 s
        ("nv_inference_compute_infer_duration_us{%(labels)s}", "0+23700000x20"),
        ("nv_inference_compute_output_duration_us{%(labels)s}", "0+150000x20"),
        ("nv_inference_queue_duration_us{%(labels)s}", "0+9000000x20"),
        ("nv_inference_request_success{%(labels)s}", "0+300x20"),
        ("nv_inference_pending_request_count{%(labels)s}", "3x20"),
    ]
]
EXPECTED = {"busy_instances": 1.6, "queue_milliseconds": 30, "pending_requests": 3}
"""Of one pod."""


@pytest.fixture(scope="module")
def adapter_rules(repository_root):
    values = yaml.safe_load((repository_root / "docker/kubernetes/prometheus-adapter-values.yaml").read_text())
    return {rule["name"]["as"]: rule for rule in values["rules"]["custom"]}


def hpa_targets(manifests):
    metrics = [metric["pods"] for metric in one(manifests, "HorizontalPodAutoscaler")["spec"]["metrics"]]
    return {metric["metric"]["name"]: read_quantity(metric["target"]["averageValue"]) for metric in metrics}


def evaluate(tmp_path, queries):
    """Asks promtool what each query comes to after five minutes; fails unless it is what was expected."""
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    tests = [
        {
            "expr": query,
            "eval_time": "5m",
            "exp_samples": [{"labels": labels, "value": value} for labels, value in found],
        }
        for query, found in queries
    ]
    test = {
        "evaluation_interval": "15s",
        "tests": [{"interval": "15s", "input_series": SERIES, "promql_expr_test": tests}],
    }
    (tmp_path / "scaling.test.yaml").write_text(yaml.safe_dump(test))
    done = subprocess.run(
        [promtool, "test", "rules", "scaling.test.yaml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def expected(metric):
    return next(value for name, value in EXPECTED.items() if metric.endswith(name))


def test_the_hpa_asks_for_what_the_adapter_makes(rendered, adapter_rules):
    assert set(hpa_targets(rendered("hpa-values.yaml"))) == set(adapter_rules) == METRICS


def test_keda_and_the_hpa_aim_at_the_same(rendered):
    keda = one(rendered("hpa-values.yaml", "autoscaling.kind=keda"), "ScaledObject")
    thresholds = {trigger["name"]: float(trigger["metadata"]["threshold"]) for trigger in keda["spec"]["triggers"]}
    assert thresholds == pytest.approx(hpa_targets(rendered("hpa-values.yaml")))
    behavior = keda["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior == one(rendered("hpa-values.yaml"), "HorizontalPodAutoscaler")["spec"]["behavior"]


def test_the_adapter_computes_what_it_says(tmp_path, adapter_rules):
    """As prometheus-adapter fills in its templates for one pod."""
    queries = []
    for name, rule in adapter_rules.items():
        for pod in PODS:
            query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod")
            query = query.replace("<<.LabelMatchers>>", f'namespace="vision",pod=~"{pod}"')
            assert "<<" not in query
            queries.append((query, [(f'{{pod="{pod}"}}', expected(name))]))
    evaluate(tmp_path, queries)


def test_the_adapter_finds_its_series_by_namespace_and_pod(adapter_rules):
    for rule in adapter_rules.values():
        series = re.match(r"\w+", rule["seriesQuery"])[0]
        assert series in {entry["series"].split("{")[0] for entry in SERIES}
        assert rule["resources"]["overrides"] == {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}


def test_keda_s_queries_sum_the_pods_of_their_own_pool(tmp_path, rendered):
    """AverageValue is divided by the number of pods; pods of others must not count."""
    keda = one(rendered("keda-values.yaml"), "ScaledObject")
    triggers = keda["spec"]["triggers"]
    assert {trigger["metricType"] for trigger in triggers} == {"AverageValue"}
    assert {trigger["name"] for trigger in triggers} == METRICS
    evaluate(
        tmp_path,
        [(trigger["metadata"]["query"], [("{}", len(PODS) * expected(trigger["name"]))]) for trigger in triggers],
    )


def test_without_data_keda_keeps_what_there_is(rendered):
    spec = one(rendered("keda-values.yaml"), "ScaledObject")["spec"]
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert {trigger["metadata"]["ignoreNullValues"] for trigger in spec["triggers"]} == {"false"}
    assert {t["authenticationRef"]["name"] for t in spec["triggers"]} == {"thanos"}


def test_the_running_server_counts_all_of_it(server, adapter_rules):
    import urllib.request

    with urllib.request.urlopen(server.metrics_url) as answer:
        metrics = answer.read().decode()
    used = {entry["series"].split("{")[0] for entry in SERIES}
    for name in used:
        for model in (PREPROCESS_MODEL, CLASSIFIER_MODEL):
            assert re.search(rf'^{name}{{.*model="{model}".*}}', metrics, re.MULTILINE), name


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
@pytest.mark.parametrize("cores", [1, 2, 16])
def test_the_busy_target_is_a_fraction_of_the_instances_that_are_made(tmp_path, rendered, cores, profile):
    manifest, _ = assemble(tmp_path / "repository", profile=profile, cores=cores)
    manifests = rendered("hpa-values.yaml", f"resources.cpu={cores}", f"variant={profile}")
    target = hpa_targets(manifests)["fer_preprocess_busy_instances"]
    assert target == pytest.approx(0.7 * manifest["instances"][PREPROCESS_MODEL])
    assert server_of(one(manifests, "Deployment"))["resources"]["limits"]["cpu"] == str(cores)


def test_a_full_queue_never_asks_for_more_than_four_times_the_servers(rendered):
    targets = hpa_targets(rendered("hpa-values.yaml"))
    assert read_queue_limits().requests / targets["fer_preprocess_pending_requests"] <= 4


def test_queues_alone_are_a_choice(rendered):
    assert set(hpa_targets(rendered("hpa-queue-only-values.yaml"))) == METRICS - {"fer_preprocess_busy_instances"}


def test_there_is_one_autoscaler_or_none(rendered):
    kinds = ("HorizontalPodAutoscaler", "ScaledObject")
    assert len(of_kind(rendered("hpa-values.yaml"), *kinds)) == 1
    assert len(of_kind(rendered("keda-values.yaml"), *kinds)) == 1
    assert not of_kind(rendered("cpu-values.yaml"), *kinds)
