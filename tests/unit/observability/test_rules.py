"""The Prometheus rules: promtool's unit tests pass and leave no rule out, and every alert says what to do."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

import fer_contract as contract

DOCKER = Path(__file__).resolve().parents[3] / "docker"
RULES = DOCKER / "helm" / "fer-triton" / "files" / "prometheus-rules.yaml"
RUNBOOK = DOCKER / "observability" / "OBSERVABILITY.md"
TEST_FILES = sorted((DOCKER / "observability" / "tests").glob("*.yaml"))
GROUPS = yaml.safe_load(RULES.read_text())["groups"]
ALL_RULES = [rule for group in GROUPS for rule in group["rules"]]
RECORDS = [rule["record"] for rule in ALL_RULES if "record" in rule]
ALERTS = {rule["alert"]: rule for rule in ALL_RULES if "alert" in rule}
TESTED = [
    case
    for path in TEST_FILES
    for test in yaml.safe_load(path.read_text())["tests"]
    for case in test["promql_expr_test"]
]
PROMTOOL = shutil.which("promtool", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/bin"]))

needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="no promtool: apt-get install --no-install-recommends prometheus"
)


def promtool(*words: object) -> None:
    done = subprocess.run([str(PROMTOOL), *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_accepts_the_rules():
    promtool("check", "rules", "--lint-fatal", RULES)


@needs_promtool
@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_promtool_s_unit_tests_pass(path):
    promtool("test", "rules", path)


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_groups_are_evaluated_in_the_order_of_the_file(path):
    """promtool takes them in any order otherwise, and an alert may see records of the evaluation before."""
    assert yaml.safe_load(path.read_text())["group_eval_order"] == [group["name"] for group in GROUPS]


@pytest.mark.parametrize("record", RECORDS)
def test_each_recording_rule_has_a_test_that_expects_a_value(record):
    assert any(record in case["expr"] and case["exp_samples"] for case in TESTED)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not(alert):
    fires = [case for case in TESTED for sample in case["exp_samples"] if f'alertname="{alert}"' in sample["labels"]]
    silent = [case for case in TESTED if not case["exp_samples"] and asks_for(case["expr"], alert)]
    assert fires
    assert silent


def asks_for(expr: str, alert: str) -> bool:
    asked = re.search(r'ALERTS\{alertname=(~?)"([^"]+)"', expr)
    return asked is not None and bool(re.fullmatch(asked[2], alert))


def test_no_rule_is_named_twice():
    names = [*RECORDS, *ALERTS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("record", RECORDS)
def test_records_are_named_by_level_metric_and_operation(record):
    assert re.fullmatch(
        r"(fer|(job|instance)(_model|_stage|_reason)*):?fer_[a-z_]+(:[a-z0-9_]+)?|fer:[a-z_]+(:ratio)?", record
    )


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_says_what_happened_and_what_to_do(alert):
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docker/observability/OBSERVABILITY.md#{alert.lower()}"
    assert "for" in rule or rule["labels"]["severity"] == "info"


def test_the_runbook_has_a_section_for_each_alert_and_for_no_other():
    assert re.findall(r"^### (Fer\w+)$", RUNBOOK.read_text(), re.MULTILINE) == list(ALERTS)


def test_the_runbook_s_table_lists_the_alerts_with_their_severities():
    listed = re.findall(r"^\| \[(Fer\w+)\]\(#(\w+)\) \| (\w+) \|", RUNBOOK.read_text(), re.MULTILINE)
    assert listed == [(name, name.lower(), rule["labels"]["severity"]) for name, rule in ALERTS.items()]


def test_a_queue_counts_as_nearly_full_at_three_quarters_of_its_limit():
    models = Path(contract.__file__).parent
    full, classifier = re.findall(r"> (\d+)", ALERTS["FerQueueFilling"]["expr"])
    for model, threshold in (
        (contract.PREPROCESS_MODEL, full),
        (contract.PREPROCESS_CROPPED_MODEL, full),
        (contract.CLASSIFIER_MODEL, classifier),
    ):
        config = text_format.Parse((models / model / "config.pbtxt").read_text(), ModelConfig())
        assert int(threshold) == 0.75 * config.dynamic_batching.default_queue_policy.max_queue_size, model


def test_the_objective_s_figures_are_written_once_in_the_rules_and_told_in_the_runbook():
    expressions = {rule["record"]: rule["expr"] for rule in ALL_RULES if "record" in rule}
    seconds = re.fullmatch(r"vector\((.*)\)", expressions["fer:latency_objective_seconds"])[1]
    budget = re.fullmatch(r"vector\((.*)\)", expressions["fer:latency_objective_error_budget:ratio"])[1]
    assert f"{100 * (1 - float(budget)):g} % of the answered requests" in RUNBOOK.read_text()
    assert f"{seconds} s on average" in RUNBOOK.read_text()


def test_compose_scrapes_the_job_that_the_rules_look_for():
    config = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())
    assert "fer-triton" in [job["job_name"] for job in config["scrape_configs"]]
