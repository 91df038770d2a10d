"""The Grafana dashboard's JSON holds together. That its queries return data: tests/integration/test_prometheus.py."""

import itertools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

FILES = Path(__file__).resolve().parents[3] / "docker" / "helm" / "fer-triton" / "files"
DASHBOARD = json.loads((FILES / "dashboard.json").read_text())
PANELS = DASHBOARD["panels"]
CHARTS = [panel for panel in PANELS if panel["type"] != "row"]
RULES = yaml.safe_load((FILES / "prometheus-rules.yaml").read_text())
RECORDS = {rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule}
VARIABLES = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
PROMTOOL = shutil.which("promtool", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/bin"]))
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GRID_WIDTH = 24

each_chart = pytest.mark.parametrize("panel", CHARTS, ids=lambda panel: panel["title"])


def expressions(panel) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def test_it_can_be_provisioned():
    """Without an id, which is the database's, and with a uid, by which it is found again."""
    assert "id" not in DASHBOARD
    assert DASHBOARD["uid"] == "fer-triton"
    assert DASHBOARD["title"]
    assert DASHBOARD["schemaVersion"] >= 39


def test_it_answers_the_questions_in_this_order():
    rows = " ".join(panel["title"] for panel in PANELS if panel["type"] == "row")
    asked = ["up", "fast", "time", "batches", "refused and why", "wait", "Machine"]
    assert sorted(asked, key=rows.index) == asked
    assert any("fer_model_info" in expr for panel in CHARTS for expr in expressions(panel))


def test_panels_have_ids_and_titles_of_their_own():
    for key, panels in (("id", PANELS), ("title", PANELS)):
        values = [panel[key] for panel in panels]
        assert len(set(values)) == len(values)


def test_panels_lie_in_the_grid_beside_each_other():
    cells = [
        cell
        for panel in PANELS
        for cell in itertools.product(
            range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"]),
            range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"]),
        )
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < GRID_WIDTH
    height = 1 + max(y for _, y in cells)
    assert len(cells) == GRID_WIDTH * height, "there is a gap"


@each_chart
def test_each_panel_says_what_it_shows_and_in_which_unit(panel):
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]


@each_chart
def test_each_panel_reads_from_the_chosen_prometheus(panel):
    assert panel["datasource"] == DATASOURCE
    assert all(target["datasource"] == DATASOURCE for target in panel["targets"])


@each_chart
def test_each_query_is_legible_in_the_legend(panel):
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert all(target["legendFormat"] for target in panel["targets"])


@each_chart
def test_colours_are_given_to_series_that_exist(panel):
    legends = {target["legendFormat"] for target in panel["targets"]}
    assert {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]} <= legends


@each_chart
def test_each_query_obeys_the_choice_of_deployment(panel):
    """Whatever is selected by metric is of this job and the chosen namespaces."""
    for expr in expressions(panel):
        for selector in re.findall(r"(?:^|[\s(])(?:nv_|fer_|job:|job_\w+:|up)[\w:]*\{([^}]*)\}", expr):
            assert selector.startswith('job="fer-triton", namespace=~"$namespace"'), expr


@each_chart
def test_variables_and_records_that_are_used_exist(panel):
    for expr in expressions(panel):
        assert set(re.findall(r"\$(\w+)", expr)) <= VARIABLES | {"__rate_interval"}
        assert set(re.findall(r"\b[a-z_]+:[a-z0-9_:]+", expr)) <= RECORDS


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool: apt-get install --no-install-recommends prometheus")
def test_queries_are_promql(tmp_path):
    queries = [expr.replace("$__rate_interval", "5m") for panel in CHARTS for expr in expressions(panel)]
    queries += [annotation["expr"] for annotation in DASHBOARD["annotations"]["list"]]
    rules = [{"record": f"query_{number}", "expr": expr} for number, expr in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run([str(PROMTOOL), "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
