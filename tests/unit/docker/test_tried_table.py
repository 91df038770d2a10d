"""docker/README.md's table of what ran on which tool: what it names is there, and no test is missing."""

import re
import subprocess
from pathlib import Path

import pytest

from fer_sizing.chart import CHART, unpack_tool

DOCKER = CHART.parents[1]
ROOT = DOCKER.parent
SECTION = (DOCKER / "README.md").read_text().split("## What ran for real, and what never did")[1]
RAN, NEVER = (re.findall(r"^\| (.*) \|$", part, re.MULTILINE)[1:] for part in SECTION.split("**Never run:**"))


def files_in(cell):
    """A file's name alone is in the folder of the one before."""
    folder = Path()
    for name in re.findall(r"[\w./]+\.(?:py|sh|md)\b", re.sub(r"\]\([^)]*\)", "", cell)):
        folder = Path(name).parent if "/" in name else folder
        yield folder / Path(name).name if "/" in name or folder != Path() else Path("docker") / name


@pytest.mark.parametrize("row", RAN, ids=lambda row: row[:40])
def test_each_row_names_what_shows_it(row):
    files = list(files_in(row.split(" | ")[2]))
    assert files
    for file in files:
        assert (ROOT / file).is_file(), file


def test_no_test_of_this_room_is_left_out():
    named = {file for row in RAN + NEVER for cell in row.split(" | ") for file in files_in(cell)}
    folders = ("docker", "docker_images", "observability")
    tests = {path.relative_to(ROOT) for name in folders for path in (ROOT / "tests" / "unit" / name).glob("test_*.py")}
    assert tests - named == {Path("tests/unit/docker/test_tried_table.py")}


@pytest.mark.parametrize("name", ["helm", "kubectl"])
def test_the_versions_are_those_of_the_tools(helm, name):
    tool = unpack_tool(name, helm.parent)
    words = ["version", "--client"] if name == "kubectl" else ["version", "--short"]
    version = re.search(r"v([\d.]+)", subprocess.run([tool, *words], capture_output=True, text=True).stdout)[1]
    assert f"{name} {version}" in SECTION


def test_what_never_ran_is_not_claimed_elsewhere():
    things = " ".join(NEVER)
    for thing in ("Docker engine", "GPU image", "a cluster", "Grafana", "KServe", "OpenTelemetry collector", "S3"):
        assert thing in things
    readme = (ROOT / "README.md").read_text()
    assert "no Docker engine, no cluster and no GPU has run this yet" in readme
