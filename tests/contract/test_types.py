"""`make types` leaves out no module that Triton runs."""

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "triton_models"


def test_mypy_checks_every_module_beside_the_models():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert {path.stem for path in MODELS.glob("*.py")} <= set(settings["modules"])


def test_mypy_checks_every_model_by_itself():
    [recipe] = re.findall(r"^types:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    [pattern] = re.findall(r"for model in (\S+); do", recipe)
    assert set(ROOT.glob(pattern)) == set(MODELS.rglob("model.py"))
    assert len(set(ROOT.glob(pattern))) > 1
