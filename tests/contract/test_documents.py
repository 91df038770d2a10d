"""The documents: their links lead somewhere, and their figures are the released network's."""

import json
import re
import shlex
from pathlib import Path

import pytest

from fer_build.precision_table import format_precisions
from fer_client.cli import build_parser
from fer_commands.exit_codes import MEANINGS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_the_readme_s_figures_are_the_released_network_s():
    readme = (ROOT / "README.md").read_text()
    metrics = json.loads((ROOT / "training" / "release" / "metrics.json").read_text())
    figures = metrics["evaluation"]
    low, high = figures["accuracy_95"]
    assert f"{100 * figures['accuracy']:.2f} % ({100 * low:.2f} to {100 * high:.2f})" in readme
    assert f"| {figures['macro_f1']:.4f} | {figures['ece']:.3f} |" in readme
    assert f"{metrics['speed']['images_per_s']:.0f} images/s" in readme
    for label, of_class in figures["classes"].items():
        assert f"{label} {of_class['recall']:.0%}".replace("%", " %") in readme


def test_the_build_s_document_has_the_table_of_the_released_precisions():
    assert format_precisions() in (ROOT / "build" / "README.md").read_text()


def test_the_readme_is_complete_and_short():
    readme = (ROOT / "README.md").read_text()
    assert not re.search(r"@[A-Z0-9]+@", readme)
    assert len([word for word in readme.split() if re.search(r"\w", word)]) <= 1600


def test_the_readme_has_the_table_of_exit_codes():
    rows = "\n".join(f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items())
    assert f"| exit code | |\n|---|---|\n{rows}\n" in (ROOT / "README.md").read_text()


def test_every_command_of_the_readme_is_there():
    """What they do is tested by the room that has them; here, that they are not mistyped."""
    readme = (ROOT / "README.md").read_text()
    blocks = "".join(re.findall(r"^```console\n(.*?)^```", readme, re.DOTALL | re.MULTILINE))
    found = re.findall(r"^\$ ((?:.*\\\n)*.*)$", blocks, re.MULTILINE)
    lines = [re.sub(r"\s+#.*$", "", line) for line in found]
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    elsewhere = ("pip install ", "docker ", "helm ", "curl ")  # test_wheel.py, test_documented_commands.py, test_web.py
    for line in lines:
        script, *words = shlex.split(line)
        if script == "make":
            assert set(words) <= targets, line
        elif Path(script).name == "fer-client":
            assert build_parser().parse_args(words).run, line
        else:
            assert line.startswith(elsewhere), line


def test_modules_are_not_run_where_there_is_a_command():
    for document in set(DOCUMENTS) - {"CHANGELOG.md", "DECISIONS.md", "training/RESULTS.md"}:
        assert not re.search(r"-m fer_(build|client|loadtest|serve|training)", (ROOT / document).read_text()), document


def test_responsible_use_comes_before_anything_else_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert readme.index("Art. 5(1)(f)") < readme.index("## ")
    assert "apparent facial expression as an annotator would label it" in readme
